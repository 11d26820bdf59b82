"""Which columns of a table hold anchors, positives and mined negatives, and whether as texts or as embeddings."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import pyarrow as pa

from pairsift.data import DataError
from pairsift.data.arrow import is_list
from pairsift.data.columns import NO_LABELS, only_field

Kind = Literal["texts", "embeddings"]

# Names that are looked for, the first one that is there wins.
ANCHORS = ("anchor", "query", "question", "sentence1", "sentence_0")
POSITIVES = ("positive", "pos", "answer", "document", "passage", "sentence2", "sentence_1")
_NEGATIVES = re.compile(r"(hard_)?neg(ative)?s?(_?\d+)?")


class Column(NamedTuple):
    """A column; `listed` where a cell holds several texts."""

    name: str
    listed: bool = False


class Columns(NamedTuple):
    """The columns of pairs, and what their cells are."""

    anchor: Column
    positive: Column
    negatives: tuple[Column, ...]
    kind: Kind

    @property
    def all(self) -> tuple[Column, ...]:
        """Anchors, positives, then the columns of negatives."""
        return (self.anchor, self.positive, *self.negatives)


def find_columns(
    name: str, schema: pa.Schema, anchor: str | None, positive: str | None, negatives: str | None
) -> Columns:
    """The columns of pairs.

    Args:
        name: of the data, for errors.
        schema: of the table.
        anchor, positive, negatives: what the user named, see `PairsConfig`.

    Raises:
        DataError: a column is not there, or holds neither texts nor embeddings, or not what the others hold.
    """
    first = _one(name, schema, "anchor", anchor, ANCHORS)
    second = _one(name, schema, "positive", positive, POSITIVES)
    if first == second:
        raise DataError(f"{name}: anchors and positives are both column {first!r}: name two")
    if negatives is None:
        third = [each for each in schema.names if _NEGATIVES.fullmatch(each) and each not in (first, second)]
    else:
        third = [] if negatives == NO_LABELS else [each.strip() for each in negatives.split(",")]
    missing = [each for each in third if each not in schema.names]
    if missing:
        raise _missing(name, "negatives", missing[0], schema)
    kind = _kind(name, schema, first)
    for each in (second, *third):
        other = _kind(name, schema, each)
        if other != kind:
            raise DataError(
                f"{name}: column {first!r} holds {kind} and column {each!r} {other}: inspect one kind at a time"
            )
    columns = [Column(each, kind == "texts" and is_list(schema.field(each).type)) for each in (first, second, *third)]
    if any(column.listed for column in columns[:2]):
        raise DataError(f"{name}: a row needs one anchor and one positive, not a list: write a row for each pair")
    return Columns(columns[0], columns[1], tuple(columns[2:]), kind)


def _one(name: str, schema: pa.Schema, role: str, wanted: str | None, usual: Sequence[str]) -> str:
    if wanted is not None:
        if wanted not in schema.names:
            raise _missing(name, role, wanted, schema)
        return wanted
    found = next((each for each in usual if each in schema.names), None)
    if found is None:
        raise DataError(
            f"{name} has no column of {role}s ({', '.join(usual)}); its columns: {', '.join(schema.names)}: name one "
            f"with `{role}`"
        )
    return found


def _missing(name: str, role: str, wanted: str, schema: pa.Schema) -> DataError:
    return DataError(f"{name} has no column {wanted!r}; its columns: {', '.join(schema.names)}: see `{role}`")


def _kind(name: str, schema: pa.Schema, column: str) -> Kind:
    kind = only_field(name, schema, column).type
    inner = kind.value_type if is_list(kind) else kind
    if is_text(inner):
        return "texts"
    if is_list(kind) and pa.types.is_floating(inner):
        return "embeddings"
    raise DataError(
        f"{name}: column {column!r} is {kind}: anchors, positives and negatives are texts or lists of floats"
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether values of a type are texts, plainly or by a dictionary."""
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner))
