"""Feature sets: embeddings of any encoder, with labels and paths where the file knows them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pairsift.data.sources import DataError, class_numbers, missing_column

FEATURE_NAMES = ("features", "embedding", "embeddings", "x")
_LABEL_NAMES = ("label", "labels", "y")


@dataclass(frozen=True)
class FeatureSet:
    """Embeddings with what is known about each.

    Attributes:
        features: (N, D), float32 or float64; a memory map where the file allows it.
        labels: (N,) int64 class numbers, or None.
        class_names: names of the classes, or None.
        paths: path of each example where known, or None.
    """

    features: NDArray[Any]
    labels: NDArray[np.int64] | None = None
    class_names: Sequence[str] | None = None
    paths: Sequence[str] | None = None


def load_features(path: Path, label_column: str | None = None) -> FeatureSet:
    """Read embeddings from parquet, ``.npy`` (memory-mapped) or ``.npz``.

    Parquet holds them as a list column called features, embedding, embeddings or x, or as one numeric column per
    dimension (every column that is not a row number, label or path).

    Args:
        path: the file.
        label_column: column or array that holds the classes; None takes the usual one where there is one; "none"
            ignores labels.

    Raises:
        DataError: nothing there, not readable, no features in it, or labels that are missing or of the wrong type.
    """
    if not path.is_file():
        raise DataError(f"no features at {path}: give a .parquet, .npy or .npz file, as `pairsift embed` writes")
    if path.suffix == ".parquet":
        return _read_parquet(path, label_column)
    if path.suffix not in (".npy", ".npz"):
        raise DataError(f"{path} is not a kind of feature file known here: use .parquet, .npy or .npz")
    try:
        if path.suffix == ".npy":
            if label_column not in (None, "none"):
                raise DataError(f"{path} is a bare array without labels: put features and labels into one .npz")
            return FeatureSet(_checked(np.load(path, mmap_mode="r"), path))
        with np.load(path) as arrays:
            names = list(arrays)
            key = next((name for name in FEATURE_NAMES if name in names), None)
            if key is None:
                raise DataError(
                    f"{path} has no array called {' or '.join(FEATURE_NAMES)}; it holds: {', '.join(names)}"
                )
            wanted = _label_name(path, names, label_column)
            labels, class_names = (None, None) if wanted is None else class_numbers(arrays[wanted], str(path))
            return FeatureSet(_with_labels(_checked(arrays[key], path), labels, path), labels, class_names)
    except DataError:
        raise
    except Exception as error:  # zip, pickle, header: a damaged file has many ways to fail
        raise DataError(f"{path} cannot be read as a numpy file: {error}") from error


def _read_parquet(path: Path, label_column: str | None) -> FeatureSet:
    try:
        schema = pq.read_schema(path)
        wanted = _label_name(path, schema.names, label_column)
        known = {*_LABEL_NAMES, "row", "path", "mixed", wanted}
        listed = next(
            (name for name in FEATURE_NAMES if name in schema.names and _is_list(schema.field(name).type)), None
        )
        columns = [listed] if listed else [
            field.name for field in schema if field.name not in known and pa.types.is_floating(field.type)
        ]  # fmt: skip
        if not columns:
            raise DataError(f"{path} has no feature columns; its columns: {', '.join(schema.names)}")
        extra = [name for name in (wanted, "path") if name in schema.names]
        table = pq.read_table(path, columns=[*columns, *extra])
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} cannot be read as parquet: {error}") from error
    if listed:
        features = _from_lists(table.column(listed).combine_chunks(), path)
    else:
        features = np.stack([table.column(name).to_numpy() for name in columns], axis=1)
    labels, class_names = None, None
    if wanted is not None:
        if table.column(wanted).null_count:
            raise DataError(f"{path}: column {wanted!r} has {table.column(wanted).null_count} missing labels")
        labels, class_names = class_numbers(table.column(wanted).to_numpy(), f"{path}, column {wanted!r}")
    paths = table.column("path").to_pylist() if "path" in table.column_names else None
    return FeatureSet(_checked(features, path), labels, class_names, paths)


def _from_lists(column: Any, path: Path) -> NDArray[Any]:
    lengths = np.diff(column.offsets.to_numpy()) if not pa.types.is_fixed_size_list(column.type) else None
    if column.null_count:
        raise DataError(f"{path}: {column.null_count} rows have no features")
    if lengths is not None and len(np.unique(lengths)) > 1:
        raise DataError(f"{path}: rows have {lengths.min()} to {lengths.max()} dimensions; they must agree")
    flat: NDArray[Any] = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1) if len(column) else flat.reshape(0, 0)


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _label_name(path: Path, names: Sequence[str], label_column: str | None) -> str | None:
    if label_column == "none":
        return None
    if label_column is None:
        return next((name for name in _LABEL_NAMES if name in names), None)
    if label_column not in names:
        raise missing_column(str(path), label_column, names)
    return label_column


def _with_labels(features: NDArray[Any], labels: NDArray[np.int64] | None, path: Path) -> NDArray[Any]:
    if labels is not None and len(labels) != len(features):
        raise DataError(f"{path}: {len(features)} features but {len(labels)} labels")
    return features


def _checked(features: NDArray[Any], path: Path) -> NDArray[Any]:
    if features.ndim != 2 or 0 in features.shape:
        raise DataError(f"{path}: features must be a non-empty (N, D) matrix, got shape {features.shape}")
    if features.dtype.kind != "f":
        raise DataError(f"{path}: features must be floating point, got {features.dtype}")
    return features
