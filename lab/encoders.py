"""Encoders that studies and the detection benchmark look through: SimCLR at CPU scale on plain and mixed image sets.

    python -m lab.encoders --runs DIR [--threads 1]

Needs PAIRSIFT_DATA. Some 6 minutes a run on one core; finished runs are kept, an interrupted one is continued. Each run
directory holds the features of its own training images (features.parquet, with the mixed ones marked).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from lab.records import data_folder
from pairsift.train import Run, TrainConfig, pretrain

SEEDS = (0, 1, 2)
SETS = {
    "cifar10": {"data": "cifar10/train.parquet", "per_class": 1000},
    "imagenette": {"data": "imagenette96/train.parquet", "image_size": 32},
    "tiny-imagenet": {"data": "tiny_imagenet_80/train.parquet", "image_size": 32, "per_class": 125},
}
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "pixel": {"mix": 0.2, "mix_kind": "pixel"},
    "composite": {"mix": 0.2, "mix_kind": "composite"},
}
# What is trained, most wanted first: set, kind, treatment, seeds.
RUNS = [
    ("cifar10", "pixel", "none", SEEDS), ("imagenette", "pixel", "none", SEEDS[:1]),
    ("cifar10", "composite", "none", SEEDS[:1]), ("tiny-imagenet", "pixel", "none", SEEDS[:1]),
    ("cifar10", "pixel", "combined", SEEDS), ("cifar10", "plain", "none", SEEDS),
    ("cifar10", "composite", "none", SEEDS), ("imagenette", "plain", "none", SEEDS[:1]),
    ("tiny-imagenet", "plain", "none", SEEDS[:1]),
]  # fmt: skip


def configuration(root: Path, runs: Path, name: str, kind: str, treatment: str, seed: int) -> TrainConfig:
    """The settings of one run; CPU scale: resnet-small, batch 256, 30 epochs, bf16."""
    values: dict[str, Any] = {**SETS[name], **KINDS[kind], "treatment": treatment, "seed": seed, "precision": "bf16"}
    values["data"] = str(root / values["data"])
    run_dir = runs / f"{name}-{kind}-{treatment}-{seed}"
    return TrainConfig.build(values | {"run_dir": run_dir, "save_features": True, "progress": False})


def main() -> None:
    """Train the encoders that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    root = data_folder()
    for name, kind, treatment, seeds in RUNS:
        for seed in seeds:
            config = configuration(root, options.runs, name, kind, treatment, seed)
            if Run(config.run_dir).features_file.exists():
                continue
            resume = Run(config.run_dir).last_checkpoint.exists()
            update = {"threads": options.threads, "resume": resume, "overwrite": not resume}
            pretrain(config.model_copy(update=update), say=print)


if __name__ == "__main__":
    main()
