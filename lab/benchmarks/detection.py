"""Compares scores without labels, ours and others, in finding difficult examples on the same features.

    python -m lab.benchmarks.detection --runs DIR [--threads 1] [--output lab/benchmarks/results/detection.json]

It needs PAIRSIFT_DATA and the runs of `python -m lab encoders` in DIR. A set without runs is skipped. Planted: pixel
means and composites seen by the encoder in training, midpoints of the features of two images of different classes,
Gaussian mixtures with midpoints of known classes, digits and pen strokes without an encoder. Natural: in each class of
an unmixed set the 8 % with the smallest gap between the top two probabilities of a cross-validated linear classifier.
Every score gets only the true number of classes. cleanlab is left out if it is not installed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pairsift as ps
from lab.benchmarks._common import environment
from lab.rows import row_of, write
from pairsift.data import load_images, mix_set, open_features
from pairsift.evaluate import detection

SEEDS = (0, 1, 2)
SHARE = 0.2
NATURAL_SHARE = 0.08


class Case(NamedTuple):
    """Features with examples that are known to be difficult; cases of one name differ by their seed only."""

    name: str
    seed: int
    features: NDArray[np.float32]
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]


def cases(runs: Path, data: Path) -> Iterator[Case]:
    """All cases whose data are there."""
    for name, kind, treatment in (
        ("cifar10", "pixel", "none"), ("cifar10", "pixel", "combined"), ("cifar10", "composite", "none"),
        ("imagenette", "pixel", "none"), ("tiny-imagenet", "pixel", "none"),
    ):  # fmt: skip
        for seed, features in _runs(runs, name, kind, treatment):
            yield Case(f"{name}, {kind} mixes, encoder {treatment}", seed, *features)
    for name in ("cifar10", "imagenette", "tiny-imagenet"):
        for seed, (x, y, _) in _runs(runs, name, "plain", "none"):
            yield midpoints(f"{name}, feature midpoints", seed, x, y)
            yield Case(f"{name}, natural", seed, x, y, natural(x, y))
    for seed in SEEDS:
        yield gaussians(seed)
    digits = load_images("digits:train")
    for seed in SEEDS:
        mixed = mix_set(digits, SHARE, seed)
        pixels = mixed.images[:, 0].reshape(len(mixed), -1).astype(np.float32) / 255
        yield Case("digits, pixel mixes, pixels", seed, pixels, mixed.labels, mixed.mixed)
    strokes = pq.read_table(data / "pendigits/train.parquet")
    x, y = np.stack(strokes["values"].to_numpy()).astype(np.float32), strokes["label"].to_numpy()
    for seed in SEEDS:
        yield midpoints("pendigits, mean strokes, coordinates", seed, x, y)
    plain = digits.images[:, 0].reshape(len(digits), -1).astype(np.float32) / 255
    yield Case("digits, natural, pixels", 0, plain, digits.labels, natural(plain, digits.labels))
    yield Case("pendigits, natural, coordinates", 0, x, y, natural(x, y))


def _runs(runs: Path, name: str, kind: str, treatment: str) -> Iterator[tuple[int, Any]]:
    for seed in SEEDS:
        file = runs / f"{name}-{kind}-{treatment}-{seed}" / "features.parquet"
        if file.exists():
            features = open_features(file)
            yield seed, (features.take(np.arange(features.shape[0])), features.labels, features.mixed)
        elif seed == 0 or name == "cifar10":
            print(f"skipped: no {file}", file=sys.stderr)


def midpoints(name: str, seed: int, x: NDArray[np.float32], y: NDArray[np.int64]) -> Case:
    """A fifth of the rows replaced by their midpoint with a row of another class."""
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(x), round(SHARE * len(x)), replace=False)
    partners = [rng.choice(np.flatnonzero(y != y[row])) for row in chosen]
    out, planted = x.copy(), np.zeros(len(x), bool)
    out[chosen], planted[chosen] = (x[chosen] + x[partners]) / 2, True
    return Case(name, seed, out, y, planted)


def gaussians(seed: int, n: int = 5000, classes: int = 10, dimensions: int = 32) -> Case:
    """Classes N(c, I) around centres N(0, I); a fifth of the examples are means of two of different classes."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    x = rng.standard_normal((classes, dimensions))[y] + rng.standard_normal((n, dimensions))
    return midpoints("Gaussian mixture, midpoints", seed, x.astype(np.float32), y)


