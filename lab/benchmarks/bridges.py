"""Measures the share of different classes among the first bridging pairs of a scan, on labelled sets.

    python -m lab.benchmarks.bridges [FEATURES ...] [--guide NAME=GUIDE ...] [--threads 1]
                                 [--output lab/benchmarks/results/bridges.json]

FEATURES are files with labels, as `pairsift embed` writes them, or NAME=FILE[:LABELS] with labels in a .npy file of
their own; digits (pixels, of scikit-learn) and, where PAIRSIFT_DATA names the folder of the real data, pendigits
(coordinates) are always scanned. --guide scans the set of that name once more by another encoder's features.

Every set is scanned without labels. Measured are the shares of different classes among the first 50 and the first 1,000
pairs, among random nearest neighbours, and among the first pairs by similarity, the order of earlier versions. Of the
first 1,000 pairs also the number of rows, the mean probability by the scan, and the median similarity rank of the
partner. That is the smaller rank of the two rows, by the cosine of centred features, and 1 is the nearest.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import pairsift as ps
from lab.benchmarks._common import environment
from lab.rows import row_of, write
from pairsift.data import open_features
from pairsift.scanning.reference import CANDIDATES

FIRST = (50, 1000)
# As many pairs as any of the sets has among its candidates.
ALL_PAIRS = 10_000_000


class Case(NamedTuple):
    """Features with classes that the scan does not see."""

    name: str
    features: NDArray[np.float32]
    labels: NDArray[Any]


def cases(files: list[str]) -> Iterator[Case]:
    """The sets that are always there, then those of the command line."""
    x, y = load_digits(return_X_y=True)
    yield Case("digits, pixels", (x / 16).astype(np.float32), y)
    if "PAIRSIFT_DATA" in os.environ:
        table = pq.read_table(Path(os.environ["PAIRSIFT_DATA"]) / "pendigits" / "train.parquet")
        strokes = np.stack(table.column("values").to_numpy()).astype(np.float32)
        yield Case("pendigits, coordinates", strokes, table.column("label").to_numpy())
    for each in files:
        name, _, file = each.rpartition("=")
        path, _, labels = file.partition(":")
        source = open_features(path)
        known = source.labels if not labels else np.load(labels)
        if known is None:
            raise SystemExit(f"{path} has no labels: name a file of them, {each}:LABELS.npy")
        yield Case(name or Path(path).stem, source.take(np.arange(source.shape[0])), known)


def measure(case: Case, guide: Path | None) -> dict[str, Any]:
    """One row of the result."""
    pairs = ps.scan(
        case.features, guide_features=guide, max_pairs=ALL_PAIRS, within=CANDIDATES, memory_gb=8
    ).pairs.to_pandas()
    different = (case.labels[pairs.anchor] != case.labels[pairs.other]).astype(float)
    earlier = different[np.argsort(-pairs.similarity.to_numpy(), kind="stable")]
    unit = case.features - case.features.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    near = index.search(unit, CANDIDATES + 1)[1]
    first = pairs[: FIRST[-1]]
    rows = np.repeat(np.arange(len(unit)), near.shape[1])
    a, b = np.minimum(rows, near.ravel()), np.maximum(rows, near.ravel())
    random = np.unique(np.stack([a, b])[:, a != b], axis=1)
    return {
        "set": case.name, "guide": None if guide is None else guide.stem, "rows": len(unit), "pairs": len(pairs),
        **{f"different_{n}": round(float(different[:n].mean()), 4) for n in FIRST},
        **{f"different_{n}_by_similarity": round(float(earlier[:n].mean()), 4) for n in FIRST},
        "different_random_neighbours": round(float((case.labels[random[0]] != case.labels[random[1]]).mean()), 4),
        "median_rank": float(np.median(_ranks(unit, first.anchor.to_numpy(), first.other.to_numpy()))),
        "distinct_rows": len(np.unique(first[["anchor", "other"]])),
        "mean_probability": round(float(first.probability.mean()), 4),
    }  # fmt: skip


def _ranks(unit: NDArray[np.float32], anchors: NDArray[Any], others: NDArray[Any]) -> NDArray[np.int64]:
    """Similarity rank of the partner of every pair, seen from the row to which it is nearer."""
    forth, back = (
        (unit @ unit[mine].T > np.einsum("ij,ij->i", unit[mine], unit[theirs])).sum(axis=0)
        for mine, theirs in ((anchors, others), (others, anchors))
    )
    # The row itself is nearer than any other, and takes the place of the one that the count leaves out.
    ranks: NDArray[np.int64] = np.minimum(forth, back)
    return ranks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", nargs="*", metavar="FEATURES")
    parser.add_argument("--guide", action="append", default=[], metavar="NAME=GUIDE")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    faiss.omp_set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    guides = [each.rpartition("=")[::2] for each in options.guide]
    rows = []
    for case in cases(options.features):
        for guide in [None, *(Path(file) for name, file in guides if name == case.name)]:
            rows.append(measure(case, guide))
            print(json.dumps(rows[-1]))
    if options.output is not None:
        facts = environment(options.threads)
        write(options.output, [
            row_of("bridges", {**row, **facts}, group=name, settings={"guide": guide})
            for row in rows
            for name, guide in [(row.pop("set"), row.pop("guide"))]
        ])  # fmt: skip


if __name__ == "__main__":
    main()
