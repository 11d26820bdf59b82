"""Measures time and memory of a loss, forward and backward, against lightly and pytorch-metric-learning.

    python -m lab.benchmarks.loss [--sizes 512 1024 ... 65536] [--threads 1]
        [--output lab/benchmarks/results/loss.jsonl]

One JSON line per size (in views, two per image; d = 128 projections, D = 512 features): median milliseconds of
interleaved runs, and in separate processes the growth of peak memory above the inputs and the peak of the process.
`mixed` is the untreated mixed loss of ten classes. `dense` is the untreated loss as one cross entropy of the whole
similarity matrix. `floor_ms` is the time of the products of the combined loss alone: three of views x views x 128 and
one of views x views x 512, in tiles. Other libraries run up to 8,192 views. Above 32,768 views ours run once, without a
warm-up. `combined_bf16` selects pairs by products of bfloat16 features. `bf16_agreement` is the intersection over union
of its pairs with those of fp32, on features of ten classes.
"""

from __future__ import annotations

import argparse
import math
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

import pairsift as ps
from lab.benchmarks._common import (
    emit,
    environment,
    in_process,
    lightly_ntxent,
    median_ms,
    peak_growth_mb,
    ratio,
    versions,
)

TEMPERATURE = 0.5
BAND = ps.RankBand(0.15, 0.22)
OURS = ("untreated", "combined", "combined_bf16", "mixed")
PEERS = ("dense", "lightly", "pytorch_metric_learning")
# Upper bounds by size; over_lightly compares with lightly's untreated loss of the same size.
TARGETS = {
    1024: {"combined_over_lightly": 1.25, "combined_over_dense": 1.25},
    4096: {"combined_over_lightly": 1.0, "combined_over_dense": 1.0, "untreated_over_lightly": 0.75},
    8192: {"combined_over_lightly": 1.0, "combined_over_dense": 1.0, "combined_memory_over_lightly": 0.15},
    32768: {"combined_total_mb": 1536, "combined_growth_exponent": 2.05},
}
MOST_WITH_PEERS, MOST_REPEATED = 8192, 32768
MEMORY_LIMIT = 8 << 30  # bytes; a peer that would take the whole machine's memory shall fail alone


