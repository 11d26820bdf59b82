"""Many steps of every loss and many scans in one process: memory, objects and open files stay as they are.

    python tests/slow/campaigns/soak.py --steps 200000 --scans 200

Memory is the process's own (resident set); its slope is a straight line through the measurements after the first fifth,
in which caches and the heap fill: for some fifty scans.
"""

from __future__ import annotations

import argparse
import gc
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from results import OUTPUT, merge

import pairsift as ps
from pairsift.train.run import versions

MEASUREMENTS = 50
# What may be grown over a whole soak: allocators round, and a leak of the smallest tensor a step is far more.
MOST_MB, MOST_OBJECTS = 16, 500


def losses() -> dict[str, Callable[[], Any]]:
    """A step of every loss, forward and backward, on new tensors."""
    band, treatment = ps.RankBand(0.1, 0.5), ps.Treatment(margin=0.05, temperature_scale=0.7)
    settings: dict[str, Any] = {"selector": band, "treatment": treatment}
    moco = ps.losses.MoCoLoss(64, 8, 12, **settings)
    labels = torch.arange(8) % 4
    made: dict[str, Callable[..., Any]] = {
        "NTXentLoss": ps.losses.NTXentLoss(0.3, **settings),
        "NTXentLoss, tiled": ps.losses.NTXentLoss(0.3, tile=8, **settings),
        "NTXentLoss, random pairs": ps.losses.NTXentLoss(0.3, select="random", **settings),
        "MoCoLoss": moco,
        "SpectralLoss": ps.losses.SpectralLoss(2.0, **settings),
        "TwoTowerLoss": ps.losses.TwoTowerLoss(0.2, True, **settings),
        "MixedContrastiveLoss": lambda z0, z1, h0, h1: mixed(z0, z1, labels, h0, h1),
        "LabelledNTXentLoss": lambda z0, z1, h0, h1: labelled(z0, labels, h0),
        "SemanticNegativeLoss": lambda z0, z1, h0, h1: semantic(z0, z1, z1.flip(0)),
    }
    mixed = ps.losses.MixedContrastiveLoss(0.3, **settings)
    labelled = ps.losses.LabelledNTXentLoss(0.3, **settings)
    semantic = ps.losses.SemanticNegativeLoss(0.1, treatment)
    return {name: lambda loss=loss: step(loss) for name, loss in made.items()}


def step(loss: Callable[..., Any]) -> None:
    """One step."""
    z0, z1 = torch.randn(2, 8, 8)
    h0, h1 = torch.randn(2, 8, 12)
    z0.requires_grad_()
    loss(z0, z1, h0, h1).backward()


def scan(folder: Path, number: int) -> None:
    """One scan of new features, saved, loaded, and its page."""
    rng = np.random.default_rng(number)
    features = 3 * rng.standard_normal((5, 16))[np.arange(2000) % 5] + rng.standard_normal((2000, 16))
    out = folder / "out"
    ps.scan(features.astype(np.float32), 5, threads=2, output=out, overwrite=True)
    ps.Scan.load(out).report(out / "report.html")


def soak(name: str, work: Callable[[int], Any], count: int) -> dict[str, Any]:
    """Call work so often; how memory, objects and open files went."""
    process, rows = psutil.Process(), []
    every, start = max(1, count // MEASUREMENTS), time.perf_counter()
    for i in range(count):
        work(i)
        if (i + 1) % every == 0:
            gc.collect()
            rows.append((i + 1, process.memory_info().rss / 1e6, len(gc.get_objects()), process.num_fds()))
    settled = np.array(rows[len(rows) // 5 :], float)
    calls = settled[:, 0] - settled[:, 0].mean()
    slopes = (calls @ settled[:, 1:]) / (calls @ calls)
    grown = {"mb": slopes[0] * count, "objects": slopes[1] * count, "files": settled[-1, 3] - settled[0, 3]}
    flat = grown["mb"] <= MOST_MB and grown["objects"] <= MOST_OBJECTS and grown["files"] <= 0
    return {
        "what": name, "calls": count, "seconds": round(time.perf_counter() - start),
        "mb": round(float(settled[-1, 1])), "slope_bytes_a_call": round(1e6 * float(slopes[0]), 2),
        "grown_mb": round(float(grown["mb"]), 2), "grown_objects": round(float(grown["objects"])),
        "open_files": int(settled[-1, 3]), "grown_files": int(grown["files"]), "flat": bool(flat),
    }  # fmt: skip


def main() -> None:
    """Soak losses and scans and write what came of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=200_000, help="of all losses together")
    parser.add_argument("--scans", type=int, default=200)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    steps = list(losses().values())
    rows = [soak(f"steps of {len(steps)} losses", lambda i: steps[i % len(steps)](), options.steps)]
    print(json.dumps(rows[-1]), flush=True)
    with tempfile.TemporaryDirectory() as name:
        rows.append(soak("scans", lambda i: scan(Path(name), i), options.scans))
    print(json.dumps(rows[-1]), flush=True)
    merge(options.output, "soak", rows, versions(0))
    raise SystemExit(not all(row["flat"] for row in rows))


if __name__ == "__main__":
    main()
