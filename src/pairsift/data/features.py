"""Feature sets: embeddings of any encoder, read block by block, with labels and paths where the files know them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pairsift._base.checks import first_line
from pairsift.data.columns import FEATURE_LABELS, FEATURE_NAMES, NO_LABELS, array_called, label_column
from pairsift.data.errors import DataError
from pairsift.data.labels import class_numbers
from pairsift.data.numpy_files import NpzFile
from pairsift.data.parquet_features import ParquetFeatures

FloatArray = NDArray[np.float32]


class FeatureSource(Protocol):
    """N embeddings of D dimensions; nothing but their count and type is read until asked.

    `labels` is (N,) int64 or None, `class_names` their names, `paths` where the examples come from, `rows` (N,) their
    row in the set they were computed from (counted from 0 where the file does not say), `mixed` (N,) bool which were
    planted by `mix`, or None. A source of your own may leave out `shareable` and `bare`: then it is not shareable, and
    is handed around as it is.
    """

    name: str
    shape: tuple[int, int]
    rows: NDArray[np.int64]
    mixed: NDArray[np.bool_] | None
    labels: NDArray[np.int64] | None
    class_names: Sequence[str] | None
    paths: Sequence[str] | None
    shareable: bool
    """Whether another process, on another machine that sees the same files, can read it after unpickling."""

    def bare(self) -> FeatureSource:
        """The same features without what is known about the rows: small to send to another process."""

    def blocks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, FloatArray]]:
        """First row and features of one block of at most `rows` after the other, in order, from `start` to `stop`."""

    def take(self, rows: NDArray[np.int64]) -> FloatArray:
        """Features of some rows, given in ascending order: (len(rows), D)."""


def open_features(source: Any, label_column: str | None = None) -> FeatureSource:
    """Open embeddings: an (N, D) array, ``.npy`` (memory-mapped), ``.npz``, parquet, or a folder of parquet shards.

    Parquet holds them as a list column called features, embedding, embeddings or x, or as one floating-point column
    per dimension; it is read by row groups.

    Args:
        source: array or path.
        label_column: column or array that holds the classes; None takes the usual one where there is one; "none"
            ignores labels.

    Raises:
        DataError: nothing there, not readable, no features in it, or labels that are missing or of the wrong type.

    Example:
        >>> import numpy as np
        >>> from pairsift.data import open_features
        >>> np.save("features.npy", np.random.default_rng(0).standard_normal((100, 16)))
        >>> open_features("features.npy").shape
        (100, 16)
    """
    if isinstance(source, np.ndarray):
        return ArrayFeatures(source, "features")
    path = Path(source)
    shards = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if path.is_dir() and not shards:
        raise DataError(f"the folder {path} holds no parquet files")
    if not path.exists():
        raise DataError(f"no features at {path}: give parquet, .npy or .npz, as `pairsift embed` writes")
    if shards[0].suffix == ".parquet":
        return ParquetFeatures(shards, str(path), label_column)
    if path.suffix not in (".npy", ".npz"):
        raise DataError(f"{path} is not a kind of feature file known here: use .parquet, .npy, .npz or a folder")
    return _open_numpy(path, label_column)


def is_shareable(source: FeatureSource) -> bool:
    """Whether workers on other machines can read the source; one that does not say so is not."""
    return bool(getattr(source, "shareable", False))


def bare_features(source: FeatureSource) -> FeatureSource:
    """The source without what is known about its rows; one that cannot part with it, as it is."""
    return source.bare() if hasattr(source, "bare") else source


class ArrayFeatures:
    """Features of an array or a memory map.

    Raises:
        DataError: another shape than (N, D), no rows, not floating point, or labels of another length.
    """

    shareable = False

    def __init__(self, features: NDArray[Any], name: str, labels: NDArray[Any] | None = None) -> None:
        if features.ndim != 2 or 0 in features.shape:
            raise DataError(f"{name}: features must be a non-empty (N, D) matrix, got shape {features.shape}")
        if features.dtype.kind != "f":
            raise DataError(f"{name}: features must be floating point, got {features.dtype}")
        if labels is not None and labels.shape[:1] != features.shape[:1]:
            raise DataError(f"{name}: {len(features)} features but labels of shape {labels.shape}")
        self._features, self.name = features, name
        self.shape: tuple[int, int] = (features.shape[0], features.shape[1])
        self.labels: NDArray[np.int64] | None = None
        self.class_names: Sequence[str] | None = None
        if labels is not None:
            self.labels, self.class_names = class_numbers(np.asarray(labels), name)
        self.paths: Sequence[str] | None = None
        self.rows = np.arange(len(features), dtype=np.int64)
        self.mixed: NDArray[np.bool_] | None = None

    def bare(self) -> ArrayFeatures:
        """The same features without labels."""
        return ArrayFeatures(self._features, self.name)

    def blocks(self, rows: int, start: int = 0, stop: int | None = None) -> Iterator[tuple[int, FloatArray]]:
        """First row and (at most `rows`, D) float32 features, block by block, in order, from `start` to `stop`."""
        end = self.shape[0] if stop is None else stop
        for first in range(start, end, rows):
            yield first, np.asarray(self._features[first : min(first + rows, end)], dtype=np.float32)

    def take(self, rows: NDArray[np.int64]) -> FloatArray:
        """(len(rows), D) float32 features of some rows, given in ascending order."""
        return np.asarray(self._features[rows], dtype=np.float32)


def _open_numpy(path: Path, labels: str | None) -> ArrayFeatures:
    name = str(path)
    try:
        if path.suffix == ".npy":
            if labels not in (None, NO_LABELS):
                raise DataError(f"{name} is a bare array without labels: put features and labels into one .npz")
            return ArrayFeatures(np.load(path, mmap_mode="r"), name)
        arrays = NpzFile(path)
        key = array_called(name, FEATURE_NAMES, arrays.names)
        wanted = label_column(name, arrays.names, labels, FEATURE_LABELS)
        return ArrayFeatures(arrays.read(key), name, None if wanted is None else arrays.read(wanted))
    except DataError:
        raise
    except Exception as error:  # zip, pickle, header: a damaged file has many ways to fail
        raise DataError(f"{name} cannot be read as a numpy file: {first_line(error)}") from error
