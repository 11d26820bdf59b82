"""Encoders for the benchmark of detection: SimCLR at CPU scale on plain and mixed image sets.

Runs are kept in `runs/encoders`. Each run directory holds the features of its own training images (features.parquet,
with the mixed ones marked).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from lab.encoders import SETS, configuration, trained
from lab.study import Arm, Measures, Scale, Study, needs
from pairsift.data import open_features
from pairsift.evaluate import knn

# Set, kind and treatment.
TRAINED = [
    ("cifar10", "plain", "none"), ("cifar10", "pixel", "none"), ("cifar10", "composite", "none"),
    ("cifar10", "pixel", "combined"), ("imagenette", "plain", "none"), ("imagenette", "pixel", "none"),
    ("tiny-imagenet", "plain", "none"), ("tiny-imagenet", "pixel", "none"),
]  # fmt: skip


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """Train one encoder, and measure 20-NN accuracy between halves of its training images, in percent."""
    more: dict[str, Any] = {"epochs": 1, "per_class": 20, "batch_size": 64} if scale == "smoke" else {}
    config = configuration(setting["set"], setting["kind"], setting["treatment"], seed, **more)
    features = open_features(trained(config).features_file)
    assert features.labels is not None
    x, y = features.take(np.arange(features.shape[0])), features.labels
    return {"knn20": 100 * knn(x[::2], y[::2], x[1::2], y[1::2], k=20)}


STUDY = Study(
    name="encoders",
    question="Which encoders do the detection benchmark and other studies look through?",
    arms=[
        Arm(f"{kind}, {treatment}", {"set": name, "kind": kind, "treatment": treatment}, name, baseline="")
        for name, kind, treatment in TRAINED
    ],
    run=run,
    measures={"knn20": "20-NN %"},
    differences=0,
    seconds=360.0,
    ready=needs(*(str(each["data"]).split("/")[0] for each in SETS.values())),
)
