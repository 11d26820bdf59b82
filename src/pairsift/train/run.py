"""The run directory of a training run, and its checkpoints.

Checkpoints hold tensors and plain values only, so reading one never executes code from it.
"""

from __future__ import annotations

import io
import os
import pickle
import platform
import re
import shutil
import subprocess
import warnings
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import nn

from pairsift._base import extras
from pairsift._base.files import is_unfinished, read_tensors, remove_unfinished, write_json, write_tensors
from pairsift.losses.treated import is_kept
from pairsift.train.config import RENAMED, ConfigError, TrainConfig
from pairsift.train.encoders import ImageEncoder, build_encoder, with_statistics

# Fields that do not change the result of a run. They may differ when it resumes.
_FREE_ON_RESUME = {
    "run_dir", "resume", "overwrite", "progress", "threads", "timeout", "memory_gb", "save_features",
    "checkpoint_every",
    "logger",
}  # fmt: skip
_SAME = "resume with the encoder that the run was started with, or start anew with `overwrite=True`"
_PACKAGES = ("lightning", "numpy", "pillow", "scikit-learn", "torch")


class RunError(ValueError):
    """A run directory or checkpoint that cannot be used. The message names the problem and the remedy."""


@dataclass(frozen=True)
class Run:
    """A run directory.

    It holds ``config.yaml`` (resolved), ``versions.json`` (versions, seed, git commit), ``metrics.csv`` (a row per
    epoch), ``checkpoints/`` (``last.ckpt``, ``epoch-NNNN.ckpt``) and, at the end, ``encoder.safetensors``. Further
    files are ``tensorboard/`` where TensorBoard is installed, ``decisions.jsonl`` with ``treatment: auto``,
    ``mixed.csv`` with `mix`, and ``features.parquet`` with `save_features`.

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
        """The resolved configuration, ``config.yaml``; of an exported encoder ``config.json``."""
        return self._first("config.yaml", "config.json")

    @property
    def metrics_file(self) -> Path:
        """Means of every epoch, ``metrics.csv``."""
        return self.path / "metrics.csv"

    @property
    def decisions_file(self) -> Path:
        """Decisions of ``treatment: auto``, one per line, ``decisions.jsonl``."""
        return self.path / "decisions.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def last_checkpoint(self) -> Path:
        """The checkpoint that a resumed run continues from, ``checkpoints/last.ckpt``."""
        return self.checkpoints / "last.ckpt"

    @property
    def encoder_file(self) -> Path:
        """The trained encoder with its input normalisation, ``encoder.safetensors``; exported ``model.safetensors``."""
        return self._first("encoder.safetensors", "model.safetensors")

    @property
    def features_file(self) -> Path:
        """Features of the training images, ``features.parquet``, written with `save_features`."""
        return self.path / "features.parquet"

    def _first(self, own: str, exported: str) -> Path:
        """The file of a run, or of an exported encoder where only that is there."""
        file, other = self.path / own, self.path / exported
        return other if other.is_file() and not file.exists() else file

    @classmethod
    def check(cls, config: TrainConfig) -> Run:
        """Refuse a directory that the run cannot use, before any data is loaded. Nothing is changed.

        Raises:
            RunError: the directory exists and neither resume nor overwrite is set, or it does not hold a run. On
                resume: it holds no run, or a run with other settings.
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
        """Create the directory of a new run, or open that of a resumed run.

        Raises:
            RunError: see `check`, or the directory is not writable.
        """
        run = cls.check(config)
        try:
            # The configuration is written first and removed last, so a killed run is still recognised as a run.
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
        """Open an existing run.

        Raises:
            RunError: the directory holds no run.
        """
        run = cls(Path(path))
        if not run.config_file.is_file():
            raise RunError(f"{path} is not a run directory (no config.yaml)")
        return run

    def config(self, **changes: Any) -> TrainConfig:
        """The resolved configuration with some changes. Runs of version 0.2 are read, whose fields had other names.

        Raises:
            ConfigError: ``config.yaml`` cannot be read.
        """
        values = TrainConfig.read(self.config_file)
        if values.get("accumulate_grad_batches") == 1:  # once a field with one allowed value
            del values["accumulate_grad_batches"]
        return TrainConfig.build({RENAMED.get(name, name): value for name, value in values.items()} | changes)

    def save_encoder(self, encoder: ImageEncoder, metadata: dict[str, str]) -> None:
        """Write the encoder with its input normalisation as safetensors.

        Raises:
            RunError: the file cannot be written.
        """
        state = {name: value.detach().cpu() for name, value in encoder.state_dict().items()}
        try:
            write_tensors(self.encoder_file, state, metadata)
        except SafetensorError as error:
            raise RunError(f"{self.encoder_file} cannot be written: {error}") from error

    def load_encoder(self, backbone: nn.Module | None = None) -> ImageEncoder:
        """The trained encoder, frozen, in evaluation mode, on the CPU.

        Args:
            backbone: the module that was trained, if it was not built by name.

        Raises:
            RunError: training has not finished, the file is damaged, or the backbone has another shape.
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
        """Remove everything except the configuration, which is replaced later."""
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


def read_checkpoint(file: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU.

    Raises:
        RunError: the file is damaged, holds more than tensors and plain values, or is not a checkpoint of a run.
    """
    try:
        with zipfile.ZipFile(file) as archive:  # torch does not check the checksums that it writes
            damaged = archive.testzip()
        if damaged is not None:
            raise RunError(f"{file} is damaged ({damaged}): restore it from an epoch-*.ckpt")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about foreign pickles, which are refused anyway
            content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except RunError:
        raise
    except pickle.UnpicklingError as error:
        raise RunError(
            f"{file} cannot be read safely, because it holds more than tensors and plain values or is damaged: restore "
            "it from an epoch-*.ckpt of a run you trust, or start anew with `overwrite=True`"
        ) from error
    except Exception as error:  # zip, end of file, storage: damaged files raise many errors
        raise RunError(f"{file} cannot be read ({type(error).__name__}): restore it from an epoch-*.ckpt") from error
    expected = {"global_step": int, "state_dict": dict, "callbacks": dict, "loops": dict}
    if not isinstance(content, dict) or any(not isinstance(content.get(key), kind) for key, kind in expected.items()):
        raise RunError(f"{file} cannot be read as a checkpoint of a run: restore it from an epoch-*.ckpt")
    return content


