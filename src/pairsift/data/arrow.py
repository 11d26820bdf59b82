"""Tests of Arrow types, and the values of Arrow columns as NumPy arrays.

Writers take different types for texts: pandas 3 writes large_string, polars string_view, a categorical column a
dictionary. All modules therefore ask these tests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pairsift._base.checks import first_line
from pairsift.data.errors import DataError

FloatArray = NDArray[np.float32]

# Tests that a version of pyarrow may lack, because it lacks the type.
_VIEW_TESTS = ("is_string_view", "is_binary_view", "is_list_view", "is_large_list_view")


def _is_view(kind: pa.DataType, test: str) -> bool:
    return test in _VIEW_TESTS and hasattr(pa.types, test) and bool(getattr(pa.types, test)(kind))


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values behind a dictionary, a run-end encoding or an extension."""
    while True:
        if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
            kind = kind.value_type
        elif isinstance(kind, pa.BaseExtensionType):
            kind = kind.storage_type
        else:
            return kind


def is_text(kind: pa.DataType) -> bool:
    """Whether values are texts: string, large_string, string_view, or a dictionary of one of these."""
    kind = plain_type(kind)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind)) or _is_view(kind, "is_string_view")


def is_bytes(kind: pa.DataType) -> bool:
    """Whether values are bytes of any length: binary, large_binary, binary_view."""
    kind = plain_type(kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind)) or _is_view(kind, "is_binary_view")


def is_encoded(kind: pa.DataType) -> bool:
    """Whether values are encoded files: bytes, or Hugging Face's ``{bytes, path}``."""
    if pa.types.is_struct(kind) and "bytes" in {field.name for field in kind}:
        kind = kind.field("bytes").type
    return is_bytes(kind)


def is_integer(kind: pa.DataType) -> bool:
    """Whether values are whole numbers, signed or not, of any width."""
    return bool(pa.types.is_integer(plain_type(kind)))


def is_floating(kind: pa.DataType) -> bool:
    """Whether values are floating-point numbers, half precision included."""
    return bool(pa.types.is_floating(plain_type(kind)))


def is_boolean(kind: pa.DataType) -> bool:
    """Whether values are true or false."""
    return bool(pa.types.is_boolean(plain_type(kind)))


def is_number(kind: pa.DataType) -> bool:
    """Whether values are whole or floating-point numbers."""
    return is_integer(kind) or is_floating(kind)


def is_list(kind: pa.DataType) -> bool:
    """Whether values are lists, of fixed or any length, views of lists included."""
    listed = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    views = ("is_list_view", "is_large_list_view")
    return any(bool(test(kind)) for test in listed) or any(_is_view(kind, test) for test in views)


def is_text_list(kind: pa.DataType) -> bool:
    """Whether values are lists of texts, or of structs with a field "text"."""
    if not is_list(kind):
        return False
    inner = plain_type(kind.value_type)
    return is_text(inner) or (pa.types.is_struct(inner) and "text" in {part.name for part in inner})


def element_type(kind: pa.DataType) -> pa.DataType | None:
    """The type of the numbers of a vector: of a list, or of a tensor of one dimension. None for anything else."""
    shape = getattr(kind, "shape", None)
    if isinstance(kind, pa.BaseExtensionType):
        if shape is not None and len(shape) != 1:
            return None
        kind = kind.storage_type
    return plain_type(kind.value_type) if is_list(kind) else None


def is_vector(kind: pa.DataType) -> bool:
    """Whether values are vectors of floating-point numbers."""
    inner = element_type(kind)
    return inner is not None and is_floating(inner)


def plain_values(values: Any) -> Any:
    """An array or chunked array without dictionary, run-end encoding, extension or list view."""
    kind = values.type
    if isinstance(kind, pa.BaseExtensionType):
        if isinstance(values, pa.ChunkedArray):
            return plain_values(pa.chunked_array([each.storage for each in values.chunks], kind.storage_type))
        return plain_values(values.storage)
    if pa.types.is_run_end_encoded(kind):
        return plain_values(pc.run_end_decode(values))
    if pa.types.is_dictionary(kind):
        if isinstance(values, pa.ChunkedArray):
            return pa.chunked_array([plain_values(each) for each in values.chunks], without_views(plain_type(kind)))
        # Arrow can neither decode nor take from a dictionary of views.
        held = plain_values(values.dictionary)
        return held.cast(without_views(held.type)).take(values.indices)
    if _is_view(kind, "is_list_view") or _is_view(kind, "is_large_list_view"):
        if isinstance(values, pa.ChunkedArray):
            return pa.chunked_array([_viewed_lists(each) for each in values.chunks], pa.large_list(kind.value_type))
        return _viewed_lists(values)
    return values


def _viewed_lists(values: Any) -> Any:
    """List views as lists; Arrow's own cast misreads a slice of them."""
    there = np.asarray(values.is_valid())
    sizes = np.where(there, np.asarray(values.sizes), 0).astype(np.int64)
    ends = np.cumsum(sizes)
    places = np.repeat(np.asarray(values.offsets, np.int64) - (ends - sizes), sizes) + np.arange(int(sizes.sum()))
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int64))
    return pa.LargeListArray.from_arrays(offsets, values.values.take(pa.array(places)), mask=pa.array(~there))


