"""Which devices train."""

from __future__ import annotations

import torch

from pairsift.train.config import ConfigError, TrainConfig


def accelerator(config: TrainConfig) -> str:
    """Lightning's name of the device kind that the configuration asks for.

    Raises:
        ConfigError: not there, too few of them, or not able to do what is asked.
    """
    wanted = config.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: cuda is not available here; use cpu or auto")
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device: mps is not available here; use cpu or auto")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if config.precision == "fp16" and wanted == "cpu":
        raise ConfigError("precision: fp16 needs a GPU, got device cpu; use bf16, which needs no loss scaling")
    if wanted == "cuda" and config.devices > torch.cuda.device_count():
        raise ConfigError(f"devices: {config.devices} asked for, but there are {torch.cuda.device_count()} GPUs here")
    if wanted == "mps" and config.processes > 1:
        raise ConfigError(f"devices: mps has one device, got devices={config.devices}, nodes={config.nodes}")
    return "gpu" if wanted == "cuda" else wanted
