"""Which columns of a table hold pairs and their labels, and which rows are labelled as pairs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pairsift.data import DataError, arrow
from pairsift.data.columns import NO_LABELS, written_class_names
from pairsift.retrieval.config import PairsConfig, PairsError

Kind = Literal["texts", "embeddings"]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]

# Usual names of columns; the first that is there is taken.
ANCHORS = ("anchor", "query", "question", "sentence1", "sentence_0")
POSITIVES = ("positive", "pos", "answer", "document", "passage", "sentence2", "sentence_1", "positive_passages")
# Labels are found by name, whatever its case; those of the second kind only where they hold numbers or booleans.
LABELS = ("label", "labels", "score", "scores", "similarity_score", "relevance", "is_duplicate", "gold_label")
NUMBERS = (
    "similarity", "sim", "cosine", "cosine_similarity", "cos_sim", "sts", "sts_score", "relatedness",
    "relatedness_score", "relevance_score", "rel", "relevant", "is_relevant", "related", "is_related", "match",
    "is_match", "is_positive", "duplicate", "paraphrase", "is_paraphrase", "entailment", "is_entailment", "equivalent",
    "same", "is_same", "gold", "gold_score", "ground_truth", "correct", "is_correct", "rating", "grade", "target", "y",
)  # fmt: skip
# Numbers of other meanings, which nobody takes for labels.
_OTHER_NUMBERS = re.compile(
    r"(.*[_-])?(id|ids|idx|index|row|rank|position|time|timestamp|date|year|split|fold|len|length)"
)
_NEGATIVES = re.compile(r"(hard_)?neg(ative)?s?(_passages)?(_?\d+)?")

# The name of a class 0 that plainly means "no pair". Elsewhere 0 can be "entailment".
_NEGATED = re.compile(r"(?i)(not?|non|un|ir|dis|0|false|neg)")
# A number that is written as a text.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
# Values of a column of labels that an error lists.
_LISTED = 8


class Column(NamedTuple):
    """A column; `listed` where a cell holds several texts."""

    name: str
    listed: bool = False


class Columns(NamedTuple):
    """The columns of pairs, the kind of their cells, and the column of labels."""

    anchor: Column
    positive: Column
    negatives: tuple[Column, ...]
    kind: Kind
    label: str | None = None

    @property
    def all(self) -> tuple[Column, ...]:
        """Anchors, positives, then the columns of negatives."""
        return (self.anchor, self.positive, *self.negatives)


def find_columns(name: str, schema: pa.Schema, config: PairsConfig) -> Columns:
    """The columns of pairs.

    Args:
        name: of the data, for errors.
        schema: of the table.
        config: names columns.

    Raises:
        DataError: a column is missing, or holds neither texts nor embeddings, or another kind than the others.
    """
    first = _one(name, schema, "anchor", config.anchor, ANCHORS)
    second = _one(name, schema, "positive", config.positive, POSITIVES)
    if first == second:
        raise DataError(f"{name}: anchors and positives are both column {first!r}: name two")
    third = [each for each in _negative_columns(schema, config) if config.negatives or each not in (first, second)]
    twice = next((each for at, each in enumerate(third) if each in (first, second, *third[:at])), None)
    if twice is not None:
        raise DataError(f"{name}: `negatives` names column {twice!r}, which has another use: name each column once")
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
    columns = [
        Column(each, kind == "texts" and arrow.is_list(schema.field(each).type)) for each in (first, second, *third)
    ]
    if any(column.listed for column in columns[:2]):
        raise DataError(f"{name}: a row needs one anchor and one positive, not a list: write a row for each pair")
    label = _label_column(name, schema, config.label, {column.name for column in columns})
    return Columns(columns[0], columns[1], tuple(columns[2:]), kind, label)


def find_lists(schema: pa.Schema, config: PairsConfig) -> tuple[str, list[str], str | None] | None:
    """Where a cell of positives holds several: their column, those of negatives, and that of lists of labels."""
    usual = (each for each in POSITIVES if each in schema.names)
    positive = config.positive if config.positive in schema.names else next(usual, None)
    if positive is None or not arrow.is_text_list(schema.field(positive).type):
        return None
    negatives = [each for each in _negative_columns(schema, config) if each in schema.names and each != positive]
    wanted = LABELS if config.label is None else (config.label.lower(),)
    listed = (each.name for each in schema if each.name.lower() in wanted and _is_number_list(each.type))
    return positive, negatives, next(listed, None)


def scores_of(schema: pa.Schema, columns: Columns) -> str | None:
    """A column with a list of scores, one for each negative; None where there is none."""
    if not columns.negatives:
        return None
    names = {*LABELS, *(f"{column.name}_scores" for column in columns.negatives), "neg_scores"}
    return next((each.name for each in schema if each.name in names and _is_number_list(each.type)), None)


def kind_of(schema: pa.Schema, column: str) -> Kind | None:
    """What a column holds, one text or embedding a row; None for anything else."""
    kind = arrow.only_field("the table", schema, column).type
    return "texts" if arrow.is_text(kind) else "embeddings" if arrow.is_vector(kind) else None


def _negative_columns(schema: pa.Schema, config: PairsConfig) -> list[str]:
    """Names of the columns of negatives, as they are configured or usual."""
    if config.negatives is None:
        return [each for each in schema.names if _NEGATIVES.fullmatch(each)]
    return [] if config.negatives == NO_LABELS else [each.strip() for each in config.negatives.split(",")]


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
    kind = arrow.only_field(name, schema, column).type
    if arrow.is_text(kind.value_type if arrow.is_list(kind) else kind):
        return "texts"
    if arrow.is_vector(kind):
        return "embeddings"
    raise DataError(
        f"{name}: column {column!r} is {kind}: anchors, positives and negatives are texts or lists of floats"
    )


def _label_column(name: str, schema: pa.Schema, wanted: str | None, taken: set[str]) -> str | None:
    if wanted == NO_LABELS:
        return None
    if wanted is None:
        names = {each.lower(): each for each in reversed(schema.names) if each not in taken}
        usual = [names[each] for each in (*LABELS, *NUMBERS) if each in names]
        kinds = {each: arrow.only_field(name, schema, each).type for each in usual}
        fits = (each for each in usual if _is_label(kinds[each], words=each.lower() in LABELS))
        return next(fits, None)
    if wanted not in schema.names:
        raise _missing(name, "label", wanted, schema)
    kind = arrow.only_field(name, schema, wanted).type
    if not _is_label(kind):
        raise DataError(f"{name}: column {wanted!r} is {kind}: labels of pairs are numbers, booleans or words")
    return wanted


def _is_number_list(kind: pa.DataType) -> bool:
    return arrow.is_list(kind) and (arrow.is_number(kind.value_type) or arrow.is_boolean(kind.value_type))


def _is_label(kind: pa.DataType, words: bool = True) -> bool:
    """Whether values are numbers, booleans or, with `words`, texts."""
    numbers = arrow.is_number(kind) or arrow.is_boolean(kind) or pa.types.is_decimal(arrow.plain_type(kind))
    return numbers or (words and arrow.is_text(kind))


def unread_of(schema: pa.Schema, columns: Columns) -> list[str]:
    """Columns of numbers that may be labels and are not read."""
    taken = {columns.label, *(column.name for column in columns.all)}
    others = [field for field in schema if field.name not in taken]
    usual = (*LABELS, *NUMBERS)
    return [
        field.name for field in others
        if _is_label(field.type, words=field.name.lower() in LABELS)
        and (field.name.lower() in usual or not (columns.label or _OTHER_NUMBERS.fullmatch(field.name.lower())))
    ]  # fmt: skip


# Labels


@dataclass(frozen=True)
class PairLabels:
    """Which rows are labelled as positive pairs.

    Attributes:
        column: of the labels.
        positive: (N,) rows of positive pairs.
        missing: (N,) rows without a label.
        numbers: (N,) equal where the labels are.
        rule: by which a row is positive, in words.
    """

    column: str
    positive: NDArray[np.bool_]
    missing: NDArray[np.bool_]
    numbers: IntArray
    rule: str

    @property
    def negative(self) -> NDArray[np.bool_]:
        """(N,) rows that are labelled as no pair."""
        return ~self.positive & ~self.missing


def labels_of(name: str, schema: pa.Schema, column: str, values: Any, config: PairsConfig) -> PairLabels:
    """What the values of a column of labels say.

    0 and 1, -1 and 1, and false and true are read as they are, as texts too; scores in [0, 1] are positive from 0.5 on.
    Anything else has no meaning that could be known, and the error asks for it.

    Raises:
        PairsError: labels whose meaning is not known, or settings that do not fit them.
    """
    if pa.types.is_decimal(values.type):
        values = values.cast(pa.float64())
    names = written_class_names(schema, column)
    if names is not None and arrow.is_integer(values.type):
        if config.positive_label is not None:
            known = [None if each is None or not 0 <= each < len(names) else names[each] for each in values.to_pylist()]
            values = pa.array(known, pa.string())
        elif config.min_score is None and not (len(names) == 2 and _NEGATED.match(names[0])):
            raise _unclear(name, column, names)
    if arrow.is_text(values.type) or config.positive_label is not None:
        return _by_word(name, column, values, config.positive_label, config.min_score)
    numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return _by_number(name, column, numbers, config.min_score)


def _by_word(name: str, column: str, values: Any, wanted: str | None, min_score: float | None) -> PairLabels:
    texts = np.array([_word(each) for each in values.to_pylist()], dtype=object)
    missing = texts == ""
    distinct, numbers = np.unique(texts.astype(str), return_inverse=True)
    there = [each for each in distinct.tolist() if each]
    if wanted is None:
        if all(_NUMBER.fullmatch(each) for each in there):  # as a CSV of texts holds them
            scores = np.array([float(each or "nan") for each in texts], np.float64)
            return _by_number(name, column, scores, min_score)
        if min_score is not None or not {each.lower() for each in there} <= {"0", "1", "true", "false"}:
            raise _unclear(name, column, there)
        positive = np.isin(np.char.lower(texts.astype(str)), ("1", "true"))
        return PairLabels(column, positive, missing, numbers.astype(np.int64), "labels 1 and true are positive")
    chosen = [each.strip() for each in wanted.split(",")]
    if arrow.is_number(values.type):
        chosen = [_word(float(each)) if _NUMBER.fullmatch(each) else each for each in chosen]
    elif arrow.is_boolean(values.type):
        chosen = [each.capitalize() for each in chosen]
    absent = [each for each in chosen if each not in there]
    if absent:
        raise PairsError(f"{name}: column {column!r} holds no label {absent[0]!r}; its labels: {_some(there)}")
    rule = f"labels {', '.join(chosen)} are positive"
    return PairLabels(column, np.isin(texts.astype(str), chosen), missing, numbers.astype(np.int64), rule)


def _word(value: Any) -> str:
    """A label as a text; whole numbers have no fraction, and a missing one is empty."""
    if isinstance(value, float):
        return "" if np.isnan(value) else str(int(value)) if value.is_integer() else repr(value)
    return "" if value is None else str(value).strip()


def _by_number(name: str, column: str, values: NDArray[np.float64], min_score: float | None) -> PairLabels:
    missing = ~np.isfinite(values)
    distinct, numbers = np.unique(np.where(missing, np.nan, values), return_inverse=True)
    there = distinct[np.isfinite(distinct)]
    held = set(there.tolist())
    numbers = numbers.astype(np.int64)
    if min_score is not None:
        rule = f"scores of {min_score:g} and above are positive"
        return PairLabels(column, ~missing & (values >= min_score), missing, numbers, rule)
    if held <= {0.0, 1.0} or held <= {-1.0, 1.0}:
        return PairLabels(column, values == 1, missing, numbers, "label 1 is positive")
    if held <= {-1.0, 0.0, 1.0}:  # -1 is the usual label of unlabelled rows
        return PairLabels(column, values == 1, missing | (values == -1), numbers, "label 1 is positive, -1 is none")
    if there.min() >= 0 and there.max() <= 1:
        return PairLabels(column, ~missing & (values >= 0.5), missing, numbers, "scores of 0.5 and above are positive")
    raise _unclear(name, column, [f"{each:g}" for each in there.tolist()])


def _unclear(name: str, column: str, values: list[str]) -> PairsError:
    return PairsError(
        f"{name}: column {column!r} holds {_some(values)}, and which of them mark positive pairs is not known: name "
        f"them with `positive_label`, or the least score with `min_score`, or ignore the column with `label='none'`"
    )


def _some(values: list[str]) -> str:
    words = ", ".join(values[:_LISTED])
    return words if len(values) <= _LISTED else f"{words} and {len(values) - _LISTED:,} more"
