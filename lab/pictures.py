"""Trains and measures encoders of images by `pretrain`: the runs of the studies on CIFAR-10."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lab.measures import labels_of
from lab.oracle import OraclePolicy
from lab.quantities import label_free, looked_at
from lab.study import Arm, Measures, Scale, StudyError
from lab.subset_choice import CHOOSERS
from lab.vectors import check_data
from pairsift.data import ImageSet, load_images, mix_set, subset, to_float
from pairsift.evaluate import knn, linear_probe
from pairsift.theory import bounds, measure_levels
from pairsift.train import ImageEncoder, TrainConfig, embed, pretrain

MEASURES = {"linear": "linear probe %", "knn20": "20-NN %", "held_out": "20-NN of held-out images %"}
# Training and held-out images of a class, and pixels of a side. At cpu scale a quarter of the pixels and half of the
# images keep the oracle's gain in an eighth of the time. fp32 gives equal results on processors without bf16.
_SIZES = {"smoke": (16, 5, 8), "cpu": (500, 200, 16), "gpu": (4500, 500, 32)}
_COMMON: dict[str, dict[str, Any]] = {
    "smoke": {"epochs": 2, "batch_size": 32, "threads": 1, "device": "cpu"},
    "cpu": {"epochs": 30, "threads": 1, "device": "cpu"},
    "gpu": {"epochs": 400, "precision": "bf16", "encoder": "resnet18", "batch_size": 512, "device": "cuda"},
}
# Settings that are not fields of `TrainConfig`; see `run`.
OWN = ("oracle", "mixed", "without", "imbalance", "keep", "share")
# Seconds of a run at cpu scale on one core.
SECONDS = 240.0


def check_images(arms: Iterable[Arm], scale: Scale) -> None:
    """Refuse runs without CIFAR-10, and runs at gpu scale without a GPU.

    Raises:
        StudyError: data or a GPU is missing.
    """
    if scale == "gpu" and not torch.cuda.is_available():
        raise StudyError("scale gpu needs a CUDA device, and there is none here: take --scale cpu")
    if scale != "smoke":
        check_data([Arm(arm.name, {"set": "cifar10"}) for arm in arms], scale)


@lru_cache(maxsize=1)
def image_sets(scale: Scale) -> tuple[ImageSet, ImageSet, ImageSet]:
    """Training, held-out and test images: digits at smoke scale, CIFAR-10 otherwise."""
    first, held, pixels = _SIZES[scale]
    if scale == "smoke":
        images = load_images("digits:train", per_class=first + held, image_size=pixels)
        test = load_images("digits:test", per_class=5, image_size=pixels)
    else:
        root = Path(os.environ["PAIRSIFT_DATA"], "cifar10")
        images = load_images(str(root / "train.parquet"), per_class=first + held, image_size=pixels)
        test = load_images(str(root / "test.parquet"), image_size=pixels)
    order = np.argsort(labels_of(images), kind="stable").reshape(-1, first + held)
    seen, kept = (subset(images, np.sort(rows.ravel())) for rows in (order[:, :first], order[:, first:]))
    return seen, kept, test


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """Train and measure one encoder.

    Args:
        setting: fields of `TrainConfig`, and `oracle` (labels select the pairs), `mixed` and `without` (share of mixed
            images, and whether they are left out again), `imbalance` (images of the most frequent class over those of
            the rarest class), `keep` with `share` (how a subset is chosen, and its size).
        seed: seed of all random draws.
        scale: scale of the data and the training.
    """
    given = dict(setting)
    own = {name: given.pop(name, None) for name in OWN}
    train, held, test = image_sets(scale)
    images = _changed(train, own, seed, given, scale)
    encoder = _encoder(images, given, bool(own["oracle"]), seed, scale)
    x, held_x, test_x = (embed(encoder, each) for each in (train, held, test))
    y, held_y, test_y = (labels_of(each) for each in (train, held, test))
    levels = measure_levels(x, y)
    measures: dict[str, float | None] = {
        "linear": 100 * linear_probe(x, y, test_x, test_y).accuracy, "knn20": 100 * knn(x, y, test_x, test_y, k=20),
        "held_out": 100 * knn(x, y, held_x, held_y, k=20), "images": float(len(images)),
        "alpha": 100 * levels.alpha.mean, "beta": 100 * levels.beta.mean, "gamma": 100 * levels.gamma.mean,
        "eigenvalue": None, "exact": None, **_label_free(encoder, train),
    }  # fmt: skip
    if levels.beta.mean <= levels.gamma.mean < levels.alpha.mean:
        graph = levels.graph()
        measures["eigenvalue"] = 1e5 * bounds.with_difficult(graph, 0.05).eigenvalue
        measures["exact"] = 1e5 * graph.eigenvalue(graph.n_classes + 1)
    return measures


def _label_free(encoder: ImageEncoder, images: ImageSet) -> dict[str, float | None]:
    examples = to_float(torch.from_numpy(images.images[looked_at(len(images))]))
    return label_free(encoder.eval(), TrainConfig().view_policy(), examples, len(np.unique(labels_of(images))))


def _encoder(images: ImageSet, given: dict[str, Any], oracle: bool, seed: int, scale: Scale) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        values = {
            "treatment": "none",
            **_COMMON[scale],
            "seed": seed,
            "progress": False,
            "run_dir": Path(folder, "run"),
            **given,
        }
        config = TrainConfig.build(values)
        policy = OraclePolicy(labels_of(images), config.flagged_share) if oracle else None
        return pretrain(config, images=images, policy=policy).encoder


def _changed(train: ImageSet, own: dict[str, Any], seed: int, given: dict[str, Any], scale: Scale) -> ImageSet:
    """The training images of a setting, with some mixed, left out or chosen."""
    images = train
    if own["mixed"]:
        images = mix_set(images, own["mixed"], seed)
        assert images.mixed is not None
        if own["without"]:
            images = subset(images, np.flatnonzero(~images.mixed))
    if own["imbalance"]:
        images = subset(images, _long_tail(labels_of(images), own["imbalance"]))
    if own["keep"]:
        images = subset(images, _kept(images, own, seed, given, scale))
    return replace(images, mixed=None)


def _long_tail(labels: NDArray[np.int64], imbalance: float) -> NDArray[np.int64]:
    """Rows of a set whose class sizes fall exponentially, by the factor `imbalance` in all."""
    classes = int(labels.max()) + 1
    rows = []
    for label in range(classes):
        own = np.flatnonzero(labels == label)
        rows.append(own[: max(2, round(len(own) * imbalance ** (-label / (classes - 1))))])
    return np.sort(np.concatenate(rows)).astype(np.int64)


def _kept(images: ImageSet, own: dict[str, Any], seed: int, given: dict[str, Any], scale: Scale) -> NDArray[np.int64]:
    """Rows of a subset, chosen at random or by features of a plain run of the same seed."""
    count = round(own["share"] * len(images))
    if own["keep"] == "random":
        rows = np.random.default_rng([seed, 1]).permutation(len(images))[:count]
        return np.sort(rows).astype(np.int64)
    features = embed(_plain_encoder(json.dumps(given), seed, scale), images)
    return CHOOSERS[own["keep"]](features, count, int(labels_of(images).max()) + 1, seed)


@lru_cache(maxsize=1)
def _plain_encoder(given: str, seed: int, scale: Scale) -> Any:
    """The encoder of a plain run on all images with these settings (JSON), cached for the subsets of a seed."""
    return _encoder(image_sets(scale)[0], json.loads(given), False, seed, scale)


def shortest(arms: Iterable[Arm]) -> list[Arm]:
    """The arms without settings that equal defaults, so that other studies recognise equal runs."""
    return [replace(arm, setting=_short(dict(arm.setting))) for arm in arms]


def _short(setting: dict[str, Any]) -> dict[str, Any]:
    for name in [each for each in setting if each not in OWN]:
        fewer = {key: value for key, value in setting.items() if key != name}
        if _config(fewer) == _config(setting):
            setting = fewer
    return setting


def _config(setting: dict[str, Any]) -> TrainConfig:
    return TrainConfig.build(
        {"treatment": "none"} | {name: value for name, value in setting.items() if name not in OWN}
    )
