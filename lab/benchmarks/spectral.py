"""A spectral map of pairs in parquet, half precision, the choice of the settings included.

    python -m lab.benchmarks.spectral [--pairs 1000000] [--dimensions 384] [--output FILE.jsonl]

One JSON line: wall and CPU seconds of `SpectralMap.fit` in a fresh process, by how many MB it raises the process's peak
memory, and the seconds that scikit-learn's `CCA` takes for 8 directions of a sample of 10,000 pairs, beside a fit of
the same sample.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import pairsift as ps
from lab.benchmarks._common import emit, environment, in_process

_GROUP, _SHARED, _SAMPLE = 50_000, 32, 10_000


def write_pairs(folder: Path, pairs: int, width: int) -> list[Path]:
    """Two files of float16 features that share 32 directions."""
    rng = np.random.default_rng(0)
    axes = rng.standard_normal((_SHARED, width)).astype(np.float32)
    schema = pa.schema({"features": pa.list_(pa.float16(), width)})
    files = [folder / "first.parquet", folder / "second.parquet"]
    with pq.ParquetWriter(files[0], schema) as first, pq.ParquetWriter(files[1], schema) as second:
        for start in range(0, pairs, _GROUP):
            n = min(_GROUP, pairs - start)
            topics = rng.standard_normal((n, _SHARED), np.float32) @ axes
            for writer in (first, second):
                rows = (topics + 4 * rng.standard_normal((n, width), np.float32)).astype(np.float16)
                lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), width)
                writer.write_table(pa.table({"features": lists}))
    return files


def fitted(first: str, second: str) -> dict[str, float]:
    """Seconds and memory of a fit in this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    found = ps.SpectralMap.fit(first, second)
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2),
        "peak_growth_mb": round((peak - before) / 1024), "peak_mb": round(peak / 1024), "width": found.dimensions,
    }  # fmt: skip


def beside_cca(first: Path, second: Path) -> dict[str, float]:
    """Seconds of both on a sample."""
    from sklearn.cross_decomposition import CCA

    sides = [ps.data.open_features(str(file)).take(np.arange(_SAMPLE)) for file in (first, second)]
    started = time.perf_counter()
    CCA(n_components=8).fit(*sides)
    theirs = time.perf_counter() - started
    started = time.perf_counter()
    ps.SpectralMap.fit(*sides, towers=2)
    return {"sample_seconds": round(time.perf_counter() - started, 2), "sample_cca_seconds": round(theirs, 2)}


def main() -> None:
    """Measure, and write a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = write_pairs(Path(folder), options.pairs, options.dimensions)
        row: dict[str, Any] = {"benchmark": "spectral", "pairs": options.pairs, "dimensions": options.dimensions}
        row |= in_process(fitted, str(files[0]), str(files[1]), limit=3600) or {}
        row |= beside_cca(files[0], files[1])
    emit([row | environment(torch.get_num_threads())], options.output)


if __name__ == "__main__":
    main()
