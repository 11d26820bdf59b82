"""Class collapse as the theory predicts it, and the fine classes in features that were trained on coarse labels.

`MixedContrastiveLoss` is trained with coarse labels over weights and temperatures. Pen strokes (digits in pairs: 0 and
1, 2 and 3, ...) and questions (6 kinds of 50) pass through a small MLP, 400 steps of 256 examples in two noisy views.
5,000 images of CIFAR-10 (animals and vehicles) train through `pretrain(method="mixed")` for 20 epochs. The share of
variance within coarse classes is measured on training examples, in projections (not for images) and in features. A
linear probe of either predicts the fine classes of test examples.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from lab.frames import WIDTH, mlp, noisy
from lab.study import Arm, Measures, Scale, Study, data_folder, needs
from lab.text_sets import encoded
from pairsift.data import load_images
from pairsift.evaluate import collapse, linear_probe
from pairsift.losses import MixedContrastiveLoss
from pairsift.theory import within_class_share
from pairsift.train import Projector, TrainConfig, embed, pretrain

ALPHAS, TEMPERATURES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0), (0.1, 0.5)
BATCH, STEPS = 256, 400
NOISE = {"pendigits": 0.25, "trec6": 0.5}
ANIMALS = (2, 3, 4, 5, 6, 7)
IMAGES, EPOCHS = 500, 20

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Examples with classes of two grains: x (N, D) float32, coarse (N,), fine (N,)."""

    x: FloatArray
    coarse: IntArray
    fine: IntArray


@lru_cache(maxsize=1)
def load(name: str) -> tuple[Part, Part]:
    """Training and test examples of pendigits or trec6, standardised by the training ones."""
    parts = [_read(name, part) for part in ("train", "test")]
    mean, std = parts[0].x.mean(axis=0), parts[0].x.std(axis=0)
    std = np.where(std > 0, std, 1)  # MiniLM has a number that is always the same
    return replace(parts[0], x=(parts[0].x - mean) / std), replace(parts[1], x=(parts[1].x - mean) / std)


def run_vectors(
    train: Part, test: Part, alpha: float, temperature: float, noise: float, seed: int, steps: int = STEPS
) -> dict[str, float]:
    """One encoder of strokes or sentences, measured in features and in projections."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    encoder, projector = mlp(train.x.shape[1]), Projector(WIDTH, 256, WIDTH)
    loss = MixedContrastiveLoss(alpha, temperature)
    optimizer = torch.optim.Adam([*encoder.parameters(), *projector.parameters()], lr=1e-3)
    x, labels = torch.from_numpy(train.x), torch.from_numpy(train.coarse)
    for _ in range(steps):
        rows = torch.from_numpy(rng.integers(0, len(x), BATCH))
        z = projector(encoder(torch.cat([noisy(x[rows], noise), noisy(x[rows], noise)])))
        value = loss(*z.chunk(2), labels[rows])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    with torch.no_grad():
        h, test_h = (encoder.eval()(torch.from_numpy(part.x)) for part in (train, test))
        z, test_z = (projector.eval()(each).numpy() for each in (h, test_h))
    return measured(h.numpy(), train, test_h.numpy(), test) | {
        "within_class": round(collapse(z, train.coarse).within_class, 4),
        "fine_z": told(z, train.fine, test_z, test.fine),
    }


def run_images(alpha: float, temperature: float, seed: int) -> dict[str, float]:
    """One encoder of images, measured in features."""
    root = data_folder() / "cifar10"
    train, test = load_images(str(root / "train.parquet"), per_class=IMAGES), load_images(str(root / "test.parquet"))
    assert train.labels is not None
    assert test.labels is not None
    coarse, test_coarse = (np.isin(each, ANIMALS).astype(np.int64) for each in (train.labels, test.labels))
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig.build({
            "method": "mixed", "alpha": alpha, "temperature": temperature, "epochs": EPOCHS, "seed": seed, "threads": 1,
            "precision": "bf16", "progress": False, "run_dir": Path(folder, "run"),
        })  # fmt: skip
        result = pretrain(config, images=replace(train, labels=coarse, class_names=None))
    x, test_x = embed(result.encoder, train), embed(result.encoder, test)
    return measured(x, Part(x, coarse, train.labels), test_x, Part(test_x, test_coarse, test.labels))


def measured(h: FloatArray, train: Part, test_h: FloatArray, test: Part) -> dict[str, float]:
    """Collapse and probe accuracies of features h of training and test examples.

    Returns:
        Share of variance within coarse classes, and percent of test examples whose class a linear probe tells.
    """
    return {
        "within_class_h": round(collapse(h, train.coarse).within_class, 4),
        "coarse": told(h, train.coarse, test_h, test.coarse), "fine": told(h, train.fine, test_h, test.fine),
    }  # fmt: skip


def told(x: FloatArray, y: IntArray, test_x: FloatArray, test_y: IntArray) -> float:
    """Accuracy of a linear probe on test examples, in percent."""
    return round(100 * linear_probe(x, y, test_x, test_y).accuracy, 2)


def arms(scale: Scale) -> list[Arm]:
    """Weights of the self-supervised part at two temperatures; images at one temperature and three weights."""
    sets = [(name, tau, alpha) for name in NOISE for tau in TEMPERATURES for alpha in ALPHAS]
    sets += [("cifar10", 0.5, alpha) for alpha in (0.0, 0.5, 1.0)]
    return [
        Arm(f"tau {tau:g}, alpha {alpha:g}", {"set": name, "alpha": alpha, "temperature": tau}, name, baseline="")
        for name, tau, alpha in (sets[:2] if scale == "smoke" else sets)
    ]


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """Measures of one encoder, and the share of variance within classes by theory."""
    name, alpha, tau = setting["set"], setting["alpha"], setting["temperature"]
    if name == "cifar10":
        classes, found = 2, run_images(alpha, tau, seed)
    else:
        train, test = load(name)
        classes = len(np.unique(train.coarse))
        found = run_vectors(train, test, alpha, tau, NOISE[name], seed, 2 if scale == "smoke" else STEPS)
    return found | {"theory": round(within_class_share(alpha, classes, BATCH / classes, tau), 4)}


def _read(name: str, part: str) -> Part:
    table = pq.read_table(data_folder() / name / f"{part}.parquet")
    labels = table["label"].to_numpy().astype(np.int64)
    if name == "trec6":
        return Part(
            encoded(table["text"].to_pylist(), tokens=32), labels, table["fine_label"].to_numpy().astype(np.int64)
        )
    return Part(np.asarray(table["values"].to_pylist(), np.float32), labels // 2, labels)


STUDY = Study(
    name="collapse",
    question="Do classes collapse in training with labels where theory says so, and what is lost with them?",
    arms=arms,
    run=run,
    measures={
        "within_class_h": "variance within classes, features",
        "coarse": "coarse classes %",
        "fine": "fine classes %",
    },
    differences=0,
    seconds=5.0,
    seeds=10,
    table="arXiv 2304.13169",
    ready=needs("pendigits", "trec6", "cifar10"),
)  # fmt: skip
