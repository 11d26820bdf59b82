"""Read files of arrays (.npy, .npz, .pt, .safetensors, faiss) without running code or exceeding the free memory."""

from __future__ import annotations

import math
import pickle
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import psutil
from numpy.lib import format as npy
from numpy.typing import NDArray

from pairsift._base.checks import first_line
from pairsift._base.extras import needs
from pairsift.data.errors import DataError

ARRAY_SUFFIXES = (".npy", ".npz", ".pt", ".pth", ".safetensors", ".faiss", ".index")


class Header(NamedTuple):
    """Shape and type of an array, known before it is read; `kind` is NumPy's letter, "f" for floating point."""

    shape: tuple[int, ...]
    kind: str


class ArrayFile(Protocol):
    """Arrays of a file by name."""

    names: list[str]

    def header(self, name: str) -> Header:
        """Shape and kind of an array, without reading it."""

    def read(self, name: str) -> NDArray[Any]:
        """An array."""


def open_arrays(path: Path) -> ArrayFile:
    """Open a file of named arrays: .npz, .pt, .safetensors or an index of faiss.

    Raises:
        DataError: not readable, or no arrays in it.
    """
    suffix, what = path.suffix.lower(), "a file of tensors (weights_only=True)"
    try:
        if suffix == ".npz":
            what = "a numpy file"
            return NpzFile(path)
        if suffix == ".safetensors":
            what = "safetensors"
            return SafetensorsFile(path)
        if suffix in (".faiss", ".index"):
            what = "an index of faiss"
            return FaissFile(path)
        return TorchFile(path)
    except DataError:
        raise
    except Exception as error:  # zip, pickle, header: a damaged file has many ways to fail
        raise DataError(f"{path} cannot be read as {what}: {first_line(error)}") from error


def open_npy(path: Path) -> NDArray[Any]:
    """A memory-mapped .npy file.

    Raises:
        DataError: not readable, or objects, which are programs as much as data.
    """
    try:
        array = np.load(path, mmap_mode="r")
    except Exception as error:  # header, pickle, mapping: a damaged file has many ways to fail
        raise DataError(f"{path} cannot be read as a numpy file: {first_line(error)}") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path} is an archive of several arrays: rename it to .npz")
    return array


class NpzFile:
    """The arrays of a .npz file by name, each checked by its header before it is read.

    Raises:
        OSError, zipfile.BadZipFile: no such file, or no archive.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with zipfile.ZipFile(path) as archive:
            self.names = [name.removesuffix(".npy") for name in archive.namelist()]

    def header(self, name: str) -> Header:
        """Shape and kind of an array.

        Raises:
            DataError: see `read`.
        """
        shape, kind = self._checked(name)
        return Header(shape, kind.kind)

    def read(self, name: str) -> NDArray[Any]:
        """An array.

        Raises:
            DataError: its header claims other bytes than there are, or more than the machine has free; or it holds
                objects, which are programs as much as data.
        """
        shape, kind = self._checked(name)
        if kind.hasobject:
            raise DataError(
                f"{self._path}: {name!r} holds Python objects, which are not read because they can run code: save "
                "numbers or strings"
            )
        _check_free(self._path, name, math.prod(shape) * kind.itemsize)
        with zipfile.ZipFile(self._path) as archive, archive.open(self._entry(archive, name)) as file:
            array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
            return array

    def _checked(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """Shape and type of an array, from a header that claims no more than there is."""
        with zipfile.ZipFile(self._path) as archive:
            entry = self._entry(archive, name)
            with archive.open(entry) as file:
                shape, kind = _header(file)
                start = file.tell()
        need, there = math.prod(shape) * kind.itemsize, entry.file_size - start
        if need > there and not kind.hasobject:
            raise DataError(f"{self._path}: {name!r} claims {need:,} bytes and has {there:,}: the file is damaged")
        return shape, kind

    @staticmethod
    def _entry(archive: zipfile.ZipFile, name: str) -> zipfile.ZipInfo:
        return archive.getinfo(f"{name}.npy" if f"{name}.npy" in archive.namelist() else name)


class TorchFile:
    """The tensors of a file that `torch.save` wrote: one tensor, or a dict of tensors. No code of the file is run.

    Raises:
        DataError: something else in it.
        OSError, RuntimeError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        import torch

        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise DataError(
                f"{path} is not read: it is no file of torch.save, or holds more than tensors, numbers and texts, "
                "which could run code: save a tensor, or a dict of tensors"
            ) from error
        tensors = {"tensor": content} if isinstance(content, torch.Tensor) else content
        if isinstance(tensors, (list, tuple)) and tensors and all(isinstance(each, torch.Tensor) for each in tensors):
            if len({each.shape for each in tensors}) > 1:
                raise DataError(f"{path} holds a list of tensors of several shapes: stack vectors of one length")
            tensors = {"tensor": torch.stack(list(tensors))}
        if not isinstance(tensors, dict):
            raise DataError(f"{path} holds a {type(content).__name__}: save a tensor, or a dict of tensors")
        self._tensors = {str(name): each for name, each in tensors.items() if _is_array(each)}
        self.names = list(self._tensors)

    def header(self, name: str) -> Header:
        """Shape and kind of a tensor."""
        return _kind_of(self._tensors[name])

    def read(self, name: str) -> NDArray[Any]:
        """A tensor as an array; bfloat16 becomes float32."""
        return _array(self._tensors[name])


