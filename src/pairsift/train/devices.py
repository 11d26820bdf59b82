"""Which devices train."""

from __future__ import annotations

import warnings

import torch

from pairsift._base.process import first_process
from pairsift.train.config import ConfigError, TrainConfig

# What torch calls processors that have no arithmetic for bf16; it emulates it there.
_EMULATES_BF16 = ("NO AVX", "AVX2")


def accelerator(config: TrainConfig) -> str:
    """Lightning's name of the device kind that the configuration asks for.

    Raises:
        ConfigError: not there, too few of them, or not able to do what is asked.

    Warns:
        UserWarning: bf16 on a processor that has to emulate it.
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
    slow = wanted == "cpu" and torch.backends.cpu.get_cpu_capability() in _EMULATES_BF16
    if config.precision == "bf16" and slow and first_process():
        warnings.warn(
            "precision: this processor has no bf16 and emulates it, many times slower than fp32; use fp32", stacklevel=2
        )
    if wanted == "cuda" and config.devices > torch.cuda.device_count():
        raise ConfigError(f"devices: {config.devices} asked for, but there are {torch.cuda.device_count()} GPUs here")
    if wanted == "mps" and config.processes > 1:
        raise ConfigError(f"devices: mps has one device, got devices={config.devices}, nodes={config.nodes}")
    return "gpu" if wanted == "cuda" else wanted
