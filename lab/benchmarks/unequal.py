"""Detection of planted mixtures in sets whose classes have unequal sizes, from 1:1 to 50:1.

    python -m lab.benchmarks.unequal [--ratios 1 2 5 10 50] [--output lab/benchmarks/results/unequal.jsonl]

One class keeps all of its rows, every other class a share of them. A tenth of the rows then become the midpoint of
themselves and a row of another class. Sets, of at most 1,500 rows: two Gaussian mixtures, pixels of digits, pen
strokes, log spectra of spoken digits, TF-IDF of texts, patch features of images. Those with data need PAIRSIFT_DATA
and are skipped without. Methods: the scan, the scan without weights for unequal clusters, and peers of
`lab.benchmarks.detection`. `largest` is the share of the largest class in a drop list as long as the number of
mixtures.
"""

from __future__ import annotations

import argparse
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import faiss
import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from scipy.signal import spectrogram
from sklearn.datasets import load_digits
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from lab.benchmarks._common import environment
from lab.benchmarks.detection import gap, knn_distance, ours, sas
from lab.rows import row_of, write
from pairsift.evaluate import detection
from pairsift.same_class import patch_features

Set = tuple[NDArray[np.float32], NDArray[np.int64]]
SEEDS, PLANTED, FEWEST, ROWS = (0,), 0.1, 6, 1500


def unweighted(x: NDArray[np.float32], classes: int, seed: int) -> NDArray[Any]:
    """The scan, with all rows alike."""
    with patch("pairsift.scanning.reference.balancing_weights", lambda *_: None):
        return ours(x, classes, seed)


METHODS: dict[str, Callable[[NDArray[np.float32], int, int], NDArray[Any]]] = {
    "pairsift": ours, "unweighted": unweighted, "SAS": sas, "centroid gap": gap, "kNN distance": knn_distance,
}  # fmt: skip


def gaussians(noise: float, radius: float | None) -> Set:
    """Ten classes of 1,000 rows in 32 dimensions, around centres N(0, I) or at one distance from the origin."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((10, 32))
    if radius is not None:
        centres *= radius / np.linalg.norm(centres, axis=1, keepdims=True)
    y = np.repeat(np.arange(10), 1000)
    return (centres[y] + noise * rng.standard_normal((len(y), 32))).astype(np.float32), y


def sets(data: Path | None) -> Iterator[tuple[str, Set]]:
    """All sets whose data are there."""
    yield "Gaussian mixture, tight", gaussians(0.08, 1)
    yield "Gaussian mixture, wide", gaussians(1, None)
    x, y = load_digits(return_X_y=True)
    yield "digits, pixels", ((x / 16).astype(np.float32), y)
    if data is None:
        return
    table = pq.read_table(data / "pendigits/train.parquet")
    yield "pendigits, coordinates", (np.stack(table["values"].to_numpy()).astype(np.float32), _labels(table))
    table = pq.read_table(data / "fsdd/train.parquet")
    yield (
        "spoken digits, log spectra",
        (np.stack([_spectrum(each) for each in table["values"].to_numpy()]), _labels(table)),
    )
    table = pq.read_table(data / "newsgroups20/train.parquet")
    counts = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(table["text"].to_pylist())
    svd = TruncatedSVD(128, random_state=0).fit_transform(counts)
    kept = np.abs(svd).sum(axis=1) > 0
    yield "newsgroups20, TF-IDF", (svd[kept].astype(np.float32), _labels(table)[kept])
    table = pq.read_table(data / "cifar10/train.parquet").slice(0, ROWS)
    pixels = [np.asarray(Image.open(io.BytesIO(each["bytes"])).convert("RGB")) for each in table["image"].to_pylist()]
    yield "CIFAR-10, patches", (patch_features(np.stack(pixels).transpose(0, 3, 1, 2)), _labels(table))


def _labels(table: Any) -> NDArray[np.int64]:
    labels: NDArray[np.int64] = table["label"].to_numpy()
    return labels


def _spectrum(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log energy of 16 bands in 8 parts of a sound."""
    power = np.log(spectrogram(wave, 8000, nperseg=256, noverlap=128)[2] + 1e-8)
    bands = np.stack([each.mean(axis=0) for each in np.array_split(power, 16)])
    return np.concatenate([each.mean(axis=1) for each in np.array_split(bands, 8, axis=1)]).astype(np.float32)


def planted(x: NDArray[np.float32], y: NDArray[np.int64], ratio: int, seed: int) -> tuple[Any, Any, Any]:
    """Unequal classes with midpoints: features, labels, which rows are midpoints."""
    rng = np.random.default_rng(seed)
    classes, counts = np.unique(y, return_counts=True)
    largest = classes[(3 * seed) % len(classes)]
    most = counts.max() if ratio == 1 else max(FEWEST, round(int((y == largest).sum()) / ratio))
    kept = np.sort(np.concatenate([
        np.flatnonzero(y == each) if each == largest
        else rng.choice(np.flatnonzero(y == each), min(most, int((y == each).sum())), replace=False)
        for each in classes
    ]))  # fmt: skip
    x, y = x[kept].copy(), y[kept]
    chosen = rng.choice(len(x), round(PLANTED * len(x)), replace=False)
    clean, mixed = x.copy(), np.zeros(len(x), bool)
    for row in chosen:
        other = rng.choice(classes[classes != y[row]])
        x[row] = (clean[row] + clean[rng.choice(np.flatnonzero(y == other))]) / 2
    mixed[chosen] = True
    return x, y, mixed


def measure(name: str, whole: Set, ratio: int, seed: int) -> Iterator[dict[str, Any]]:
    """A row for every method."""
    x, y, mixed = planted(*whole, ratio, seed)
    largest = np.bincount(y).argmax()
    for method, score in METHODS.items():
        scores = score(x, min(len(np.unique(y)), len(x) // 4), seed)
        top = np.argsort(-scores, kind="stable")[: int(mixed.sum())]
        found = {"auroc": detection(scores, mixed).auroc, "precision": float(mixed[top].mean())}
        share = float((y[top] == largest).mean())
        yield {"case": f"{name}, {ratio}:1", "seed": seed, "method": method, "n": len(x), "largest": share, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratios", type=int, nargs="+", default=[1, 2, 5, 10, 50])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    faiss.omp_set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    data, rows, facts = os.environ.get("PAIRSIFT_DATA"), [], environment(options.threads)
    for name, (x, y) in sets(None if data is None else Path(data)):
        some = np.sort(np.random.default_rng(0).choice(len(x), min(len(x), ROWS), replace=False))
        whole = x[some], y[some]
        for ratio in options.ratios:
            found = [row for seed in SEEDS for row in measure(name, whole, ratio, seed)]
            rows += [_row(row | facts) for row in found]
            means = {each: np.mean([row["auroc"] for row in found if row["method"] == each]) for each in METHODS}
            print(
                f"{name}, {ratio}:1",
                json.dumps({each: round(float(mean), 3) for each, mean in means.items()}),
                flush=True,
            )
        if options.output is not None:  # after each set: a run that is cut short keeps what it has
            write(options.output, rows)


def _row(found: dict[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in found.items() if name not in ("case", "method")}
    return row_of("unequal", values, group=found["case"], arm=found["method"])


if __name__ == "__main__":
    main()