def check_fits(file: Path, content: dict[str, Any], state: dict[str, Any]) -> None:
    """Refuse a checkpoint of another module, and name the first difference.

    Args:
        file: path of the checkpoint.
        content: of the checkpoint.
        state: state of the module that continues from it.

    Raises:
        RunError: other names, or tensors of other shapes.
    """
    held = with_current_names(content["state_dict"])
    # The state of a selector is in a checkpoint only where the selector has state.
    names = {name for name in held.keys() ^ state.keys() if not is_kept(name.removeprefix("method.loss."))}
    for name in sorted(names):
        raise RunError(f"{file} has {'a' if name in held else 'no'} {name!r}, unlike the modules to train: {_SAME}")
    for name, value in state.items():
        if name not in held:
            continue
        shapes = [tuple(getattr(each, "shape", ())) for each in (held[name], value)]
        if shapes[0] != shapes[1]:
            raise RunError(f"{file} has {name!r} of shape {shapes[0]}, the modules to train {shapes[1]}: {_SAME}")


def with_current_names(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a module with the names of today. Version 0.2 kept the state of a `PairPolicy` as "evidence"."""
    return {re.sub(r"^evidence\.", "policy.", name): value for name, value in state.items()}


def check_plain(state: dict[str, Any]) -> None:
    """Refuse state that could be written but not read again, before training starts.

    Args:
        state: state of the module, with parameters, buffers and extra state.

    Raises:
        ConfigError: a value that is neither a tensor nor a plain value, or a value of the encoder that is not a tensor.
    """
    for name, value in state.items():
        if name.startswith("encoder.") and not isinstance(value, torch.Tensor):
            raise ConfigError(
                f"{name!r} is a {type(value).__name__}, and an encoder is saved as tensors: keep it in a buffer, not "
                "in get_extra_state"
            )
        if not isinstance(value, torch.Tensor):
            _check_read_again(name, value)


def versions(seed: int) -> dict[str, Any]:
    """Versions, seed, machine and git commit of the working directory, to reproduce a result."""
    commit = None
    with suppress(OSError):  # git may not be installed
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout
    return {
        "python": platform.python_version(),
        **extras.versions(*_PACKAGES),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "seed": seed,
        "git_commit": (commit or "").strip() or None,
    }


def _check_read_again(name: str, value: Any) -> None:
    stream = io.BytesIO()
    try:
        torch.save(value, stream)
        stream.seek(0)
        torch.load(stream, weights_only=True)
    except Exception as error:  # writing and reading raise many kinds of errors
        raise ConfigError(
            f"the extra state {name!r} cannot be read again from a checkpoint ({type(error).__name__}), which holds "
            "tensors, numbers, strings, lists and dicts only: let get_extra_state give these"
        ) from error
