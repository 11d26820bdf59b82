"""Measures a ResNet-18 training step of every objective, without views, treated and untreated.

    python -m lab.benchmarks.step [--batch 256] [--threads 1] [--precision bf16]
        [--output lab/benchmarks/results/step.jsonl]

One JSON line per objective: median milliseconds of interleaved steps (forward, loss, backward, SGD), under bf16
autocast or fp32. MoCo's queue of 4,096 keys is full and its key encoder runs too. The two towers share one encoder.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import pairsift as ps
from lab.benchmarks._common import emit, environment, median_ms, ratio
from pairsift.train import ImageEncoder, Projector, build_encoder

TARGET = 1.03
BAND, TREATMENT = ps.RankBand(0.15, 0.22), ps.Treatment(0.03, 0.6)
N_FEATURES, WIDTH, QUEUE = 512, 128, 4096
OBJECTIVES: dict[str, Callable[..., nn.Module]] = {
    "simclr": partial(ps.losses.NTXentLoss, 0.5),
    "moco": partial(ps.losses.MoCoLoss, QUEUE, WIDTH, N_FEATURES),
    "spectral": partial(ps.losses.SpectralLoss, 10.0),
    "two towers": partial(ps.losses.TwoTowerLoss, 0.07),
}


def training_step(
    objective: str,
    treated: bool,
    batch: int,
    encoder: str = "resnet18",
    n_features: int = N_FEATURES,
    precision: str = "bf16",
) -> Callable[[], None]:
    """One optimisation step on seeded images."""
    torch.manual_seed(0)
    images = torch.rand(2 * batch, 3, 32, 32)
    model = nn.Sequential(ImageEncoder(build_encoder(encoder)), Projector(n_features, 512, WIDTH))
    keys = copy.deepcopy(model).requires_grad_(False)
    loss = OBJECTIVES[objective](selector=BAND, treatment=TREATMENT if treated else None)
    if objective == "moco":
        loss.enqueue(torch.randn(QUEUE, WIDTH), torch.randn(QUEUE, N_FEATURES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            h = model[0](images)
            z = model[1](h)
            if objective == "moco":
                with torch.no_grad():
                    h_k = keys[0](images)
                    k = keys[1](h_k)
                value = loss(z, k, h, h_k)
            else:
                value = loss(*z.chunk(2), *h.chunk(2))
        value.backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256, help="images; twice as many views")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16", help="fp32 where bf16 is emulated")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for objective in OBJECTIVES:
        steps = {
            name: training_step(objective, name == "combined", options.batch, precision=options.precision)
            for name in ("untreated", "combined")
        }
        ms = median_ms(steps, options.runs)
        over = ratio(ms["combined"], ms["untreated"])
        row: dict[str, Any] = {"benchmark": "step", "objective": objective, "encoder": "resnet18"}
        row |= {"views": 2 * options.batch, "precision": options.precision, "runs": options.runs}
        row |= {f"{name}_ms": round(value, 1) for name, value in ms.items()}
        row |= {"combined_over_untreated": over, "target": TARGET, "target_met": bool(over and over <= TARGET)}
        rows.append(row | environment(options.threads))
        emit(rows, options.output)


if __name__ == "__main__":
    main()
