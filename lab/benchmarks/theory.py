"""Measures the closed-form spectrum against numerical eigensolvers, and at a billion vertices.

    python -m lab.benchmarks.theory [--sizes 500 2000 8000] [--threads 1] [--output lab/benchmarks/results/theory.jsonl]

One JSON line per size: median milliseconds of the closed form, of building the matrix and solving it whole
(scipy.linalg.eigh) and of solving for the r + 3 largest (scipy.sparse.linalg.eigsh), and the largest differences.
"""

from __future__ import annotations

import argparse
import resource
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.linalg import eigh
from scipy.sparse.linalg import eigsh
from threadpoolctl import threadpool_limits

from lab.benchmarks._common import emit, environment, median_ms, ratio
from pairsift.theory import SimilarityGraph, measure_levels

R, LEVELS, TARGET_ERROR, TARGET_MS = 9, (0.472, 0.191, 0.209), 1e-12, 1.0


def graph_of(vertices: int) -> SimilarityGraph:
    n = vertices // (R + 1)
    return SimilarityGraph(n, R, round(0.08 * n), *LEVELS)


def solvers(vertices: int, runs: int) -> dict[str, Any]:
    """Times and errors at a size where the matrix fits."""
    graph = graph_of(vertices)
    ms = {"closed_form": median_ms({"closed_form": graph.spectrum}, 51)["closed_form"]}
    few = {
        "eigsh": lambda: eigsh(graph.normalized_adjacency(), k=R + 3, v0=np.ones(vertices), return_eigenvectors=False)
    }
    ms |= median_ms(few, runs)
    # The cubic solver at the largest size takes minutes: once is enough to know the ratio's size.
    ms |= median_ms(
        {"eigh": lambda: eigh(graph.normalized_adjacency(), eigvals_only=True)}, runs if vertices <= 2000 else 1
    )
    exact = np.repeat(*graph.spectrum())
    row = {f"{name}_ms": round(value, 4) for name, value in ms.items()}
    row |= {f"{name}_over_closed_form": ratio(ms[name], ms["closed_form"]) for name in ("eigh", "eigsh")}
    error = float(np.abs(eigh(graph.normalized_adjacency(), eigvals_only=True)[::-1] - exact).max())
    return row | {"largest_error": error, "targets_met": {"largest_error": error <= TARGET_ERROR}}


def levels_row() -> dict[str, Any]:
    """Measured levels of 50,000 x 512 features: seconds, and memory of the whole process."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 50_000)
    features = rng.standard_normal((10, 512), dtype=np.float32)[labels] + 3 * rng.standard_normal(
        (50_000, 512), dtype=np.float32
    )
    ms = median_ms({"measure_levels": lambda: measure_levels(features, labels)}, 5)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return {
        "features": [50_000, 512],
        "measure_levels_ms": round(ms["measure_levels"], 1),
        "process_peak_gb": round(peak, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 2000, 8000])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: list[dict[str, Any]] = []
    with threadpool_limits(options.threads):
        rows.append({"benchmark": "theory"} | levels_row() | environment(options.threads))
        emit(rows, options.output)
        for vertices in sorted(options.sizes):
            rows.append(
                {"benchmark": "theory", "vertices": vertices}
                | solvers(vertices, options.runs)
                | environment(options.threads)
            )
            emit(rows, options.output)
        billion = median_ms({"closed_form": graph_of(10**9).spectrum}, 51)["closed_form"]
        row = {"benchmark": "theory", "vertices": 10**9, "closed_form_ms": round(billion, 4)}
        row["targets_met"] = {"closed_form_ms": billion < TARGET_MS}
        rows.append(row | environment(options.threads))
        emit(rows, options.output)


if __name__ == "__main__":
    main()
