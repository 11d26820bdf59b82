"""A whole ResNet-18 training step (views excluded): combined treatment against untreated.

    python benchmarks/step.py [--batch 256] [--threads 1] [--output benchmarks/results/step.jsonl]

One JSON line: median milliseconds of interleaved steps (forward, loss, backward, SGD) under bf16 autocast.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from _common import emit, environment, median_ms, ratio

import pairsift as ps
from pairsift.train import ImageEncoder, Projector, build_encoder

TARGET = 1.03


def training_step(name: str, n_features: int, loss: ps.losses.NTXentLoss, batch: int) -> Callable[[], None]:
    """One optimisation step of the named encoder on seeded images."""
    torch.manual_seed(0)
    images = torch.rand(2 * batch, 3, 32, 32)
    encoder, projector = ImageEncoder(build_encoder(name)), Projector(n_features, 512, 128)
    parameters = [*encoder.parameters(), *projector.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            h = encoder(images)
            z0, z1 = projector(h).chunk(2)
            value = loss(z0, z1, *h.chunk(2))
        value.backward()
        optimizer.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256, help="images; twice as many views")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    losses = {
        "untreated": ps.losses.NTXentLoss(0.5),
        "combined": ps.losses.NTXentLoss(0.5, ps.RankBand(0.15, 0.22), ps.Treatment(0.03, 0.6)),
    }
    steps = {name: training_step("resnet18", 512, loss, options.batch) for name, loss in losses.items()}
    ms = median_ms(steps, options.runs)
    combined_over_untreated = ratio(ms["combined"], ms["untreated"])
    row = {"benchmark": "step", "encoder": "resnet18", "views": 2 * options.batch, "precision": "bf16"}
    row |= {f"{name}_ms": round(value, 1) for name, value in ms.items()}
    row |= {
        "combined_over_untreated": combined_over_untreated,
        "target": TARGET,
        "target_met": combined_over_untreated <= TARGET,
    }
    emit([row | environment(options.threads)], options.output)


if __name__ == "__main__":
    main()
