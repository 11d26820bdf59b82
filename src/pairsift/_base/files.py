"""Files that are either complete or absent: they are written under a temporary name, synced and then renamed."""

from __future__ import annotations

import json
import os
import re
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_CHECKSUM = "crc32"
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path that replaces `path` when the block ends without an error.

    The content is synced to the disk before the renaming, and the renaming before the block is left. A crash of the
    machine therefore leaves either the old file or the new one. The file gets the permissions of any new file, whatever
    those of the temporary one are: safetensors writes files that their owner alone can read.

    Raises:
        OSError: writing failed, for example on a full disk. The error names `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        usual = _usual_mode(temporary)
        yield temporary
        temporary.chmod(usual)
        _to_disk(temporary, os.O_RDWR)
        os.replace(temporary, path)
        with suppress(OSError):  # some systems cannot open a folder, and some file systems cannot sync one
            _to_disk(path.parent, os.O_RDONLY)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _usual_mode(file: Path) -> int:
    """Make an empty file, and return the permissions that the umask gives it."""
    file.touch()
    return file.stat().st_mode


def give_usual_modes(folder: Path) -> None:
    """Give all files in a folder and below it the permissions of a new file, which other libraries withhold."""
    with tempfile.TemporaryDirectory(dir=folder) as probe:
        usual = _usual_mode(Path(probe) / "file")
    for file in folder.rglob("*"):
        if file.is_file():
            file.chmod(usual)


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files that killed processes left in a folder and below it."""
    for file in folder.rglob(".*.tmp"):
        if is_unfinished(file):
            file.unlink(missing_ok=True)


def is_unfinished(file: Path) -> bool:
    """Whether a file is a temporary file of `replacing`."""
    return _TEMPORARY.fullmatch(file.name) is not None and file.is_file()


def write_json(path: Path, content: Any) -> None:
    """Write JSON, completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n")


def write_tensors(path: Path, tensors: dict[str, Any], metadata: dict[str, str]) -> None:
    """Write safetensors, completely or not at all, with a checksum of the content in the metadata.

    The same content gives the same bytes. Tensors and metadata have names; tensors are on the CPU.

    Raises:
        safetensors.SafetensorError, OSError: the file cannot be written.
    """
    from safetensors.torch import save_file

    tensors = {name: each.contiguous() for name, each in tensors.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=metadata | {_CHECKSUM: _checksum(tensors, metadata)})
        _order_metadata(temporary)


def _order_metadata(file: Path) -> None:
    """Sort the metadata of a safetensors file, because its order differs between processes."""
    with file.open("r+b") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        stream.seek(8)
        stream.write(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length))


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Read tensors and metadata, and check them against the checksum if there is one.

    Raises:
        ValueError: the checksum differs.
        safetensors.SafetensorError, OSError: the file is missing or damaged.
    """
    from safetensors import safe_open

    path.open("rb").close()  # a missing file, or a folder, gives the error of the system
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    written = metadata.pop(_CHECKSUM, None)
    if written is not None and written != _checksum(tensors, metadata):
        raise ValueError(f"{path.name} is damaged: its content has another checksum than when it was written")
    return tensors, metadata


def _checksum(tensors: dict[str, Any], metadata: dict[str, str]) -> str:
    import torch

    crc = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for name, each in sorted(tensors.items()):
        crc = zlib.crc32(f"{name} {each.dtype} {tuple(each.shape)}".encode(), crc)
        crc = zlib.crc32(each.flatten().view(torch.uint8).numpy().data, crc) if each.numel() else crc
    return f"{crc:08x}"


def _to_disk(path: Path, mode: int) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
