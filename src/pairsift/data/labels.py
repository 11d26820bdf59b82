"""Labels of any kind as class numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pairsift._base.checks import first_line
from pairsift.data.errors import DataError


def class_numbers(labels: NDArray[Any], name: str) -> tuple[NDArray[np.int64], list[str] | None]:
    """Labels as int64 class numbers; strings are numbered in sorted order and their names returned.

    Raises:
        DataError: labels of another type (floats, lists, dates).
    """
    if labels.ndim != 1:
        raise DataError(f"{name}: labels must be one value per image, got shape {labels.shape}")
    if labels.dtype.kind in "iub":
        return labels.astype(np.int64), None
    if labels.dtype.kind in "UT" or (labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels)):
        names, numbers = np.unique(labels.astype(str), return_inverse=True)
        return numbers.astype(np.int64), names.tolist()
    kind = type(labels[0]).__name__ if labels.dtype.kind == "O" and len(labels) else str(labels.dtype)
    raise DataError(f"{name}: labels must be whole numbers or names of classes, got {kind}")


def labels_of(table: pa.Table, column: str, name: str) -> tuple[NDArray[np.int64], list[str] | None]:
    """Class numbers of a column, and the names of the classes where it holds names.

    Raises:
        DataError: labels are missing or of another type.
    """
    values = table.column(column)
    if values.null_count:
        raise DataError(f"{name}: column {column!r} has {values.null_count} missing labels")
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        return class_numbers(np.array(texts_of(table, column, name), dtype=object), f"{name}, column {column!r}")
    return class_numbers(values.to_numpy(), f"{name}, column {column!r}")


def texts_of(table: pa.Table, column: str, name: str) -> list[Any]:
    """The texts of a column, None where one is missing.

    Raises:
        DataError: they are no UTF-8.
    """
    try:
        texts: list[Any] = table.column(column).to_pylist()
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: column {column!r} holds text that is no UTF-8: {first_line(error)}") from error
    return texts
