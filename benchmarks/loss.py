"""Forward and backward of the loss: ours untreated and combined against lightly and pytorch-metric-learning untreated.

    python benchmarks/loss.py [--sizes 512 1024 2048 4096] [--threads 1] [--output benchmarks/results/loss.jsonl]

One JSON line per size (in views, two per image; d = 128 projections, D = 512 features): median milliseconds of
interleaved runs, and the growth of peak memory, each measured in a process of its own.
"""

from __future__ import annotations

import argparse
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from _common import emit, environment, in_process, lightly_ntxent, median_ms, peak_growth_mb, ratio

import pairsift as ps

TEMPERATURE = 0.5
NAMES = ("untreated", "combined", "lightly", "pytorch_metric_learning")
TARGETS = {"untreated_over_lightly": 1.0, "combined_over_lightly": 2.5}
MEMORY_LIMIT = 8 << 30  # bytes; a peer that would take the whole machine's memory shall fail alone


def contender(name: str, views: int) -> Callable[[], Any] | None:
    """Forward and backward of one contender on seeded inputs; None if it is not installed."""
    generator = torch.Generator().manual_seed(0)
    z0, z1 = (torch.randn(views // 2, 128, generator=generator).requires_grad_() for _ in range(2))
    h0, h1 = (torch.randn(views // 2, 512, generator=generator) for _ in range(2))
    if name == "untreated":
        plain = ps.losses.NTXentLoss(TEMPERATURE)
        return lambda: plain(z0, z1).backward()
    if name == "combined":
        treated = ps.losses.NTXentLoss(TEMPERATURE, ps.RankBand(0.15, 0.22), ps.Treatment(0.03, 0.6))
        return lambda: treated(z0, z1, h0, h1).backward()
    if name == "lightly":
        loss = lightly_ntxent()
        lightly = loss and loss(temperature=TEMPERATURE)
        return lightly and (lambda: lightly(z0, z1).backward())
    try:
        from pytorch_metric_learning import losses
    except ImportError as error:
        print(f"pytorch-metric-learning cannot be imported, its fields are null: {error}", file=sys.stderr)
        return None
    peer = losses.SelfSupervisedLoss(losses.NTXentLoss(temperature=TEMPERATURE))
    return lambda: peer(z0, z1).backward()


def measure(names: tuple[str, ...], views: int, threads: int, runs: int) -> dict[str, float]:
    """Median milliseconds of the named contenders, interleaved."""
    torch.set_num_threads(threads)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    work = {name: contender(name, views) for name in names}
    return median_ms({name: call for name, call in work.items() if call is not None}, runs)


def peak(name: str, views: int, threads: int) -> float | None:
    """Growth of peak memory in MB of one contender."""
    torch.set_num_threads(threads)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    work = contender(name, views)
    return None if work is None else peak_growth_mb(work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048, 4096])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--peer-limit", type=float, default=60, help="seconds for pytorch-metric-learning at each size")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    peer_finishes, peer_reason = True, None
    for views in sorted(options.sizes):
        ms = in_process(measure, NAMES[:3], views, options.threads, options.runs) or {}
        memory = {name: in_process(peak, name, views, options.threads) for name in NAMES[:3]}
        if peer_finishes:  # where it fails or takes too long, it does at every larger size
            slow = in_process(measure, NAMES[3:], views, options.threads, 5, limit=options.peer_limit)
            peer_finishes = bool(slow)
            if not peer_finishes:
                peer_reason = f"no result at {views} views within {options.peer_limit:g} s and 8 GiB (see stderr)"
            ms |= slow or {}
            memory[NAMES[3]] = (
                in_process(peak, NAMES[3], views, options.threads, limit=options.peer_limit) if slow else None
            )
        row: dict[str, Any] = {"benchmark": "loss", "views": views}
        row |= {f"{name}_ms": round(ms[name], 2) if name in ms else None for name in NAMES}
        row |= {f"{name}_peak_mb": round(memory[name], 1) if memory.get(name) is not None else None for name in NAMES}
        row["pytorch_metric_learning_null_because"] = peer_reason
        for name in NAMES[:2]:
            row[f"{name}_over_lightly"] = ratio(ms.get(name), ms.get("lightly"))
        row["targets"] = TARGETS
        row["targets_met"] = {name: row[name] and row[name] <= target for name, target in TARGETS.items()}
        rows.append(row | environment(options.threads))
        emit(rows, options.output)


if __name__ == "__main__":
    main()
