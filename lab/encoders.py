"""Encoders of images that several studies share. They are kept in `runs/encoders`, and a stopped run continues."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lab.study import data_folder
from pairsift.train import Run, TrainConfig, pretrain

RUNS = Path("runs/encoders")
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


def configuration(name: str, kind: str, treatment: str, seed: int, runs: Path = RUNS, **more: Any) -> TrainConfig:
    """The settings of a run with resnet-small, batch 256, 30 epochs and bf16.

    Args:
        name: one of `SETS`.
        kind: one of `KINDS`, which mix a fifth of the images.
        treatment, seed: see `TrainConfig`.
        runs: folder of the run directories.
        more: other settings.
    """
    values: dict[str, Any] = {**SETS[name], **KINDS[kind], "treatment": treatment, "seed": seed, "precision": "bf16"}
    values["data"] = str(data_folder() / values["data"])
    values["run_dir"] = runs / f"{name}-{kind}-{treatment}-{seed}"
    return TrainConfig.build(values | {"save_features": True, "progress": False, "threads": 1} | more)


def trained(config: TrainConfig) -> Run:
    """The run of a configuration. It is trained unless it is finished."""
    run = Run(config.run_dir)
    if not run.encoder_file.exists():
        resume = run.last_checkpoint.exists()
        pretrain(config.model_copy(update={"resume": resume, "overwrite": not resume}))
    return run
