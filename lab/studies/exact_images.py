"""Encoders of small images that are solved for instead of trained: patch layers, and a spectral map of their counts.

Digits are views without mirroring and colour. CIFAR-10 (1,000 images a class, and all) and Imagenette (500 a class,
seen at 32 pixels) have the usual views of SimCLR. The ridge is chosen on held-out images, without labels. An encoder is
measured on the test images, with and without the map.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from lab.study import Arm, Measures, Scale, Study, data_folder, needs
from pairsift.data import SimCLRViews, ViewPolicy, load_images
from pairsift.evaluate import knn, linear_probe
from pairsift.spectral import PatchEncoder

SETS: dict[str, dict[str, Any]] = {
    "digits": {"filters": 200, "views": 8},
    "cifar10": {"per_class": 1000, "filters": 400, "views": 8},
    "imagenette96": {"per_class": 500, "filters": 400, "views": 4},
}
_BATCH = 256


def arms(scale: Scale) -> list[Arm]:
    """One patch layer on every set, and two layers and all images on CIFAR-10."""
    small = {"per_class": 60, "filters": 30, "views": 3}
    if scale == "smoke":
        return [Arm("one layer", {"set": "digits", "layers": 1} | small, "digits", baseline="")]
    one = [Arm("one layer", {"set": name, "layers": 1} | more, name, baseline="") for name, more in SETS.items()]
    two = {"set": "cifar10", "layers": 2} | SETS["cifar10"] | {"views": 4}
    every = {"set": "cifar10", "layers": 1, "filters": 400, "views": 2}
    return [
        *one, Arm("two layers", two, "cifar10", baseline=""),
        Arm("one layer, all 50,000 images", every, "cifar10", baseline=""),
    ]  # fmt: skip


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """Percent on the test images, and the seconds of the fit."""
    name, digits = setting["set"], setting["set"] == "digits"
    where = "digits:{}" if digits else str(data_folder() / name / "{}.parquet")
    train = load_images(where.format("train"), per_class=setting.get("per_class"))
    test = load_images(where.format("test"))
    policy: ViewPolicy = SimCLRViews()
    if digits:
        policy = SimCLRViews(crop_scale=(0.4, 1.0), flip=0.0, grey=0.0, saturation=0.0, hue=0.0)
    started, cpu = time.perf_counter(), time.process_time()
    encoder, fitted = PatchEncoder.fit(
        train.images, policy, filters=setting["filters"], views=setting["views"], layers=setting["layers"],
        mirrored=not digits, seed=seed, memory_gb=8.0,
    )  # fmt: skip
    spent = {"fit_seconds": time.perf_counter() - started, "fit_cpu_seconds": time.process_time() - cpu}
    both = [_features(encoder, each.images) for each in (train, test)]
    assert train.labels is not None
    assert test.labels is not None
    patches = knn(both[0], train.labels, both[1], test.labels, k=20)
    weight, bias = encoder.weight.numpy(), encoder.bias.numpy()
    x, y = (each @ weight + bias for each in both)
    linear = linear_probe(x, train.labels, y, test.labels).accuracy
    return {
        "knn20": 100 * knn(x, train.labels, y, test.labels, k=20), "linear": 100 * linear, "patches": 100 * patches,
        "ridge": fitted.ridge, "dimensions": float(fitted.dimensions), **spent,
    }  # fmt: skip


@torch.no_grad()
def _features(encoder: PatchEncoder, images: Any) -> np.ndarray:
    """(N, D) features of the patch layers."""
    parts = [torch.from_numpy(images[at : at + _BATCH]).float() / 255 for at in range(0, len(images), _BATCH)]
    return np.concatenate([encoder.features(part).numpy() for part in parts])


STUDY = Study(
    "exact-images",
    "How good is an encoder of small images that is solved for instead of trained?",
    arms,
    run,
    {"knn20": "20-NN %", "linear": "linear probe %", "patches": "20-NN without the map %"},
    differences=0,
    seconds=600,
    seeds=1,
    ready=lambda arms, scale: None if scale == "smoke" else needs("cifar10", "imagenette96")(arms, scale),
)
