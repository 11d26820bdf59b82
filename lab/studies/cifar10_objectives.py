"""Plain and combined SimCLR, MoCo and spectral learning on CIFAR-10 at CPU scale.

The spectral loss takes the mu with the best plain 20-NN accuracy on held-out training images. Runs are
kept in `runs/encoders`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from lab.encoders import RUNS, configuration, trained
from lab.measures import accuracies, labels_of
from lab.study import Arm, Measures, Scale, Study, data_folder, needs
from pairsift.data import ImageSet, load_images, subset
from pairsift.evaluate import knn
from pairsift.train import embed

METHODS = ("simclr", "moco", "spectral")
MUS = (1.0, 3.0, 10.0, 30.0)
MU = 10.0
PER_CLASS, HELD_OUT = 1000, 200


@lru_cache(maxsize=1)
def image_sets(scale: Scale) -> tuple[ImageSet, ImageSet]:
    """Training and test images; a few of each at smoke scale."""
    root, (most, tested) = data_folder() / "cifar10", (20, 20) if scale == "smoke" else (PER_CLASS, None)
    train, test = str(root / "train.parquet"), str(root / "test.parquet")
    return load_images(train, per_class=most), load_images(test, per_class=tested)


@lru_cache(maxsize=1)
def held_out() -> tuple[ImageSet, ImageSet]:
    """The training images, and held-out images."""
    images = load_images(str(data_folder() / "cifar10/train.parquet"), per_class=PER_CLASS + HELD_OUT)
    order = np.argsort(labels_of(images), kind="stable").reshape(-1, PER_CLASS + HELD_OUT)
    seen, held = (subset(images, np.sort(rows.ravel())) for rows in (order[:, :PER_CLASS], order[:, PER_CLASS:]))
    return seen, held


def arms(scale: Scale) -> list[Arm]:
    """Every objective, plain and treated, and the values of mu that were tried on held-out images."""
    found = []
    for method in METHODS:
        setting = {"method": method, **({"mu": MU} if method == "spectral" else {})}
        found += [
            Arm("plain", {**setting, "treatment": "none"}, method, baseline=""),
            Arm("combined", {**setting, "treatment": "combined"}, method),
        ]
    for mu in MUS:
        setting = {"method": "spectral", "mu": mu, "treatment": "none", "held": True}
        found.append(Arm(f"held-out images, mu {mu:g}", setting, "spectral", baseline=""))
    return found


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """Accuracies of one encoder, in percent."""
    more: dict[str, Any] = {"epochs": 1, "per_class": 20, "batch_size": 64} if scale == "smoke" else {}
    runs = RUNS.with_name(f"{RUNS.name}-{scale}") if scale == "smoke" else RUNS
    method, mu = setting["method"], setting.get("mu")
    if method != "simclr":
        name = f"cifar10-{method}{'' if mu is None else f'-mu{mu:g}'}-{setting['treatment']}-{seed}"
        more |= {"method": method, "run_dir": runs / name, **({} if mu is None else {"mu": mu})}
    run = trained(configuration("cifar10", "plain", setting["treatment"], seed, runs, **more))
    encoder = run.load_encoder()
    if setting.get("held"):
        seen, held = held_out()
        x, held_x = embed(encoder, seen), embed(encoder, held)
        return {"linear": None, "knn20": None, "held_out": 100 * knn(x, labels_of(seen), held_x, labels_of(held), k=20)}
    return accuracies(encoder, *image_sets(scale))


STUDY = Study(
    name="cifar10-objectives",
    question="Does the combined treatment gain with every objective on CIFAR-10 at the paper's settings?",
    arms=arms,
    run=run,
    measures={"linear": "linear probe %", "knn20": "20-NN %"},
    differences=2,
    seconds=480.0,
    table="Table 5, at the settings of SimCLR",
    ready=needs("cifar10"),
)
