"""Measures the inspection of pairs: seconds, memory, samplers, and the quality of likely false negatives.

    python -m lab.benchmarks.pairs [--sizes 100000 1000000] [--rows 100000] [--batch 128] [--dimensions 384]
        [--threads 2] [--runs 5] [--output lab/benchmarks/results/pairs.jsonl]

Pairs are synthetic: items around topics, a tenth of them twice, an anchor and a positive near each item, a fiftieth of
the rows once more, written as parquet into the temporary folder. Each inspection has its own process and writes all its
output. Its peak is the largest resident set, and imports are not timed. The last row times an epoch of batches of texts
with many duplicates, by the samplers of sentence-transformers and ours, in turn: medians of --runs. The first epoch
includes preparation. Our sampler plans every epoch again.

With PAIRSIFT_DATA there is another row: banking77 as pairs of one intent, inspected by the packaged MiniLM without the
intents.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from lab.benchmarks._common import emit, environment, in_process, median_ms, ratio, versions

ROW_GROUP = 50_000
ROWS_PER_TOPIC = 100


def make(file: Path, n: int, dimensions: int) -> None:
    """Pairs in as many topics as rows allow, written a row group at a time."""
    rng = np.random.default_rng(0)
    topics = rng.standard_normal((max(2, n // ROWS_PER_TOPIC), dimensions), dtype=np.float32)
    schema = pa.schema([(name, pa.list_(pa.float32(), dimensions)) for name in ("anchor", "positive")])
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, n, ROW_GROUP):
            rows = min(ROW_GROUP, n - start)
            items = topics[rng.integers(0, len(topics), rows)]
            items = items + rng.standard_normal(items.shape, dtype=np.float32)
            items[: rows // 10] = items[rows // 2 : rows // 2 + rows // 10]
            columns = [items + 0.7 * rng.standard_normal(items.shape, dtype=np.float32) for _ in range(2)]
            for column in columns:
                column[: rows // 50] = column[rows // 2 : rows // 2 + rows // 50]
            arrays = [pa.FixedSizeListArray.from_arrays(pa.array(column.ravel()), dimensions) for column in columns]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))


def inspected(file: str, out: str, threads: int) -> dict[str, Any]:
    """Seconds, peak MB and figures of an inspection."""
    import faiss

    from pairsift.retrieval import inspect_pairs

    faiss.omp_set_num_threads(threads)
    start = time.perf_counter()
    found = inspect_pairs(Path(file), output=out, threads=threads)
    seconds = time.perf_counter() - start
    return {
        "seconds": round(seconds, 1), "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3),
        "duplicate_rows": found.facts["duplicates"]["rows"]["repeats"], "conflicts": found.facts["conflicts"],
        "recall": found.facts["search"].get("recall", 1.0),
    }  # fmt: skip


def inspection(n: int, options: argparse.Namespace) -> dict[str, Any]:
    """One row: a size."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pairs.parquet")
        make(file, n, options.dimensions)
        found = in_process(inspected, str(file), str(Path(folder, "out")), options.threads, limit=3600)
    return {"pairs": n, "dimensions": options.dimensions} | (found or {})


def samplers(options: argparse.Namespace) -> dict[str, Any]:
    """An epoch of batches: ours, and the library's two samplers."""
    from datasets import Dataset, disable_progress_bars
    from sentence_transformers.base.sampler import NoDuplicatesBatchSampler

    from pairsift.retrieval import DistinctBatchSampler

    disable_progress_bars()
    rng = np.random.default_rng(0)
    values = {name: rng.integers(0, options.rows // 5, options.rows) for name in ("anchor", "positive")}
    texts = {name: [f"{name} number {value}" for value in numbers] for name, numbers in values.items()}
    data = Dataset.from_dict(texts)

    def ours() -> DistinctBatchSampler:
        return DistinctBatchSampler.from_texts(*texts.values(), batch_size=options.batch)

    def theirs(hashed: bool) -> NoDuplicatesBatchSampler:
        return NoDuplicatesBatchSampler(data, options.batch, False, precompute_hashes=hashed, precompute_num_proc=1)

    makers = {"ours": ours, "no_duplicates": lambda: theirs(False), "no_duplicates_hashed": lambda: theirs(True)}
    first = median_ms({name: lambda make=make: list(make()) for name, make in makers.items()}, options.runs)
    made = {name: make() for name, make in makers.items()}
    later = median_ms({name: lambda sampler=sampler: list(sampler) for name, sampler in made.items()}, options.runs)
    row: dict[str, Any] = {"rows": options.rows, "batch": options.batch, "runs": options.runs}
    for when, times in (("first", first), ("later", later)):
        row |= {f"{name}_{when}_s": round(ms / 1e3, 3) for name, ms in times.items()}
        for peer in ("no_duplicates", "no_duplicates_hashed"):
            row[f"over_{peer}_{when}"] = ratio(times["ours"], times[peer])
    return row | versions("sentence-transformers", "datasets")


def judgement(data: Path) -> dict[str, Any]:
    """How many of the likely false negatives share the intent, and how many of those that do are found."""
    from pairsift.retrieval import inspect_pairs

    table = pq.read_table(data / "banking77/train.parquet")
    texts, intents = np.asarray(table["text"].to_pylist(), dtype=object), table["label"].to_numpy()
    rng = np.random.default_rng(0)
    shuffled = [rng.permutation(np.flatnonzero(intents == each)) for each in np.unique(intents)]
    first, second = (
        np.concatenate(
            [rows[: len(rows) // 2] if half == 0 else rows[len(rows) // 2 :][: len(rows) // 2] for rows in shuffled]
        )
        for half in (0, 1)
    )
    with tempfile.TemporaryDirectory() as folder:
        pairs = pa.table({"anchor": list(texts[first]), "positive": list(texts[second])})
        found = inspect_pairs(pairs, guide_model="minilm", output=Path(folder, "out"), neighbours=200)
        conflicts = pq.read_table(Path(folder, "out", "conflicts.parquet"))
    of = intents[first]
    likely = conflicts.filter(pa.compute.equal(conflicts["reason"], "likely false negative"))
    true = int((of[likely["row"].to_numpy()] == of[likely["other"].to_numpy()]).sum())
    counts = np.unique(of, return_counts=True)[1]
    alike = int((counts * (counts - 1)).sum())  # anchors with positives of other rows
    rates = found.facts["false_negatives"]["likely"]["expected"]
    return {
        "set": "banking77", "rows": len(of), "conflicts": len(likely), "precision": round(true / len(likely), 4),
        "base": round(alike / (len(of) * (len(of) - 1)), 4), "same_intent_pairs": alike,
        "found": round(true / alike, 4), "expected_256": rates["256"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    facts, rows = {"benchmark": "pairs"} | environment(options.threads), []
    for n in options.sizes:
        rows.append(inspection(n, options) | facts)
        emit(rows, options.output)
    rows.append(samplers(options) | facts)
    emit(rows, options.output)
    if "PAIRSIFT_DATA" in os.environ:
        rows.append(judgement(Path(os.environ["PAIRSIFT_DATA"])) | facts)
        emit(rows, options.output)


if __name__ == "__main__":
    main()
