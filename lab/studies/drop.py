"""Training without the images that a scan finds difficult: CIFAR-10 with a fifth of its images mixed.

Arms train without the scan's top fifth, without a random fifth, or without the mixed images. The scan takes the
features of the run on all images. A linear probe and 20-NN learn from the 10,000 clean training images.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from typing import Any

import numpy as np

from lab.encoders import RUNS, configuration, trained
from lab.measures import accuracies
from lab.study import Arm, Measures, Scale, Study, data_folder, needs
from pairsift.data import ImageSet, load_images, open_features
from pairsift.scanning import scan

FRACTION = 0.2
ARMS = ("nothing", "random", "scan", "truth")


def drop_list(arm: str, features: Any, seed: int) -> list[int]:
    """Rows that an arm leaves out, from the features of the untreated run on all images."""
    n = features.shape[0]
    if arm == "truth":
        planted: list[int] = features.rows[features.mixed].tolist()
        return planted
    if arm == "random":
        # Not the seed alone: the mixes were drawn by just this call with it.
        chosen = np.random.default_rng([seed, 1]).choice(n, round(FRACTION * n), replace=False)
    else:
        chosen = scan(features, n_classes=10, seed=seed, threads=1).drop(FRACTION)
    rows: list[int] = features.rows[np.sort(chosen)].tolist()
    return rows


@lru_cache(maxsize=1)
def image_sets(scale: Scale) -> tuple[ImageSet, ImageSet]:
    """The clean training images and the test images; a few of each at smoke scale."""
    root, (most, tested) = data_folder() / "cifar10", (20, 20) if scale == "smoke" else (1000, None)
    train, test = str(root / "train.parquet"), str(root / "test.parquet")
    return load_images(train, per_class=most), load_images(test, per_class=tested)


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """Accuracies of a run without the rows of an arm, in percent, and the share of mixed images among these rows."""
    more: dict[str, Any] = {"epochs": 1, "per_class": 20, "batch_size": 64} if scale == "smoke" else {}
    arm, runs = setting["drop"], RUNS.with_name(f"{RUNS.name}-{scale}") if scale == "smoke" else RUNS
    base = trained(configuration("cifar10", "pixel", "none", seed, runs, **more))
    found: dict[str, float | None] = {"dropped": 0.0}
    if arm != "nothing":
        features = open_features(base.features_file)
        rows = drop_list(arm, features, seed)
        file = runs / f"drop-{arm}-{seed}.csv"
        with file.open("w", newline="") as out:
            csv.writer(out).writerows([["row"], *([row] for row in rows)])
        more |= {"drop": file, "run_dir": file.with_suffix(""), "save_features": False}
        base = trained(configuration("cifar10", "pixel", "none", seed, runs, **more))
        mixed = set(drop_list("truth", features, seed))
        found = {"dropped": len(rows), "planted_among_dropped": len(mixed.intersection(rows)) / len(rows)}
    return found | accuracies(base.load_encoder(), *image_sets(scale))


STUDY = Study(
    name="drop",
    question="Does dropping what a scan finds help an encoder?",
    arms=[Arm(arm, {"drop": arm}, baseline="" if arm == "nothing" else "nothing") for arm in ARMS],
    run=run,
    measures={"linear": "linear probe %", "knn20": "20-NN %"},
    differences=2,
    seconds=300.0,
    ready=needs("cifar10"),
)
