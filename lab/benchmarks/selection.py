"""Measures the cost of selection by affinity: a ResNet-18 step without views, and the fits between steps.

    python -m lab.benchmarks.selection [--batch 256] [--threads 1] [--output lab/benchmarks/results/selection.jsonl]

One JSON line per row. "step": median milliseconds of interleaved steps (forward, loss, backward, SGD) under bf16
autocast: untreated, with the combined treatment of the band, and with that of confident negatives and same-class
weights. Features are random. "refit": median seconds of a fit to the bank with the decision of `treatment="auto"`, and
its share of the steps between fits. "patches": median seconds of the guide `patches`, which is computed once, and its
share of an epoch of untreated steps.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import pairsift as ps
from lab.benchmarks._common import emit, environment, median_ms, ratio
from pairsift.same_class import estimate, patch_features
from pairsift.train import ImageEncoder, Projector, TrainConfig, build_encoder

TARGET = 1.03
N_FEATURES, WIDTH, IMAGES = 512, 128, 10_000


def bank(rows: int, columns: int) -> Tensor:
    """Features that fall into ten classes, as unclearly as those of a short run."""
    draw = torch.Generator().manual_seed(0)
    centres = torch.randn(10, columns, generator=draw)
    return centres.repeat_interleave(rows // 10, 0) + torch.randn(rows, columns, generator=draw)


def training_step(loss: nn.Module, affinity: ps.Affinity | None, batch: int) -> Callable[[], None]:
    """One optimisation step on seeded images."""
    torch.manual_seed(0)
    images = torch.rand(2 * batch, 3, 32, 32)
    rows = torch.randperm(IMAGES)[:batch]
    model = nn.Sequential(ImageEncoder(build_encoder("resnet18")), Projector(N_FEATURES, 512, WIDTH))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            h = model[0](images)
            z = model[1](h)
            value = loss(*z.chunk(2), *h.detach().chunk(2), rows=rows)
        value.backward()
        optimizer.step()

    return step


def step_row(batch: int, runs: int) -> dict[str, Any]:
    """Steps of every selection, interleaved."""
    affinity = ps.Affinity.fit(bank(IMAGES, N_FEATURES))
    selector, treatment = ps.ConfidentNegatives(affinity), ps.Treatment(0.03, 0.6, same_class_weight=1.0)
    steps = {
        "untreated": training_step(ps.losses.NTXentLoss(0.2), None, batch),
        "band": training_step(ps.losses.NTXentLoss(0.2, ps.RankBand(0.15, 0.22), ps.Treatment(0.03, 0.6)), None, batch),
        "affinity": training_step(ps.losses.NTXentLoss(0.2, selector, treatment), affinity, batch),
    }
    ms = median_ms(steps, runs)
    over = ratio(ms["affinity"], ms["untreated"])
    row: dict[str, Any] = {"benchmark": "selection", "part": "step", "encoder": "resnet18", "views": 2 * batch}
    row |= {"precision": "bf16", "runs": runs} | {f"{name}_ms": round(value, 1) for name, value in ms.items()}
    row |= {"band_over_untreated": ratio(ms["band"], ms["untreated"]), "affinity_over_untreated": over}
    return row | {"target": TARGET, "target_met": bool(over and over <= TARGET)}


def refit_row(columns: int, step_ms: float, batch: int, runs: int) -> dict[str, Any]:
    """A refit and its decision for a bank of 10,000 images, against a step of ResNet-18."""
    features = bank(IMAGES, columns)
    selector = ps.ConfidentNegatives(ps.Affinity.fit(features))
    parts = {"fit": lambda: ps.Affinity.fit(features), "decision": lambda: estimate(selector, features)}
    ms = median_ms(parts, runs)
    steps = TrainConfig.model_fields["refit_every"].default * (IMAGES // batch)
    row: dict[str, Any] = {"benchmark": "selection", "part": "refit", "images": IMAGES, "columns": columns}
    row |= {"runs": runs} | {f"{name}_s": round(value / 1e3, 2) for name, value in ms.items()}
    row |= {"steps_between": steps, "per_step_ms": round(sum(ms.values()) / steps, 1)}
    return row | {"over_untreated_step": round(sum(ms.values()) / steps / step_ms, 4)}


def patches_row(step_ms: float, batch: int, runs: int) -> dict[str, Any]:
    """Features of small patches of 10,000 images, and the affinity fitted to them."""
    images = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8).numpy()
    features = patch_features(images)
    parts = {"features": lambda: patch_features(images), "fit": lambda: ps.Affinity.fit(features)}
    ms = median_ms(parts, runs)
    row: dict[str, Any] = {"benchmark": "selection", "part": "patches", "images": IMAGES, "runs": runs}
    row |= {f"{name}_s": round(value / 1e3, 2) for name, value in ms.items()}
    return row | {"over_untreated_epoch": round(sum(ms.values()) / (IMAGES // batch * step_ms), 4)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=256, help="images; twice as many views")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [step_row(options.batch, options.runs) | environment(options.threads)]
    emit(rows, options.output)
    for columns in (128, N_FEATURES):
        rows.append(refit_row(columns, rows[0]["untreated_ms"], options.batch, options.runs))
        rows[-1] |= environment(options.threads)
        emit(rows, options.output)
    rows.append(patches_row(rows[0]["untreated_ms"], options.batch, options.runs) | environment(options.threads))
    emit(rows, options.output)


if __name__ == "__main__":
    main()
