"""Reading .npz files from strangers: no objects, and no more memory taken than the file gives and the machine has."""

from __future__ import annotations

import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.lib import format as npy
from numpy.typing import NDArray

from pairsift.data.errors import DataError


class NpzFile:
    """The arrays of a .npz file by name, each checked by its header before it is read.

    Raises:
        OSError, zipfile.BadZipFile: no such file, or no archive.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with zipfile.ZipFile(path) as archive:
            self.names = [name.removesuffix(".npy") for name in archive.namelist()]

    def read(self, name: str) -> NDArray[Any]:
        """An array.

        Raises:
            DataError: its header claims other bytes than there are, or more than the machine has free; or it holds
                objects, which are programs as much as data.
        """
        with zipfile.ZipFile(self._path) as archive:
            entry = archive.getinfo(f"{name}.npy" if f"{name}.npy" in archive.namelist() else name)
            with archive.open(entry) as file:
                shape, kind = _header(file)
                start = file.tell()
            if kind.hasobject:
                raise DataError(
                    f"{self._path}: {name!r} holds Python objects, which are not read because they can run code: save "
                    "numbers or strings"
                )
            need, there = math.prod(shape) * kind.itemsize, entry.file_size - start
            if need > there:
                raise DataError(f"{self._path}: {name!r} claims {need:,} bytes and has {there:,}: the file is damaged")
            free = psutil.virtual_memory().available
            if need > 0.8 * free:
                raise DataError(
                    f"{self._path}: {name!r} takes {need / 1e9:,.3g} GB and {free / 1e9:,.3g} GB are free: save it as "
                    ".npy, which is not read into memory, or as parquet"
                )
            with archive.open(entry) as file:
                array: NDArray[Any] = npy.read_array(file, allow_pickle=False)
                return array


def _header(file: Any) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, kind = read(file)
    return shape, kind
