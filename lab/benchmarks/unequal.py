"""Detection of planted mixtures in sets whose classes have unequal sizes, from 1:1 to 50:1.

    python -m lab.benchmarks.unequal [--ratios 1 2 5 10 20 50] [--output lab/benchmarks/results/unequal.jsonl]

One class has so many times the rows of each other class. The set has about 1,500 rows at every ratio, or fewer where
the largest class has too few. A ratio that leaves less than 20 rows to the other classes is left out: any method fails
on so few, whatever the largest class. A tenth of the rows then become the midpoint of themselves and a row of another
class. Sets: two Gaussian mixtures, pixels of digits, pen strokes, log spectra of spoken digits, TF-IDF of texts, patch
features of images. Those with data need PAIRSIFT_DATA and are skipped without. Methods: the scan, the scan without
weights of rows, and peers of `lab.benchmarks.detection`. `largest` is the share of the largest class in a drop list as
long as the number of mixtures, and `base` its share of the set.
"""

from __future__ import annotations

import argparse
import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple
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
from pairsift.scanning.balance import Balance

Set = tuple[NDArray[np.float32], NDArray[np.int64]]
SEEDS, PLANTED = (0, 1), 0.1
# Rows of a set, rows of its smallest classes at least, and images that patch features are computed of.
ROWS, FEWEST, IMAGES = 1500, 20, 6000


def unweighted(x: NDArray[np.float32], classes: int, seed: int) -> NDArray[Any]:
    """The scan, with all rows alike."""
    with patch("pairsift.scanning.reference.balance", lambda *_: Balance(0.0, 1.0, 0.0, None)):
        return ours(x, classes, seed)


METHODS: dict[str, Callable[[NDArray[np.float32], int, int], NDArray[Any]]] = {
    "pairsift": ours, "unweighted": unweighted, "SAS": sas, "centroid gap": gap, "kNN distance": knn_distance,
}  # fmt: skip


def gaussians(noise: float, radius: float | None) -> Set:
    """Ten classes of 1,400 rows in 32 dimensions, around centres N(0, I) or at one distance from the origin."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((10, 32))
    if radius is not None:
        centres *= radius / np.linalg.norm(centres, axis=1, keepdims=True)
    y = np.repeat(np.arange(10), 1400)
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
    x = np.stack([_spectrum(each) for each in table["values"].to_numpy()])
    kept = np.isfinite(x).all(axis=1)  # a sound that is shorter than its parts has none
    yield "spoken digits, log spectra", (x[kept], _labels(table)[kept])
    table = pq.read_table(data / "newsgroups20/train.parquet")
    counts = TfidfVectorizer(sublinear_tf=True, min_df=2).fit_transform(table["text"].to_pylist())
    svd = TruncatedSVD(128, random_state=0).fit_transform(counts)
    kept = np.abs(svd).sum(axis=1) > 0
    yield "newsgroups20, TF-IDF", (svd[kept].astype(np.float32), _labels(table)[kept])
    table = pq.read_table(data / "cifar10/train.parquet").slice(0, IMAGES)
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


class Case(NamedTuple):
    """Features x (N, D) with classes y (N,), numbered from 0, and which rows are midpoints."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    mixed: NDArray[np.bool_]


def planted(whole: Set, ratio: int, seed: int) -> Case | None:
    """Unequal classes with midpoints; None where the small classes would be too small."""
    (x, y), rng = whole, np.random.default_rng(seed)
    classes, counts = np.unique(y, return_counts=True)
    largest = classes[np.argsort(-counts, kind="stable")[seed]]
    rows = min(ROWS // (ratio + len(classes) - 1), int((y == largest).sum()) // ratio, int(counts.min()))
    if rows < FEWEST:
        return None
    kept = np.sort(np.concatenate([
        rng.choice(np.flatnonzero(y == each), rows * (ratio if each == largest else 1), replace=False)
        for each in classes
    ]))  # fmt: skip
    x, y = x[kept].copy(), y[kept]
    clean, mixed = x.copy(), np.zeros(len(x), bool)
    mixed[rng.choice(len(x), round(PLANTED * len(x)), replace=False)] = True
    for row in np.flatnonzero(mixed):
        other = rng.choice(classes[classes != y[row]])
        x[row] = (clean[row] + clean[rng.choice(np.flatnonzero(y == other))]) / 2
    return Case(x, np.unique(y, return_inverse=True)[1], mixed)


def measure(name: str, case: Case, seed: int) -> Iterator[dict[str, Any]]:
    """A row for every method."""
    x, y, mixed = case
    largest = np.bincount(y).argmax()
    base = round(float((y == largest).mean()), 4)
    for method, score in METHODS.items():
        scores = score(x, int(y.max()) + 1, seed)
        top = np.argsort(-scores, kind="stable")[: int(mixed.sum())]
        found = {"auroc": detection(scores, mixed).auroc, "precision": float(mixed[top].mean())}
        facts = {"n": len(x), "base": base, "largest": float((y[top] == largest).mean())}
        yield {"case": name, "seed": seed, "method": method, **facts, **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ratios", type=int, nargs="+", default=[1, 2, 5, 10, 20, 50])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    faiss.omp_set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    data, rows, facts = os.environ.get("PAIRSIFT_DATA"), [], environment(options.threads)
    for name, whole in sets(None if data is None else Path(data)):
        for ratio in options.ratios:
            cases = {seed: planted(whole, ratio, seed) for seed in SEEDS}
            found = [row for seed, case in cases.items() if case for row in measure(f"{name}, {ratio}:1", case, seed)]
            if not found:
                continue
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
