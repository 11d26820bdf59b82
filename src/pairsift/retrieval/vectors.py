"""Unit features of texts in a file of their own: taken a block at a time, so that memory holds no more than a block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairsift.retrieval.errors import PairsError

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

# Rows of a block of work: 12 MB of 384 dimensions.
BLOCK = 8192


class UnitFeatures:
    """(T, D) float32 rows of norm 1 in a file.

    Args:
        path: file to write.
        blocks: of features, (rows, D) each, in order; all finite and none zero.

    Raises:
        PairsError: blocks of several widths.
        OSError: the disk is full, or the file not writable.
    """

    def __init__(self, path: Path, blocks: Iterable[FloatArray]) -> None:
        self._path, count, width = path, 0, 0
        with path.open("wb") as file:
            for block in blocks:
                if width not in (0, block.shape[1]):
                    raise PairsError(
                        f"columns have {width} and {block.shape[1]} dimensions: a guide needs features of one encoder"
                    )
                file.write(unit(block).data)
                count, width = count + len(block), block.shape[1]
        self.shape = (count, width)

    def take(self, texts: IntArray) -> FloatArray:
        """(len(texts), D) features of some texts."""
        out = np.empty((len(texts), self.shape[1]), np.float32)
        starts = np.flatnonzero(np.diff(texts, prepend=-2) != 1).tolist()
        # Read, not mapped: the system maps whole neighbourhoods of the rows that are touched, and counts them as ours.
        with self._path.open("rb", buffering=0) as file:
            for start, stop in pairwise([*starts, len(texts)]):
                file.seek(int(texts[start]) * out[0].nbytes)
                file.readinto(out[start:stop].data.cast("B"))
        return out

    def blocks(self, texts: IntArray, rows: int = BLOCK) -> Iterator[tuple[int, FloatArray]]:
        """First place and features of one block of the texts after the other."""
        for start in range(0, len(texts), rows):
            yield start, self.take(texts[start : start + rows])


def unit(features: FloatArray) -> FloatArray:
    """Rows of norm 1, contiguous."""
    wide = features.astype(np.float64)
    return np.ascontiguousarray(wide / np.linalg.norm(wide, axis=1, keepdims=True), dtype=np.float32)


def dots(a: FloatArray, b: FloatArray) -> FloatArray:
    """(N,) products of rows."""
    return np.asarray(np.einsum("ij,ij->i", a, b), np.float32)
