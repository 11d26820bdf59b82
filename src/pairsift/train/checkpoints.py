"""Checkpoints hold tensors and plain values only, so that reading one runs no code that it brings along."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from pairsift.losses.treated import is_kept
from pairsift.train.config import ConfigError
from pairsift.train.run import RunError

_SAME = "resume with the encoder that the run was started with"


def read_checkpoint(file: Path) -> dict[str, Any]:
    """A checkpoint, on the CPU, by torch's reader of tensors and plain values.

    Raises:
        RunError: damaged, holding something else than tensors and plain values, or no checkpoint of a run.
    """
    try:
        with zipfile.ZipFile(file) as archive:  # torch does not look at the checksums that it writes
            damaged = archive.testzip()
        if damaged is not None:
            raise RunError(f"{file} is damaged ({damaged}): restore it from an epoch-*.ckpt")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of pickles by others: they are refused anyway
            content: Any = torch.load(file, map_location="cpu", weights_only=True)
    except RunError:
        raise
    except pickle.UnpicklingError as error:
        raise RunError(
            f"{file} cannot be read safely, because it holds more than tensors and plain values or is damaged: restore "
            "it from an epoch-*.ckpt of a run you trust, or start anew with `overwrite=True`"
        ) from error
    except Exception as error:  # zip, end of file, storage: a damaged file has many ways to fail
        raise RunError(f"{file} cannot be read ({type(error).__name__}): restore it from an epoch-*.ckpt") from error
    expected = {"global_step": int, "state_dict": dict, "callbacks": dict, "loops": dict}
    if not isinstance(content, dict) or any(not isinstance(content.get(key), kind) for key, kind in expected.items()):
        raise RunError(f"{file} cannot be read as a checkpoint of a run: restore it from an epoch-*.ckpt")
    return content


def check_fits(file: Path, content: dict[str, Any], state: dict[str, Any]) -> None:
    """Refuse a checkpoint of another module, in one line that says where they part.

    Args:
        file: that the checkpoint is in.
        content: of the checkpoint.
        state: of the module that would go on from it.

    Raises:
        RunError: other names, or tensors of other shapes.
    """
    held = content["state_dict"]
    # What a loss keeps of its selector is there only where there is something to keep.
    names = {name for name in held.keys() ^ state.keys() if not is_kept(name.removeprefix("method.loss."))}
    for name in sorted(names):
        raise RunError(f"{file} has {'a' if name in held else 'no'} {name!r}, unlike the encoder to train: {_SAME}")
    for name, value in state.items():
        if name not in held:
            continue
        shapes = [tuple(getattr(each, "shape", ())) for each in (held[name], value)]
        if shapes[0] != shapes[1]:
            raise RunError(f"{file} has {name!r} of shape {shapes[0]}, the encoder to train {shapes[1]}: {_SAME}")


def check_plain(state: dict[str, Any]) -> None:
    """Refuse what could be written but not be read again, before training starts.

    Args:
        state: of the module: its buffers and parameters, and what encoders keep as extra state.

    Raises:
        ConfigError: something in it is neither a tensor nor a plain value, or something of the encoder no tensor.
    """
    for name, value in state.items():
        if name.startswith("encoder.") and not isinstance(value, torch.Tensor):
            raise ConfigError(
                f"{name!r} is a {type(value).__name__}, and an encoder is saved as tensors: keep it in a buffer, not "
                "in get_extra_state"
            )
        if not isinstance(value, torch.Tensor):
            _check_read_again(name, value)


def _check_read_again(name: str, value: Any) -> None:
    stream = io.BytesIO()
    try:
        torch.save(value, stream)
        stream.seek(0)
        torch.load(stream, weights_only=True)
    except Exception as error:  # what cannot be written or read, by whichever of many errors
        raise ConfigError(
            f"the extra state {name!r} cannot be read again from a checkpoint ({type(error).__name__}), which holds "
            "tensors, numbers, strings, lists and dicts only: let get_extra_state give these"
        ) from error
