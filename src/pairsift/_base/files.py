"""Files that are either whole or not there: written beside their place and to the disk, then renamed into it."""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_CHECKSUM = "crc32"
_TEMPORARY = re.compile(r"\..+\.\d+\.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of `path` when the block ends without an error.

    Its content is on the disk before it takes the place, and the change of place is when the block is left: a crash of
    the machine, too, leaves the old file or the new one.

    Raises:
        OSError: what was written could not be, on a full disk say; it names `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        _to_disk(temporary, os.O_RDWR)
        os.replace(temporary, path)
        with suppress(OSError):  # not every system can open a folder, nor every file system sync one
            _to_disk(path.parent, os.O_RDONLY)
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Remove temporary files in a folder, and those below it, that killed processes left there."""
    for file in folder.rglob(".*.tmp"):
        if is_unfinished(file):
            file.unlink(missing_ok=True)


def is_unfinished(file: Path) -> bool:
    """Whether a file is a temporary one of `replacing`."""
    return _TEMPORARY.fullmatch(file.name) is not None and file.is_file()


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n")


def write_tensors(path: Path, tensors: dict[str, Any], metadata: dict[str, str]) -> None:
    """Write safetensors whole or not at all, with a checksum of names, tensors and metadata among these.

    The same content gives the same bytes.

    Args:
        path: file to write.
        tensors: by name, on the CPU.
        metadata: by name.

    Raises:
        safetensors.SafetensorError, OSError: not writable.
    """
    from safetensors.torch import save_file

    tensors = {name: each.contiguous() for name, each in tensors.items()}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=metadata | {_CHECKSUM: _checksum(tensors, metadata)})
        _order_metadata(temporary)


def _order_metadata(file: Path) -> None:
    """Sort the metadata of a safetensors file, whose order is another in every process: same content, same bytes."""
    with file.open("r+b") as stream:
        length = int.from_bytes(stream.read(8), "little")
        header = json.loads(stream.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        stream.seek(8)
        stream.write(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length))


def read_tensors(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Tensors and metadata, held against their checksum where there is one.

    Raises:
        ValueError: another checksum.
        safetensors.SafetensorError, OSError: no such file, or a damaged one.
    """
    from safetensors import safe_open

    path.open("rb").close()  # what is not there, or no file, is said by the system's own error
    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    written = metadata.pop(_CHECKSUM, None)
    if written is not None and written != _checksum(tensors, metadata):
        raise ValueError(f"{path.name} is damaged: what it holds has another checksum than what was written")
    return tensors, metadata


def _checksum(tensors: dict[str, Any], metadata: dict[str, str]) -> str:
    import torch

    crc = zlib.crc32(json.dumps(metadata, sort_keys=True).encode())
    for name, each in sorted(tensors.items()):
        crc = zlib.crc32(f"{name} {each.dtype} {tuple(each.shape)}".encode(), crc)
        crc = zlib.crc32(each.flatten().view(torch.uint8).numpy().data, crc) if each.numel() else crc
    return f"{crc:08x}"


def _to_disk(path: Path, mode: int) -> None:
    """Wait until a file, or the names in a folder, are where a power cut leaves them."""
    descriptor = os.open(path, mode)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
