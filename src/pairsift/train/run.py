"""The run directory: what a training run leaves behind, and how it is opened again."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from pairsift._base import extras
from pairsift._base.files import is_unfinished, read_tensors, remove_unfinished, write_json, write_tensors
from pairsift.train.config import TrainConfig
from pairsift.train.encoders import ImageEncoder, build_encoder, with_statistics

# Fields that say how a run is carried out, not what it computes: they may differ when it resumes.
_FREE_ON_RESUME = {
    "run_dir",
    "resume",
    "overwrite",
    "progress",
    "threads",
    "timeout",
    "memory",
    "save_features",
    "checkpoint_every",
}
_PACKAGES = ("lightning", "numpy", "pillow", "scikit-learn", "torch")


class RunError(ValueError):
    """A run directory that cannot be used as asked; the message says what is there and the remedy."""


@dataclass(frozen=True)
class Run:
    """A run directory.

    ``config.yaml`` (resolved), ``versions.json`` (versions, seed, git commit), ``metrics.csv`` (a row an epoch),
    ``tensorboard/`` (where TensorBoard is installed), ``checkpoints/`` (``last.ckpt``, ``epoch-NNNN.ckpt``),
    ``encoder.safetensors`` (at the end),
    ``decisions.jsonl`` (with ``treatment: auto``), ``mixed.csv`` and ``features.parquet`` where asked for.

    Attributes:
        path: the directory.

    Example:
        >>> import tempfile
        >>> from pairsift.train import Run, TrainConfig
        >>> folder = tempfile.TemporaryDirectory()
        >>> run = Run.start(TrainConfig(data="digits", epochs=3, run_dir=f"{folder.name}/plain"))  # as pretrain does
        >>> Run.open(run.path).config().epochs
        3
        >>> run.encoder_file.exists()  # written at the end; `load_encoder` then reads it
        False
        >>> folder.cleanup()
    """

    path: Path

    @property
    def config_file(self) -> Path:
        """The resolved configuration, ``config.yaml``."""
        return self.path / "config.yaml"

    @property
    def metrics_file(self) -> Path:
        """A row of measured means an epoch, ``metrics.csv``."""
        return self.path / "metrics.csv"

    @property
    def decisions_file(self) -> Path:
        """A line of JSON for every decision of ``treatment: auto``, ``decisions.jsonl``."""
        return self.path / "decisions.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """The checkpoint that a resumed run goes on from, ``checkpoints/last.ckpt``."""
        return self.checkpoints / "last.ckpt"

    @property
    def encoder_file(self) -> Path:
        """The trained encoder with its input normalisation, ``encoder.safetensors``."""
        return self.path / "encoder.safetensors"

    @property
    def features_file(self) -> Path:
        """Features of the training images, ``features.parquet``, where asked for."""
        return self.path / "features.parquet"

    @classmethod
    def check(cls, config: TrainConfig) -> Run:
        """Refuse a directory that the run could not use, before anything is loaded; nothing is changed.

        Raises:
            RunError: exists and neither resume nor overwrite is set; holds something else; or, on resume, no run is
                there or its settings differ.
        """
        run = cls(config.run_dir)
        if config.resume:
            run._check_resume(config)
        elif run.path.exists() and not run.path.is_dir():
            raise RunError(f"{run.path} is a file: choose another run directory")
        elif run.path.is_dir() and not all(map(is_unfinished, run.path.iterdir())):
            if not config.overwrite:
                raise RunError(
                    f"{run.path} exists: continue it with `resume=True`, replace it with `overwrite=True`, or choose "
                    "another"
                )
            if not run.config_file.exists():
                raise RunError(f"{run.path} holds something else than a run (no config.yaml): it is not overwritten")
        parent = next(folder for folder in (run.path, *run.path.absolute().parents) if folder.exists())
        if not os.access(parent, os.W_OK):
            raise RunError(f"{run.path} cannot be written: permission denied in {parent}")
        return run

    @classmethod
    def start(cls, config: TrainConfig) -> Run:
        """Make the directory for a new run, or open the one that is resumed.

        Raises:
            RunError: see `check`; or not writable.
        """
        run = cls.check(config)
        try:
            # The configuration comes first and goes last: what is killed in between is still known to be a run.
            if not config.resume:
                run.path.mkdir(parents=True, exist_ok=True)
                run._clear()
                config.save(run.config_file)
            remove_unfinished(run.path)
            run.checkpoints.mkdir(exist_ok=True)
            if not (run.path / "versions.json").exists():
                write_json(run.path / "versions.json", versions(config.seed))
        except OSError as error:
            raise RunError(f"{run.path} cannot be written: {error.strerror or error}") from error
        return run

    @classmethod
    def open(cls, path: Path | str) -> Run:
        """An existing run.

        Raises:
            RunError: no run there.
        """
        run = cls(Path(path))
        if not run.config_file.is_file():
            raise RunError(f"{path} is not a run directory (no config.yaml)")
        return run

    def config(self) -> TrainConfig:
        """The resolved configuration.

        Raises:
            ConfigError: ``config.yaml`` cannot be read.
        """
        return TrainConfig.load(self.config_file)

    def save_encoder(self, encoder: ImageEncoder, metadata: dict[str, str]) -> None:
        """Write the encoder with its input normalisation as safetensors.

        Raises:
            RunError: not writable.
        """
        state = {name: value.detach().cpu() for name, value in encoder.state_dict().items()}
        try:
            write_tensors(self.encoder_file, state, metadata)
        except SafetensorError as error:
            raise RunError(f"{self.encoder_file} cannot be written: {error}") from error

    def load_encoder(self, backbone: nn.Module | None = None) -> ImageEncoder:
        """The trained encoder, frozen, in evaluation mode, on the CPU.

        Args:
            backbone: the module that was trained, where it was not one that a name builds.

        Raises:
            RunError: training has not finished, a damaged file, or a backbone of another shape.
        """
        if not self.encoder_file.is_file():
            raise RunError(
                f"{self.path} has no encoder yet: finish the run with `resume=True` and `run_dir={str(self.path)!r}`"
            )
        try:
            state, metadata = read_tensors(self.encoder_file)
            name = metadata.get("encoder", "")
            if backbone is None and not name:
                raise RunError(
                    f"{self.path} was trained with an encoder of your own: pass it to load_encoder(backbone)"
                )
            mean, std = state["mean"], state["std"]
            backbone = build_encoder(name) if backbone is None else backbone
            encoder = with_statistics(backbone, mean.flatten().tolist(), std.flatten().tolist(), mean.dim() == 1)
            encoder.load_state_dict(state)
        except RunError:
            raise
        except (SafetensorError, KeyError, OSError, RuntimeError, ValueError) as error:
            words = " ".join(str(error).split())
            raise RunError(f"{self.encoder_file} cannot be loaded ({type(error).__name__}): {words}") from error
        return encoder.eval().requires_grad_(False)

    def _clear(self) -> None:
        """Remove everything but the configuration, whose place another takes."""
        for file in self.path.iterdir():
            if file.is_dir() and not file.is_symlink():
                shutil.rmtree(file)
            elif file != self.config_file:
                file.unlink()

    def _check_resume(self, config: TrainConfig) -> None:
        if not self.config_file.is_file():
            raise RunError(f"nothing to resume in {self.path}: it holds no run")
        old, new = self.config().model_dump(), config.model_dump()
        changed = [f"{name} ({old[name]!r}, now {new[name]!r})" for name in old if old[name] != new[name]]
        changed = [item for item in changed if item.split(" ")[0] not in _FREE_ON_RESUME]
        if changed:
            raise RunError(
                f"{self.path} was started with other settings: {', '.join(changed)}; resume without them, or start anew"
            )


def versions(seed: int) -> dict[str, Any]:
    """What a result was made with: versions, seed, machine and the git commit of the working directory."""
    commit = None
    with suppress(OSError):  # git itself may not be there
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout
    return {
        "python": platform.python_version(),
        **extras.versions(*_PACKAGES),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "seed": seed,
        "git_commit": (commit or "").strip() or None,
    }