def natural(x: NDArray[np.float32], y: NDArray[np.int64]) -> NDArray[np.bool_]:
    """In each class the share with the smallest top-two gap of a cross-validated linear classifier."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    top = np.partition(cross_val_predict(model, x, y, cv=3, method="predict_proba"), -2, axis=1)[:, -2:]
    gap, difficult = top[:, 1] - top[:, 0], np.zeros(len(y), bool)
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        difficult[rows[np.argsort(gap[rows])[: max(1, round(NATURAL_SHARE * len(rows)))]]] = True
    return difficult


def unit(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.ascontiguousarray(x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def centres(u: NDArray[np.float32], classes: int, seed: int) -> NDArray[np.float32]:
    fit = faiss.Kmeans(u.shape[1], classes, niter=20, seed=seed, spherical=True, min_points_per_centroid=1)
    fit.train(u)
    return fit.centroids


def ours(x: NDArray[np.float32], classes: int, seed: int) -> NDArray[Any]:
    return ps.scan(x, classes, seed=seed, memory_gb=8).scores


def sas(x: NDArray[np.float32], classes: int, seed: int) -> NDArray[Any]:
    """Low mean similarity to one's own cluster (arXiv 2302.09195 keeps what has a high one)."""
    u = unit(x)
    cluster = (u @ centres(u, classes, seed).T).argmax(axis=1)
    return -np.einsum("ij,ij->i", u, np.stack([u[cluster == each].mean(axis=0) for each in range(classes)])[cluster])


def prototypes(x: NDArray[np.float32], classes: int, seed: int) -> NDArray[Any]:
    """Distance to the nearest k-means centre (arXiv 2206.14486)."""
    u = unit(x)
    return -(u @ centres(u, classes, seed).T).max(axis=1)


def gap(x: NDArray[np.float32], classes: int, seed: int) -> NDArray[Any]:
    """Small gap between the similarities to the nearest two centres (Table 10 of arXiv 2501.01317, without labels)."""
    u = unit(x)
    top = np.partition(u @ centres(u, classes, seed).T, -2, axis=1)[:, -2:]
    return top[:, 0] - top[:, 1]


def knn_distance(x: NDArray[np.float32], classes: int, seed: int) -> NDArray[Any]:
    """Mean cosine distance to the ten nearest neighbours."""
    u = unit(x)
    index = faiss.IndexFlatIP(u.shape[1])
    index.add(u)
    return -index.search(u, 11)[0][:, 1:].mean(axis=1)


def cleanlab_score(x: NDArray[np.float32], classes: int, seed: int) -> NDArray[Any]:
    """cleanlab's outlier score without labels, at its default setting."""
    from cleanlab.outlier import OutOfDistribution

    return -OutOfDistribution().fit_score(features=x, verbose=False)


def random(x: NDArray[np.float32], classes: int, seed: int) -> NDArray[Any]:
    return np.random.default_rng(seed).random(len(x))


METHODS: dict[str, Callable[[NDArray[np.float32], int, int], NDArray[Any]]] = {
    "pairsift": ours, "SAS": sas, "prototypes": prototypes, "centroid gap": gap, "kNN distance": knn_distance,
    "cleanlab": cleanlab_score, "random": random,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if "PAIRSIFT_DATA" not in os.environ:
        sys.exit("PAIRSIFT_DATA is not set: it names the folder of the real data")
    faiss.omp_set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    rows, missing = [], set()
    for case in cases(options.runs, Path(os.environ["PAIRSIFT_DATA"])):
        for name, method in METHODS.items():
            try:
                scores = method(case.features, len(np.unique(case.labels)), case.seed)
            except ImportError as error:
                if name not in missing:
                    print(f"skipped: {name}: {error}", file=sys.stderr)
                missing.add(name)
                continue
            found = detection(scores, case.difficult)
            rows.append({"case": case.name, "seed": case.seed, "method": name, **found._asdict()})
        print(json.dumps({r["method"]: round(r["auroc"], 3) for r in rows[-len(METHODS) + len(missing) :]}), case[:2])
    summary = summarise(rows)
    for line in summary:
        print(json.dumps(line))
    if options.output is not None:
        facts = environment(options.threads)
        write(options.output, [
            row_of("detection", {**found, **facts}, group=case, arm=method)
            for found in rows
            for case, method in [(found.pop("case"), found.pop("method"))]
        ])  # fmt: skip


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One line a case: means over seeds, and ours minus the best peer, paired by seed with its 95 % interval."""
    lines = []
    for case in dict.fromkeys(row["case"] for row in rows):
        chosen = [row for row in rows if row["case"] == case]
        values: dict[str, list[float]] = {}
        precision: dict[str, list[float]] = {}
        for row in chosen:
            values.setdefault(row["method"], []).append(row["auroc"])
            precision.setdefault(row["method"], []).append(row["average_precision"])
        means = {name: round(float(np.mean(each)), 4) for name, each in values.items()}
        best = max((name for name in means if name != "pairsift"), key=lambda name: means[name])
        difference = np.subtract(values["pairsift"], values[best])
        n = len(difference)
        half = stats.t.ppf(0.975, n - 1) * difference.std(ddof=1) / np.sqrt(n) if n > 1 else None
        lines.append({
            "case": case, "seeds": n, "auroc": means, "best_peer": best,
            "margin": round(float(difference.mean()), 4), "half_width": None if half is None else round(float(half), 4),
            "average_precision": {name: round(float(np.mean(each)), 4) for name, each in precision.items()},
        })  # fmt: skip
    return lines


if __name__ == "__main__":
    main()
