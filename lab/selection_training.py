"""Trains encoders of images that differ in how pairs are selected: the runs of the studies of selection.

A setting has fields of `TrainConfig` and four others. ``set`` names the images, ``evidence`` the knowledge about
classes, ``loss`` a baseline instead of the objective. ``guide`` is "patches", "image" or "plain", a plain run of the
same seed.
"""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lab.image_guide import image_features
from lab.measures import accuracies, labels_of
from lab.oracle import OraclePolicy
from lab.study import Measures, Scale, data_folder
from pairsift.data import ImageSet, load_images
from pairsift.losses import baselines
from pairsift.same_class import patch_features
from pairsift.train import PairPolicy, TrainConfig, TrainResult, embed, pretrain
from pairsift.train.policy import AffinityPolicy

# Folder of a set and pixels of a side; None keeps those of the file.
SETS: dict[str, tuple[str, int | None]] = {
    "cifar10": ("cifar10", None), "imagenette": ("imagenette96", 32), "tiny-imagenet": ("tiny_imagenet_80", 32),
}  # fmt: skip
SOFT: dict[str, Any] = {"select": "affinity", "same_class_weight": 1.0}
COMBINED: dict[str, Any] = {"treatment": "combined", **SOFT}
# The share of random pairs equals that of the selection by affinity.
RANDOM: dict[str, Any] = {"treatment": "combined", "select": "random", "band_start": 0.15, "band_stop": 0.3}
_OWN = ("set", "evidence", "loss", "guide")
# Curves over training that are kept.
_CURVES = ("epoch", "loss", "flagged", "different", "different_base", "estimated")


@lru_cache(maxsize=4)
def images_of(name: str, per_class: int | None = 1000, part: str = "train") -> ImageSet:
    """Images of a set, a number of each class or all."""
    if name == "digits":
        return load_images(f"digits:{part}", per_class=per_class if part == "train" else None)
    folder, pixels = SETS[name]
    most = per_class if part == "train" else None
    return load_images(str(data_folder() / folder / f"{part}.parquet"), per_class=most, image_size=pixels)


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """Train and measure one encoder: accuracies in percent, seconds, and curves over epochs.

    Args:
        setting: see the module; ``per_class`` and ``epochs`` are fields of `TrainConfig`.
        seed: of all that is random.
        scale: "smoke" trains two epochs on a few digits.
    """
    given = dict(setting)
    own = {name: given.pop(name, None) for name in _OWN}
    if scale == "smoke":
        own["set"] = "digits"
        given |= {"per_class": 30, "epochs": 2, "batch_size": 100, "precision": "fp32"}
        given |= {"affinity_start": 1} if given.get("select") == "affinity" else {}
    result, images = trained(own, given, seed)
    test = images_of(own["set"], part="test")
    found: dict[str, Any] = {name: round(value, 2) for name, value in accuracies(result.encoder, images, test).items()}
    for name in _CURVES:
        values = [row[name] for row in result.metrics]
        found[name] = [None if value in ("", None) else float(f"{value:.6g}") for value in values]
    return found


def trained(own: dict[str, Any], given: dict[str, Any], seed: int) -> tuple[TrainResult, ImageSet]:
    """Train an encoder, and return the result and its images."""
    images = images_of(own["set"], given["per_class"])
    with tempfile.TemporaryDirectory() as folder:
        values = {
            "treatment": "none",
            "seed": seed,
            "progress": False,
            "threads": 1,
            "run_dir": Path(folder, "run"),
            **given,
        }
        if own["guide"] == "patches":
            values["guide"] = "patches"
        elif own["guide"] is not None:
            values["guide"] = Path(folder, "guide.npy")
            np.save(values["guide"], _guide(own, given, seed, images))
        config = TrainConfig.build(values)
        objective = None if own["loss"] is None else getattr(baselines, own["loss"])(config.temperature)
        policy = None if own["evidence"] is None else _policy(own["evidence"], images, config)
        return pretrain(config, images=images, policy=policy, objective=objective), images


def plain_features(name: str, temperature: float, seed: int) -> NDArray[np.float32]:
    """Features (N, D) of a set's images by an encoder trained plainly on them."""
    given = {"temperature": temperature, "per_class": 1000, "epochs": 30, "precision": "bf16"}
    result, images = trained({"set": name, "guide": None, "loss": None, "evidence": None}, given, seed)
    return embed(result.encoder, images)


def _guide(own: dict[str, Any], given: dict[str, Any], seed: int, images: ImageSet) -> NDArray[np.float32]:
    if own["guide"] == "image":
        return image_features(images.images)
    alike = {"per_class", "epochs", "precision", "temperature", "batch_size"}
    plain = {name: value for name, value in given.items() if name in alike}
    result, _ = trained({"set": own["set"], "guide": None, "loss": None, "evidence": None}, plain, seed)
    return embed(result.encoder, images)


def _policy(kind: str | dict[str, float], images: ImageSet, config: TrainConfig) -> PairPolicy:
    """A policy by labels, by labels with errors that depend on the seed, or by shuffled patch features."""
    labels = labels_of(images)
    if kind == "labels":
        return OraclePolicy(labels, config.flagged_share)
    if kind == "shuffled patches":
        features = patch_features(images.images, seed=config.seed)
        order = np.random.default_rng(config.seed).permutation(len(labels))
        return AffinityPolicy(config, features[order], print)
    assert not isinstance(kind, str)
    return OraclePolicy(labels, config.flagged_share, config.seed, **kind)
