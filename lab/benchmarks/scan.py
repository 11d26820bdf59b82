"""Measures seconds and memory of a scan of 20,000 to a million embeddings, and of an exact search of neighbours.

    python -m lab.benchmarks.scan [--sizes 20000 100000 500000 1000000] [--dimensions 256] [--threads 2] [--runs 5]
                              [--output lab/benchmarks/results/scan.jsonl]

The data are synthetic clusters in a memory-mapped .npy file. Every measurement has its own process. Its peak is the
largest resident set with mapped pages, and imports are not timed. Sizes up to 100,000 give the median of --runs, larger
sizes run once. The exact search is faiss' IndexFlatIP with k = 100, up to 100,000 rows. The last row fits the exponent
of time in N.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from lab.benchmarks._common import emit, environment, in_process, ratio

CLUSTERS = 50
PEER_LIMIT = 100_000


def make(file: Path, n: int, dimensions: int) -> None:
    """Gaussian clusters in few directions and noise in all, written block by block."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CLUSTERS, 32)) @ rng.standard_normal((32, dimensions)) / np.sqrt(32)
    out = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=(n, dimensions))
    for start in range(0, n, 50_000):
        rows = min(50_000, n - start)
        noise = rng.standard_normal((rows, dimensions), dtype=np.float32)
        out[start : start + rows] = centres[rng.integers(0, CLUSTERS, rows)] + noise
    out.flush()


def ours(file: str, threads: int) -> tuple[float, float]:
    """Seconds and peak MB of a scan that estimates the number of classes too."""
    from pairsift import scan

    start = time.perf_counter()
    scan(file, memory_gb=2.0, threads=threads)
    return time.perf_counter() - start, _peak()


def exact(file: str, threads: int) -> tuple[float, float]:
    """Seconds and peak MB of an exact search of every row's 100 neighbours."""
    import faiss

    faiss.omp_set_num_threads(threads)
    start = time.perf_counter()
    x = np.load(file)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    index = faiss.IndexFlatIP(x.shape[1])
    index.add(x)
    index.search(x, 100)
    return time.perf_counter() - start, _peak()


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measure(file: Path, n: int, options: argparse.Namespace) -> dict[str, Any]:
    """One row: medians of runs in turn."""
    contenders = {"pairsift": ours} | ({"flat": exact} if n <= PEER_LIMIT else {})
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(options.runs if n <= PEER_LIMIT else 1):
        for name, work in contenders.items():
            found = in_process(work, str(file), options.threads, limit=3600)
            if found is not None:
                results[name].append(found)
    row: dict[str, Any] = {"n": n, "dimensions": options.dimensions, "runs": len(results["pairsift"])}
    for name, found in results.items():
        row[f"{name}_s"] = round(statistics.median(seconds for seconds, _ in found), 2) if found else None
        row[f"{name}_peak_mb"] = round(max(peak for _, peak in found)) if found else None
    return row | {"time_ratio": ratio(row["pairsift_s"], row.get("flat_s"))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[20_000, 100_000, 500_000, 1_000_000])
    parser.add_argument("--dimensions", type=int, default=256)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    facts, rows = {"benchmark": "scan"} | environment(options.threads), []
    for n in options.sizes:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "features.npy"
            make(file, n, options.dimensions)
            rows.append(measure(file, n, options) | facts)
        emit(rows, options.output)
    done = [row for row in rows if row["pairsift_s"]]
    if len(done) > 1:
        slope = np.polyfit(np.log([row["n"] for row in done]), np.log([row["pairsift_s"] for row in done]), 1)[0]
        rows.append({"exponent": round(float(slope), 3), "sizes": [row["n"] for row in done]} | facts)
        emit(rows, options.output)


if __name__ == "__main__":
    main()