def without_views(kind: pa.DataType) -> pa.DataType:
    """The type with large texts and bytes in place of views, also in lists, structs and dictionaries.

    Arrow can neither take nor filter rows of views, which polars writes, nor write runs to parquet: these are decoded.
    """
    if pa.types.is_run_end_encoded(kind):
        return without_views(kind.value_type)
    if _is_view(kind, "is_string_view"):
        return pa.large_string()
    if _is_view(kind, "is_binary_view"):
        return pa.large_binary()
    if pa.types.is_struct(kind):
        return pa.struct([each.with_type(without_views(each.type)) for each in kind])
    inner = without_views(kind.value_type) if is_list(kind) or pa.types.is_dictionary(kind) else None
    if inner is None or inner == kind.value_type:
        return kind
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, inner, kind.ordered)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(inner, kind.list_size)
    return pa.list_(inner) if pa.types.is_list(kind) else pa.large_list(inner)


def rows_without_views(rows: Any) -> Any:
    """A table or record batch with its columns cast to the types that `without_views` gives."""
    for at, field in enumerate(rows.schema):
        kind = without_views(field.type)
        if kind != field.type:
            rows = rows.set_column(at, field.with_type(kind), _converted(rows.column(at), kind))
    return rows


def _converted(values: Any, kind: pa.DataType) -> Any:
    if isinstance(values, pa.ChunkedArray):
        return pa.chunked_array([_converted(each, kind) for each in values.chunks], kind)
    if pa.types.is_dictionary(kind):
        held = _converted(values.dictionary, kind.value_type)
        return pa.DictionaryArray.from_arrays(values.indices, held, ordered=kind.ordered)
    return (values if pa.types.is_struct(kind) else plain_values(values)).cast(kind)


def table_of(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """The table of rows as dicts; a row may lack columns, the first one too.

    Raises:
        pyarrow.ArrowException: a column of several types.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _column([row.get(name) for row in rows]) for name in names})


def _column(values: list[Any]) -> Any:
    try:
        return pa.array(values)
    except OverflowError:  # whole numbers of more than 64 bits, as the reader of JSON lines takes them
        return pa.array([None if each is None else float(each) for each in values])


def only_field(name: str, schema: pa.Schema, column: str) -> pa.Field:
    """The one field of a column that is there.

    Raises:
        DataError: there are two.
    """
    if schema.names.count(column) > 1:
        raise DataError(f"{name} has two columns called {column!r}: which one is meant cannot be told, rename one")
    return schema.field(column)


def texts(values: Any, name: str) -> list[Any]:
    """The texts of a column, None where one is missing.

    Args:
        values: a column of texts.
        name: of it, for the error.

    Raises:
        DataError: a text is not UTF-8.
    """
    try:
        found: list[Any] = plain_values(values).to_pylist()
    except UnicodeDecodeError as error:
        raise DataError(f"{name} holds text that is no UTF-8: {first_line(error)}") from error
    return found


def integers(values: Any, name: str) -> NDArray[Any]:
    """(N,) whole numbers of a column: int64, or uint64 where int64 cannot hold them.

    Raises:
        DataError: a number is missing.
    """
    if values.null_count:
        raise DataError(f"{name} has {values.null_count:,} missing numbers")
    found: NDArray[Any] = plain_values(values).to_numpy()
    large = found.dtype == np.uint64 and len(found) > 0 and found.max() > np.iinfo(np.int64).max
    return found if large else found.astype(np.int64)


def vectors(values: Any, name: str, start: int = 0, width: int | None = None) -> FloatArray:
    """(N, D) float32 vectors of a column of lists; a row is nan where its list is missing or empty.

    Args:
        values: an array of lists, or of tensors of one dimension.
        name: of the data, for errors.
        start: number of the first row, for errors.
        width: the D that every row must have; None takes the first row's that has one, or 0.

    Raises:
        DataError: lists of other lengths; the first such row is named.
    """
    values = plain_values(values)
    there = np.asarray(values.is_valid())
    if pa.types.is_fixed_size_list(values.type):
        lengths = np.where(there, values.type.list_size, 0)
    else:
        lengths = np.asarray(values.value_lengths().fill_null(0))
    filled = lengths > 0
    if width is None:
        width = int(lengths[filled.argmax()]) if filled.any() else 0
    other = np.flatnonzero(filled & (lengths != width))
    if len(other):
        raise DataError(
            f"{name}: row {start + other[0]:,} has {lengths[other[0]]} dimensions, the rows before it {width}: vectors "
            "of one encoder must agree"
        )
    flat = plain_values(values.flatten()).to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
    if filled.all():
        whole: FloatArray = flat.reshape(len(values), width)
        return whole
    out = np.full((len(values), width), np.nan, np.float32)
    out[filled] = flat.reshape(int(filled.sum()), width)
    return out


def numbers(values: Any) -> FloatArray:
    """(N,) float32 numbers of a column, nan where one is missing."""
    found: FloatArray = plain_values(values).to_numpy(zero_copy_only=False).astype(np.float32)
    return found