def contender(name: str, views: int) -> Callable[[], Any] | None:
    """Forward and backward pass of one contender on seeded inputs, or None if it is not installed."""
    generator = torch.Generator().manual_seed(0)
    z0, z1 = (torch.randn(views // 2, 128, generator=generator).requires_grad_() for _ in range(2))
    h0, h1 = (torch.randn(views // 2, 512, generator=generator) for _ in range(2))
    if name == "untreated":
        plain = ps.losses.NTXentLoss(TEMPERATURE)
        return lambda: plain(z0, z1).backward()
    if name == "mixed":
        mixed = ps.losses.MixedContrastiveLoss(0.5, TEMPERATURE)
        labels = torch.arange(views // 2) % 10
        return lambda: mixed(z0, z1, labels).backward()
    if name in OURS:
        precision = "bf16" if name == "combined_bf16" else "fp32"
        treated = ps.losses.NTXentLoss(TEMPERATURE, BAND, ps.Treatment(0.03, 0.6), precision=precision)
        return lambda: treated(z0, z1, h0, h1).backward()
    if name == "dense":
        return lambda: dense(z0, z1).backward()
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


def dense(z0: torch.Tensor, z1: torch.Tensor) -> torch.Tensor:
    """Untreated NT-Xent as one cross entropy of the whole matrix."""
    z = F.normalize(torch.cat([z0, z1]), dim=1)
    logits = (z @ z.T / TEMPERATURE).fill_diagonal_(-torch.inf)
    return F.cross_entropy(logits, torch.arange(len(z)).roll(len(z0)))


def floor(views: int, threads: int, runs: int) -> float:
    """Median milliseconds of the products that the combined loss needs."""
    torch.set_num_threads(threads)
    z, h = (torch.randn(views, width) for width in (128, 512))
    x, gradient = torch.empty(min(256, views), views), torch.zeros_like(z)

    def products() -> None:
        for start in range(0, views, 256):
            rows = slice(start, min(start + 256, views))
            tile = x[: rows.stop - start]
            torch.mm(h[rows], h.T, out=tile)
            torch.mm(z[rows], z.T, out=tile)
            torch.mm(tile, z)
            gradient.addmm_(tile.T, z[rows])

    return median_ms({"floor": products}, runs)["floor"]


def measure(names: tuple[str, ...], views: int, threads: int, runs: int) -> dict[str, float]:
    """Median milliseconds of the named contenders, interleaved."""
    torch.set_num_threads(threads)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    work = {name: contender(name, views) for name in names}
    return median_ms({name: call for name, call in work.items() if call is not None}, runs)


def once(name: str, views: int, threads: int) -> float:
    """Milliseconds of the first call of one contender."""
    torch.set_num_threads(threads)
    work = contender(name, views)
    assert work is not None
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def peak(name: str, views: int, threads: int) -> tuple[float, float] | None:
    """Growth of peak memory, and peak memory of the whole process, in MB, of one contender."""
    torch.set_num_threads(threads)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    work = contender(name, views)
    if work is None:
        return None
    growth = peak_growth_mb(work)
    return growth, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def agreement(views: int, threads: int) -> float:
    """Intersection over union of the pairs selected in fp32 and in bf16."""
    torch.set_num_threads(threads)
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(10, 512, generator=generator)
    h = centres[torch.arange(views) % 10] + 2 * torch.randn(views, 512, generator=generator)
    exact, rough = (ps.select_pairs(h, BAND, precision=precision) for precision in ("fp32", "bf16"))
    return float((exact & rough).sum() / (exact | rough).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[2**power for power in range(9, 17)])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--peer-limit", type=float, default=60, help="seconds for pytorch-metric-learning at each size")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    threads = options.threads
    rows: list[dict[str, Any]] = []
    slow = "pytorch_metric_learning"
    slow_reason: str | None = None
    for views in sorted(options.sizes):
        peers = views <= MOST_WITH_PEERS
        runs = 1 if views > MOST_REPEATED else options.runs if peers else 5
        names = (*OURS, "dense", "lightly") if peers else OURS if runs > 1 else OURS[:2]
        if runs > 1:
            ms = in_process(measure, names, views, threads, runs) or {}
        else:
            ms = {name: in_process(once, name, views, threads) for name in names}
        memory = {name: in_process(peak, name, views, threads) for name in names}
        if peers and slow_reason is None:  # where it fails or takes too long, it does at every larger size
            ms |= in_process(measure, (slow,), views, threads, 5, limit=options.peer_limit) or {}
            if slow in ms:
                memory[slow] = in_process(peak, slow, views, threads, limit=options.peer_limit)
            else:
                slow_reason = f"no result at {views} views within {options.peer_limit:g} s and 8 GiB (see stderr)"
        row: dict[str, Any] = {"benchmark": "loss", "views": views, "runs": runs}
        row |= {f"{name}_ms": round(ms[name], 2) if ms.get(name) else None for name in (*OURS, *PEERS)}
        for column, quantity in enumerate(("peak", "total")):
            measured = {name: memory[name][column] if memory.get(name) else None for name in (*OURS, *PEERS)}
            row |= {f"{name}_{quantity}_mb": value and round(value, 1) for name, value in measured.items()}
        row["pytorch_metric_learning_null_because"] = slow_reason
        for name in OURS:
            for peer in ("dense", "lightly"):
                row[f"{name}_over_{peer}"] = ratio(ms.get(name), ms.get(peer))
            row[f"{name}_memory_over_lightly"] = ratio(row[f"{name}_peak_mb"], row["lightly_peak_mb"])
            half = next((r[f"{name}_ms"] for r in rows if r["views"] * 2 == views), None)
            row[f"{name}_growth_exponent"] = round(math.log2(ms[name] / half), 2) if half and ms.get(name) else None
        row["mixed_over_untreated"] = ratio(ms.get("mixed"), ms.get("untreated"))
        floor_ms = in_process(floor, views, threads, runs) if runs > 1 else None
        row |= {"floor_ms": floor_ms and round(floor_ms, 2), "combined_over_floor": ratio(ms.get("combined"), floor_ms)}
        row["bf16_agreement"] = in_process(agreement, views, threads) if peers else None
        row["targets"] = TARGETS.get(views, {})
        row["targets_met"] = {name: row[name] and row[name] <= target for name, target in row["targets"].items()}
        rows.append(row | environment(threads) | versions("lightly", "pytorch-metric-learning"))
        emit(rows, options.output)


if __name__ == "__main__":
    main()
