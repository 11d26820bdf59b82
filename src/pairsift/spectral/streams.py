"""Positive pairs as blocks of features: of arrays, memory maps, parquet, or any other `FeatureSource`."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray

from pairsift._base.checks import unmasked
from pairsift.data import FeatureSource, open_features
from pairsift.spectral.errors import SpectralError
from pairsift.spectral.moments import Array, Moments

# Examples of a block. All kinds of input are cut at the same places, so equal features give equal sums.
BLOCK = 8192
T = TypeVar("T")

Features: TypeAlias = Any
"""An (N, D) array or tensor, a memory map, a path that `open_features` reads, or a `FeatureSource`."""


@runtime_checkable
class PairStream(Protocol):
    """Positive pairs, read in order.

    Attributes:
        rows: pairs, or examples with views.
        widths: D and E.
        bytes_in_memory: what all features would take.
    """

    rows: int
    widths: tuple[int, int]
    bytes_in_memory: int

    def moments(self) -> Moments:
        """Sums without a pair."""

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Array, Array]]:
        """The first pair and both sides of one block after the other; views are (n, V, D) on the first side."""

    def taken(self, rows: NDArray[np.int64]) -> tuple[Array, Array]:
        """Both sides of some pairs, given in ascending order, as in a block."""


class PairedRows:
    """Row i of one matrix and row i of another are a pair.

    Args:
        first: (N, D) features.
        second: (N, E) features.

    Raises:
        SpectralError: other shapes or types, or another number of rows.
    """

    def __init__(self, first: Features, second: Features) -> None:
        self._sides = (opened(first, "first"), opened(second, "second"))
        (n, d), (m, e) = (each.shape for each in self._sides)
        if n != m:
            raise SpectralError(f"first has {n:,} rows and second {m:,}: row i of both must be a positive pair")
        self.rows, self.widths, self.bytes_in_memory = n, (d, e), 4 * n * (d + e)

    def moments(self) -> Moments:
        """See `PairStream`."""
        return Moments(*self.widths)

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Array, Array]]:
        """See `PairStream`."""
        stop = self.rows if stop is None else stop
        first, second = (blocks_of(each, BLOCK, start, stop) for each in self._sides)
        for (at, a), (_, b) in zip(_ahead(first), _ahead(second), strict=True):
            yield at, a, b

    def taken(self, rows: NDArray[np.int64]) -> tuple[Array, Array]:
        """See `PairStream`."""
        first, second = (_taken(each, rows) for each in self._sides)
        return first, second


class ViewRows:
    """Several views of every example.

    Args:
        features: (N, V, D), or (N V, D) where the V views of an example follow each other.
        views: V, at least 2; None takes it from a matrix of three axes.

    Raises:
        SpectralError: other shapes or types, one view, or rows that no number of examples has.
    """

    def __init__(self, features: Features, views: int | None) -> None:
        if getattr(features, "ndim", 2) == 3:
            shape = tuple(features.shape)
            if views not in (None, shape[1]):
                raise SpectralError(f"first has {shape[1]} views an example (its second axis), got views={views}")
            views = shape[1]
            features = features.reshape(-1, shape[2])
        if isinstance(views, bool) or not isinstance(views, int) or views < 2:
            raise SpectralError(f"an example needs at least 2 views to make a positive pair, got views={views!r}")
        self._features, self.views = opened(features, "first"), views
        n, width = self._features.shape
        if n % views:
            raise SpectralError(f"first has {n:,} rows, which is no multiple of views={views}")
        self.rows, self.widths, self.bytes_in_memory = n // views, (width, width), 4 * n * width

    def moments(self) -> Moments:
        """See `PairStream`."""
        return Moments(self.widths[0], None)

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, Array, Array]]:
        """See `PairStream`."""
        stop = self.rows if stop is None else stop
        each = max(1, BLOCK // self.views)
        for at, x in blocks_of(self._features, each * self.views, start * self.views, stop * self.views):
            x = x.reshape(-1, self.views, x.shape[1])
            yield at // self.views, x, x

    def taken(self, rows: NDArray[np.int64]) -> tuple[Array, Array]:
        """See `PairStream`."""
        all_views = rows[:, None] * self.views + np.arange(self.views)
        x = _taken(self._features, all_views.ravel()).reshape(len(rows), self.views, -1)
        return x, x


def sides_of(a: Array, b: Array) -> tuple[Array, Array]:
    """A pair of each element of a block: itself, or the first two views of an example."""
    return (a[:, 0], a[:, 1]) if a.ndim == 3 else (a, b)


def stream_of(first: Features, second: Features | None, views: int | None) -> PairStream:
    """The pairs that the arguments of `SpectralMap.fit` describe.

    Raises:
        SpectralError: both or neither of `second` and views are given, or features that cannot be used.
    """
    if second is None and views is None and isinstance(first, PairStream):
        return first
    if second is not None:
        if views is not None:
            raise SpectralError("give second (pairs) or views (examples of several views), not both")
        return PairedRows(first, second)
    if views is None and getattr(first, "ndim", 2) != 3:
        raise SpectralError("there are no positives: give second, or views for examples of several views")
    return ViewRows(first, views)


def opened(features: Features, name: str) -> Any:
    """A matrix or a `FeatureSource` of what a user may give.

    Raises:
        SpectralError: not floating point, not (N, D), or empty.
        DataError: a file that cannot be read.
    """
    if isinstance(features, torch.Tensor):
        features = features.detach().cpu()
        features = (features.float() if features.dtype == torch.bfloat16 else features).numpy()
    if isinstance(features, (str, Path)):
        return open_features(features)
    if not isinstance(features, np.ndarray) and hasattr(features, "blocks") and hasattr(features, "shape"):
        return features
    matrix = unmasked(features, f"{name}: features", SpectralError)
    if matrix.dtype.kind != "f":
        raise SpectralError(f"{name}: features must be floating point, got {matrix.dtype}")
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise SpectralError(f"{name}: features must be a non-empty (N, D) matrix, got shape {matrix.shape}")
    return matrix


def blocks_of(source: Any, rows: int, start: int, stop: int) -> Iterator[tuple[int, Array]]:
    """Blocks of exactly so many rows (the last may have fewer), whatever blocks a source gives."""
    if isinstance(source, np.ndarray):
        for at in range(start, stop, rows):
            yield at, _working(source[at : min(at + rows, stop)])
        return
    at, kept = start, np.empty((0, source.shape[1]), np.float32)
    for _, block in _read(source, rows, start, stop):
        kept = np.concatenate([kept, block]) if len(kept) else block
        while len(kept) >= rows:
            yield at, kept[:rows]
            at, kept = at + rows, kept[rows:]
    if len(kept):
        yield at, kept


def _ahead(blocks: Iterator[T]) -> Iterator[T]:
    """The same blocks; a thread reads the next one while the last one is used."""
    with ThreadPoolExecutor(1) as pool:
        following = pool.submit(next, blocks, None)
        while (block := following.result()) is not None:
            following = pool.submit(next, blocks, None)
            yield block


def _read(source: FeatureSource, rows: int, start: int, stop: int) -> Iterator[tuple[int, Array]]:
    yield from source.blocks(rows, start, stop)


def _taken(source: Any, rows: NDArray[np.int64]) -> Array:
    return _working(source[rows]) if isinstance(source, np.ndarray) else source.take(rows)


def _working(block: NDArray[Any]) -> Array:
    """Half precision becomes float32; float64 stays, and is multiplied as such."""
    return np.asarray(block, np.float64 if block.dtype.itemsize > 4 else np.float32)
