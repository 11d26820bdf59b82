"""The cells of a table of pairs: whether they can be used, and a key that is equal where their contents are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairsift._base.checks import first_line
from pairsift.pairs import text_keys
from pairsift.retrieval.columns import Column
from pairsift.retrieval.errors import PairsError
from pairsift.retrieval.source import PairsSource, decoded, matrix

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]

# As text_keys: 53 bits are exact in float64 too. No key is negative.
_BITS = 53
NO_KEY = -1


class State(IntEnum):
    """What is wrong with a cell."""

    FINE, MISSING, EMPTY, NOT_FINITE = range(4)


@dataclass(frozen=True)
class Cells:
    """The cells of one column, in order; a cell of a list column is an element of a list.

    Attributes:
        column: that they are of.
        rows: (C,) row of each cell.
        keys: (C,) int64, equal where contents are: texts but for case and white space, embeddings bit by bit. `NO_KEY`
            where there is nothing to compare.
        states: (C,) int8 of `State`.
    """

    column: Column
    rows: IntArray
    keys: IntArray
    states: NDArray[np.int8]


def read_cells(source: PairsSource, column: Column) -> Cells:
    """Read a column once, for its keys.

    Raises:
        DataError: the file is damaged.
        PairsError: embeddings of several lengths, or texts that are no UTF-8.
    """
    read = _text_cells if source.columns.kind == "texts" else _vector_cells
    parts, width = [], 0
    for start, values in source.cells(column.name):
        rows, keys, states, width = read(values, column, f"{source.name}, column {column.name!r}", start, width)
        parts.append((rows, keys, states))
    rows, keys, states = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Cells(column, rows, keys, states)


def contents(source: PairsSource, column: Column) -> Iterator[Any]:
    """What the cells of a column hold, batch by batch and in the same order: lists of texts, or (C, D) rows."""
    name = f"{source.name}, column {column.name!r}"
    for start, values in source.cells(column.name):
        yield matrix(values, name, start)[0] if source.columns.kind == "embeddings" else elements(values, column)[1]


def elements(values: Any, column: Column) -> tuple[IntArray, Any]:
    """Place in the batch and text of each cell: one a row, or for lists one an element."""
    if not column.listed:
        return np.arange(len(values)), _texts(values, column)
    places = np.repeat(np.arange(len(values)), np.asarray(values.value_lengths().fill_null(0)))
    return places, _texts(decoded(values.filter(values.is_valid()).flatten()), column)


def _texts(values: Any, column: Column) -> list[Any]:
    try:
        texts: list[Any] = values.to_pylist()
    except UnicodeDecodeError as error:
        raise PairsError(f"column {column.name!r} holds text that is no UTF-8: {first_line(error)}") from error
    return texts


def _text_cells(values: Any, column: Column, name: str, start: int, width: int) -> tuple[Any, Any, Any, int]:
    places, texts = elements(values, column)
    states = np.array(
        [State.MISSING if text is None else State.FINE if text.strip() else State.EMPTY for text in texts], np.int8
    )
    keys = np.full(len(texts), NO_KEY, np.int64)
    keys[states == State.FINE] = text_keys(text for text, state in zip(texts, states, strict=True) if not state)
    return start + places, keys, states, 0


def _vector_cells(values: Any, column: Column, name: str, start: int, width: int) -> tuple[Any, Any, Any, int]:
    features, there = matrix(values, name, start, width or None)
    states = np.where(there, State.FINE, State.MISSING).astype(np.int8)
    states[there & ~features.any(axis=1)] = State.EMPTY
    # Entries above 1e19 are finite and their squares are not: such a row has no cosine either.
    with np.errstate(over="ignore", invalid="ignore"):
        states[~np.isfinite(np.einsum("ij,ij->i", features, features))] = State.NOT_FINITE
    keys = np.full(len(features), NO_KEY, np.int64)
    fine = states == State.FINE
    keys[fine] = [_vector_key(row) for row in features[fine] + np.float32(0)]  # + 0 makes -0 a 0
    return start + np.arange(len(features)), keys, states, features.shape[1] or width


def _vector_key(row: FloatArray) -> int:
    return int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "big") >> (64 - _BITS)
