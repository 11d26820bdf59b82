"""The one rule for which column of a table, or array of an .npz, holds images, features and labels."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from pairsift.data.errors import DataError

# Names that are looked for, the first one that is there wins.
IMAGE_COLUMNS = ("image", "img")
IMAGE_ARRAYS = ("images", "x", "x_train", "data")
FEATURE_NAMES = ("features", "embedding", "embeddings", "x")
# Labels beside images, beside arrays of images, beside features. A table of images often has columns of other
# meanings, so only the plainest name counts there.
IMAGE_LABELS = ("label",)
ARRAY_LABELS = ("labels", "label", "y", "y_train", "targets")
FEATURE_LABELS = ("label", "labels", "y")
# Columns that are about a row and never a dimension of it.
OTHER_NAMES = ("row", "path", "mixed", "image", "text")
# What a user says who wants no labels.
NO_LABELS = "none"


def image_column(name: str, available: Sequence[str]) -> str:
    """The column of encoded images.

    Raises:
        DataError: there is none.
    """
    found = _first(IMAGE_COLUMNS, available)
    if found is None:
        raise DataError(
            f"{name} has no image column ({' or '.join(IMAGE_COLUMNS)}); its columns: {', '.join(available)}"
        )
    return found


def array_called(name: str, wanted: Sequence[str], available: Sequence[str]) -> str:
    """The array of an .npz that has one of the wanted names.

    Raises:
        DataError: there is none.
    """
    found = _first(wanted, available)
    if found is None:
        raise DataError(f"{name} has no array called {' or '.join(wanted)}; it holds: {', '.join(available)}")
    return found


def label_column(name: str, available: Sequence[str], wanted: str | None, usual: Sequence[str]) -> str | None:
    """The column of classes.

    Args:
        name: of the data, for the error.
        available: names of all columns.
        wanted: what the user named; None takes a usual one where there is one, "none" takes none.
        usual: names of label columns in data of this kind, `FEATURE_LABELS` say.

    Raises:
        DataError: the wanted column is not there.
    """
    if wanted == NO_LABELS:
        return None
    if wanted is None:
        return _first(usual, available)
    if wanted not in available:
        raise DataError(
            f"{name} has no column {wanted!r}; its columns: {', '.join(available)} "
            f"(`label_column={NO_LABELS!r}` for no labels)"
        )
    return wanted


def feature_columns(name: str, schema: pa.Schema, label: str | None) -> list[str]:
    """The one list column of features, or all floating-point columns that are neither labels nor about the row.

    Raises:
        DataError: there is neither.
    """
    listed = [each for each in FEATURE_NAMES if each in schema.names and is_list(only_field(name, schema, each).type)]
    if listed:
        return listed[:1]
    other = {label, *FEATURE_LABELS, *OTHER_NAMES}
    columns = [field.name for field in schema if field.name not in other and pa.types.is_floating(field.type)]
    if not columns:
        raise DataError(f"{name} has no feature columns; its columns: {', '.join(schema.names)}")
    return columns


def only_field(name: str, schema: pa.Schema, column: str) -> pa.Field:
    """The one field of a column that is there.

    Raises:
        DataError: there are two.
    """
    if schema.names.count(column) > 1:
        raise DataError(f"{name} has two columns called {column!r}: which one is meant cannot be told, rename one")
    return schema.field(column)


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists, of fixed or any length."""
    return bool(pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind))


def _first(wanted: Sequence[str], available: Sequence[str]) -> str | None:
    return next((each for each in wanted if each in available), None)