class SafetensorsFile:
    """The tensors of a .safetensors file.

    Raises:
        DataError: the package safetensors is missing.
    """

    def __init__(self, path: Path) -> None:
        with needs("scan", f"reading {path.name}", DataError):
            from safetensors import safe_open
        opened: Any = safe_open(str(path), framework="pt")
        self._file, self._path = opened, path
        self.names = list(self._file.keys())

    def header(self, name: str) -> Header:
        """Shape and kind of a tensor."""
        part = self._file.get_slice(name)
        kinds = {"F": "f", "B": "f", "I": "i", "U": "u"}
        dtype = str(part.get_dtype())
        return Header(tuple(part.get_shape()), "b" if dtype == "BOOL" else kinds.get(dtype[0], "V"))

    def read(self, name: str) -> NDArray[Any]:
        """A tensor as an array; bfloat16 becomes float32.

        Raises:
            DataError: more than the machine has free.
        """
        _check_free(self._path, name, 4 * math.prod(self.header(name).shape))
        return _array(self._file.get_tensor(name))


class FaissFile:
    """The vectors of an index that faiss wrote, and their ids as `row` where it has them.

    Raises:
        DataError: the package faiss is missing.
        RuntimeError: no index.
    """

    def __init__(self, path: Path) -> None:
        with needs("scan", f"reading {path.name}", DataError):
            import faiss
        index = faiss.read_index(str(path))
        self._path, self._ids = path, None
        self._whole = index  # which owns the memory of the index inside
        if isinstance(index, (faiss.IndexIDMap, faiss.IndexIDMap2)):
            self._ids = np.array(faiss.vector_to_array(index.id_map))
            index = faiss.downcast_index(index.index)
        self._index = index
        self.names = ["vectors"] if self._ids is None else ["vectors", "row"]

    def header(self, name: str) -> Header:
        """Shape and kind of an array."""
        shape = (int(self._index.ntotal), int(self._index.d))
        return Header(shape, "f") if name == "vectors" else Header(shape[:1], "i")

    def read(self, name: str) -> NDArray[Any]:
        """The vectors or the ids.

        Warns:
            UserWarning: the index keeps codes that stand for the vectors only approximately.

        Raises:
            RuntimeError: an index that does not give its vectors back.
        """
        if name == "row" and self._ids is not None:
            return self._ids
        if "Flat" not in type(self._index).__name__:
            warnings.warn(f"{self._path} keeps compressed vectors, which come back approximately", stacklevel=2)
        if hasattr(self._index, "make_direct_map"):
            self._index.make_direct_map()
        found: NDArray[Any] = self._index.reconstruct_n(0, self._index.ntotal)
        return found


class Stacked:
    """Arrays of one width, one below the other, without copying them into one.

    Args:
        arrays: (N_i, D) each, memory-mapped perhaps.
        names: of them, for errors.

    Raises:
        DataError: other shapes or types.
    """

    def __init__(self, arrays: Sequence[NDArray[Any]], names: Sequence[str]) -> None:
        for array, name in zip(arrays, names, strict=True):
            if array.ndim != 2 or array.shape[1:] != arrays[0].shape[1:] or array.dtype.kind != arrays[0].dtype.kind:
                raise DataError(
                    f"{name} holds {array.dtype} of shape {array.shape}, {names[0]} {arrays[0].dtype} of shape "
                    f"{arrays[0].shape}: shards must be (N, D) with one D"
                )
        self._arrays = list(arrays)
        self.starts = np.concatenate([[0], np.cumsum([len(each) for each in arrays])]).astype(np.int64)
        self.shape = (int(self.starts[-1]), arrays[0].shape[1])
        self.ndim, self.dtype = 2, np.result_type(*[each.dtype for each in arrays])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: Any, /) -> NDArray[Any]:
        wanted = np.arange(len(self), dtype=np.int64)[rows] if isinstance(rows, slice) else np.asarray(rows)
        out = np.empty((len(wanted), self.shape[1]), self.dtype)
        owner = np.searchsorted(self.starts, wanted, side="right") - 1
        for number in np.unique(owner):
            here = owner == number
            out[here] = self._arrays[number][wanted[here] - self.starts[number]]
        return out


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, kind = read(file)
    return shape, kind


def _check_free(path: Path, name: str, need: int) -> None:
    free = psutil.virtual_memory().available
    if need > 0.8 * free:
        raise DataError(
            f"{path}: {name!r} takes {need / 1e9:,.3g} GB and {free / 1e9:,.3g} GB are free: save it as .npy, which is "
            "not read into memory, or as parquet"
        )


def _is_array(value: Any) -> bool:
    import torch

    return isinstance(value, torch.Tensor) or (
        isinstance(value, list) and bool(value) and all(isinstance(each, (str, int)) for each in value)
    )


def _kind_of(value: Any) -> Header:
    if isinstance(value, list):
        array = np.asarray(value)
        return Header(array.shape, array.dtype.kind)
    kind = "f" if value.is_floating_point() else "c" if value.is_complex() else "i"
    return Header(tuple(value.shape), kind)


def _array(value: Any) -> NDArray[Any]:
    if isinstance(value, list):
        return np.asarray(value)
    import torch

    dense = value.detach().to_dense().cpu()
    array: NDArray[Any] = (dense.float() if dense.dtype in (torch.bfloat16,) else dense).numpy()
    return array
