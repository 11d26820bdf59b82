"""Find the columns of images, features and labels in a table, and read labels as class numbers."""

from __future__ import annotations

import fnmatch
import json
import re
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pairsift.data import arrow
from pairsift.data.errors import DataError

# Names that are looked for, the first one that is there wins.
IMAGE_COLUMNS = ("image", "img")
IMAGE_ARRAYS = ("images", "x", "x_train", "data")
# A table of images often has columns of other meanings, so only the plainest name of labels counts there.
IMAGE_LABELS = ("label",)
ARRAY_LABELS = ("labels", "label", "y", "y_train", "targets")
FEATURE_LABELS = ("label", "labels", "y")
PATH_COLUMNS = ("path", "image_path", "file_path", "filepath", "file_name", "filename", "file")
# Columns that say something about a row and are never a dimension of it.
OTHER_NAMES = ("row", "path", "mixed", "image", "text")
# Names of numbers that are rarely a dimension: they are left to the user to take or leave.
_ODD_NAMES = re.compile(
    r"(.*[_ ])?(id|ids|idx|index|key|time|timestamp|date|datetime|year|split|fold|target|class|price)|unnamed: ?\d+"
    r"|__index_level_\d+__|level_\d+",
    re.IGNORECASE,
)
# The name of a label column by which a user asks for no labels.
NO_LABELS = "none"
UNLABELLED = -1
"""The class number of a row without a label: it belongs to no class, and is not a class of its own."""


class Undescribed:
    """Labels, names of classes and paths of rows, None where a source does not know them."""

    labels: NDArray[np.int64] | None = None
    class_names: Sequence[str] | None = None
    paths: Sequence[str] | None = None


def image_column(name: str, schema: pa.Schema) -> str:
    """The column of encoded images: the one with a usual name, or the only one that holds bytes.

    Raises:
        DataError: there is none, or there are several.
    """
    found = _first(IMAGE_COLUMNS, schema.names)
    if found is not None:
        return found
    encoded = [field.name for field in schema if arrow.is_encoded(field.type)]
    if len(encoded) > 1:
        raise DataError(
            f"{name} has {len(encoded)} columns of encoded images, {', '.join(encoded)}: call the one to read "
            f"{IMAGE_COLUMNS[0]!r}"
        )
    if not encoded:
        raise DataError(
            f"{name} has no image column ({' or '.join(IMAGE_COLUMNS)}, or one of bytes); its columns: "
            f"{', '.join(schema.names)}"
        )
    return str(encoded[0])


def array_called(name: str, wanted: Sequence[str], available: Sequence[str]) -> str:
    """The array of an .npz that has one of the wanted names.

    Raises:
        DataError: there is none.
    """
    found = _first(wanted, available)
    if found is None:
        raise DataError(f"{name} has no array called {' or '.join(wanted)}; it holds: {', '.join(available)}")
    return found


def find_label_column(name: str, available: Sequence[str], wanted: str | None, usual: Sequence[str]) -> str | None:
    """The column of classes.

    Args:
        name: of the data, for the error.
        available: names of all columns.
        wanted: the column that the user named; None takes a usual one where there is one, "none" takes none.
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


# Features


def feature_columns(
    name: str, schema: pa.Schema, label: str | None, column: str | Sequence[str] | None = None, typed: bool = True
) -> list[str]:
    """The one column of vectors, or all columns of numbers that are dimensions.

    A column of lists of floats, or of tensors of one dimension, is taken whatever its name. Without one, all
    floating-point columns are the dimensions if they are alike. Columns that say something about the row (its label,
    `OTHER_NAMES`, the index of a pandas frame) are never taken.

    Args:
        name: of the data, for errors.
        schema: of the table.
        label: the column of labels, which is no dimension.
        column: the column that the user named: its name, a pattern (``emb_*``), or several, in a list or with commas.
        typed: whether the file has types. Without types, as in CSV, whole numbers count as dimensions.

    Raises:
        DataError: there is no such column, several could be meant, or columns of numbers are of different kinds.
    """
    if column is not None:
        return _named_columns(name, schema, column)
    listed = {field.name: arrow.element_type(field.type) for field in schema if field.name != label}
    vectors = [each for each, inner in listed.items() if inner is not None and arrow.is_floating(inner)]
    if not (vectors or typed):
        vectors = [each for each, inner in listed.items() if inner is not None and arrow.is_integer(inner)]
    if len(vectors) > 1:
        shown = ", ".join(f"{each} ({arrow.only_field(name, schema, each).type})" for each in vectors)
        raise DataError(f"{name} has {len(vectors)} columns of vectors, {shown}: name the one to read with `column`")
    if vectors:
        arrow.only_field(name, schema, vectors[0])
        return vectors
    found = _dimensions(name, schema, label, typed)
    for each in found:
        arrow.only_field(name, schema, each)
    return found


def _named_columns(name: str, schema: pa.Schema, column: str | Sequence[str]) -> list[str]:
    """The columns of numbers that a user named."""
    if isinstance(column, str):
        wanted = [column] if column in schema.names else [each.strip() for each in column.split(",")]
    else:
        wanted = list(column)
    found: list[str] = []
    for each in wanted:
        fits = [each] if each in schema.names else fnmatch.filter(schema.names, each)
        if not fits:
            raise DataError(f"{name} has no column {each!r} (`column`); its columns: {', '.join(schema.names)}")
        found += [other for other in fits if other not in found]
    kinds = {each: arrow.only_field(name, schema, each).type for each in found}
    inner = {each: arrow.element_type(kind) for each, kind in kinds.items()}
    if len(found) == 1 and inner[found[0]] is not None:
        wrong = {} if arrow.is_number(inner[found[0]]) else kinds
    else:
        wrong = {each: kind for each, kind in kinds.items() if not arrow.is_number(kind)}
    if wrong:
        first = next(iter(wrong))
        raise DataError(
            f"{name}: column {first!r} holds {wrong[first]}: features are one column of vectors, or columns of numbers"
        )
    return found


def _dimensions(name: str, schema: pa.Schema, label: str | None, typed: bool) -> list[str]:
    """The columns of numbers of a wide table, refused where one of them is of another kind than the others."""
    # In a CSV that pandas wrote, the column without a name is its index.
    index = _pandas_index(schema) + ([""] if not typed and "" in schema.names else [])
    other = {label, *FEATURE_LABELS, *OTHER_NAMES, *index}
    counted = arrow.is_floating if typed else arrow.is_number
    fields = [field for field in schema if field.name not in other and counted(field.type)]
    if not fields:
        raise _no_features(name, schema)
    odd = _odd_ones(fields, typed)
    stems = {_stem(field.name) for field in fields if field.name not in odd} - {None}
    whole = [field.name for field in schema if field.name not in other and arrow.is_integer(field.type) and typed]
    alike = [each for each in whole if _stem(each) in stems]
    odd += alike
    if odd and set(odd) != {field.name for field in fields}:
        rest = [field.name for field in fields if field.name not in odd]
        some = ", ".join(f"{each} ({arrow.only_field(name, schema, each).type})" for each in odd[:4])
        raise DataError(
            f"{name}: {some}{' and more' * (len(odd) > 4)} {'is' if len(odd) == 1 else 'are'} of another kind than the "
            f"other columns of numbers ({_shown(rest)}): name the dimensions with `column`, as "
            f"{_pattern(rest + alike)!r}"
        )
    whole = [each for each in whole if not _ODD_NAMES.fullmatch(each)]
    if whole:
        warnings.warn(
            f"{name}: {_shown(whole)} hold{'s' * (len(whole) == 1)} whole numbers, which are taken for no dimensions: "
            "name all dimensions with `column` if they are",
            stacklevel=2,
        )
    left = [field.name for field in schema if field.name in index and arrow.is_number(field.type)]
    if left:
        named = ", ".join(each or "the column without a name" for each in left)
        warnings.warn(f"{name}: {named} is the index of a pandas frame and no dimension", stacklevel=2)
    return [field.name for field in fields]


def _odd_ones(fields: Sequence[pa.Field], typed: bool) -> list[str]:
    """Columns that differ from most in name or type."""
    odd = [field.name for field in fields if _ODD_NAMES.fullmatch(field.name)]
    rest = [field for field in fields if field.name not in odd]
    stems = Counter(_stem(field.name) for field in rest)
    stem, count = stems.most_common(1)[0] if stems else (None, 0)
    # A table of measurements has names of all kinds: none is odd unless most are numbers of one row.
    if stem is not None and count > 1 and 2 * count > len(rest):
        odd += [field.name for field in rest if _stem(field.name) != stem]
    rest = [field for field in rest if field.name not in odd]
    types = Counter(str(field.type) for field in rest)
    if typed and len(types) > 1:
        usual = types.most_common(1)[0][0]
        odd += [field.name for field in rest if str(field.type) != usual]
    return odd


def _stem(name: str) -> str | None:
    """A numbered name without its number; None where it has none."""
    numbered = re.fullmatch(r"(.*?)\d+", name)
    return numbered[1] if numbered else None


def _shown(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 5 else f"{names[0]}, {names[1]} ... {names[-1]}"


def _pattern(names: Sequence[str]) -> str:
    stems = {_stem(each) for each in names}
    only = next(iter(stems))
    if len(stems) == 1 and only is not None and len(names) > 2:
        return f"{only or '[0-9]'}*"
    return ",".join(names[:2]) + ",..." * (len(names) > 2)


def _pandas_index(schema: pa.Schema) -> list[str]:
    """The columns that hold the index of a pandas frame, as pandas wrote in the schema."""
    try:
        facts = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        return [each for each in facts.get("index_columns", ()) if isinstance(each, str)]
    except (ValueError, AttributeError, TypeError):  # another program's key of that name
        return []


def _no_features(name: str, schema: pa.Schema) -> DataError:
    for field in schema:
        inner = arrow.element_type(field.type)
        if inner is not None and field.name not in FEATURE_LABELS:
            return DataError(
                f"{name}: column {field.name!r} holds {field.type}: features must be floating point, got {inner} "
                "(`column` takes whole numbers, too)"
            )
    return DataError(f"{name} has no feature columns; its columns: {', '.join(schema.names)}")


# Labels


def class_numbers(labels: NDArray[Any], name: str) -> tuple[NDArray[np.int64], list[str] | None]:
    """Labels as int64 class numbers, `UNLABELLED` where one is missing; names are numbered in sorted order.

    Args:
        labels: (N,) whole numbers or names. None, nan, "" and masked entries are missing labels.
        name: of the data, for errors.

    Returns:
        (N,) numbers, and the names of the classes where labels are names or numbers beyond int64.

    Raises:
        DataError: labels of another type (fractions, lists, dates).
    """
    if labels.ndim != 1:
        raise DataError(f"{name}: labels must be one value per row, got shape {labels.shape}")
    masked = np.ma.getmaskarray(labels) if np.ma.is_masked(labels) else None
    labels = np.asarray(labels)
    if masked is not None:
        labels = labels.astype(object)
        labels[masked] = None
    kind = labels.dtype.kind
    if kind in "iub" and not (labels.dtype == np.uint64 and len(labels) and labels.max() > np.iinfo(np.int64).max):
        return labels.astype(np.int64), None
    if kind == "u":
        values, codes = np.unique(labels, return_inverse=True)
        return codes.astype(np.int64), [str(each) for each in values]
    if kind == "f":
        missing = np.isnan(labels)
        if np.isfinite(labels[~missing]).all() and (labels[~missing] == np.round(labels[~missing])).all():
            return np.where(missing, UNLABELLED, np.nan_to_num(labels)).astype(np.int64), None
    there = np.ones(len(labels), bool)
    if kind == "O":
        there = np.array([not _is_missing(each) for each in labels], bool)
        if len(labels) and all(isinstance(each, (bool, int, np.integer)) for each in labels[there]):
            found, names = class_numbers(np.array(labels[there].tolist()), name)
            return _spread(found, there), names
    if kind in "UT" or (kind == "O" and all(isinstance(each, str) for each in labels[there])):
        there[there] = labels[there] != ""  # a table of texts has no other sign for a missing one
        named, codes = np.unique(labels[there].astype(str), return_inverse=True)
        return _spread(codes, there), named.tolist()
    got = type(labels[there][0]).__name__ if kind == "O" and there.any() else str(labels.dtype)
    got = "numbers that are not whole" if kind == "f" else got
    raise DataError(f"{name}: labels must be whole numbers or names of classes, got {got}")


def _is_missing(label: Any) -> bool:
    """Whether a label is None, nan, or the NA or NaT of pandas."""
    return (
        label is None or type(label).__name__ in ("NAType", "NaTType") or (isinstance(label, float) and label != label)
    )


def column_labels(values: Any, field: pa.Field, schema: pa.Schema, name: str) -> tuple[NDArray[np.int64], Any]:
    """Class numbers of a column, `UNLABELLED` where a label is missing, and the names of the classes where known.

    Args:
        values: the column.
        field: its field.
        schema: that may hold names of classes, as Hugging Face `datasets` writes them.
        name: of the data, for errors.

    Raises:
        DataError: labels of another type.
    """
    name = f"{name}, column {field.name!r}"
    if arrow.is_text(field.type):
        return class_numbers(np.array(arrow.texts(values, name), dtype=object), name)
    if arrow.is_integer(field.type) or arrow.is_boolean(field.type):
        there = np.asarray(values.is_valid())
        found, names = class_numbers(arrow.plain_values(values.drop_null()).to_numpy(zero_copy_only=False), name)
        written = written_class_names(schema, field.name) or []
        # Names that do not reach to the last class are of another column, or of another version of the set.
        known = len(written) > found.max(initial=UNLABELLED) and found.min(initial=0) >= UNLABELLED
        return _spread(found, there), names or (written if written and known else None)
    if pa.types.is_null(field.type):
        return np.full(len(values), UNLABELLED, np.int64), None
    if arrow.is_floating(field.type):
        return class_numbers(arrow.plain_values(values).to_numpy(zero_copy_only=False), name)
    raise DataError(f"{name}: labels must be whole numbers or names of classes, got {field.type}")


def usable_labels(read: Callable[[], Any], asked: bool) -> tuple[NDArray[np.int64] | None, Sequence[str] | None]:
    """Class numbers and names of classes; None twice where no row has a label.

    Args:
        read: gives the numbers and the names.
        asked: whether the user asked for the labels. Others that cannot be used are left out with a warning.

    Raises:
        DataError: labels that were asked for cannot be used.
    """
    try:
        numbers, names = read()
    except DataError as error:
        if asked:
            raise
        warnings.warn(f"labels are not used: {error}", stacklevel=4)
        return None, None
    return (numbers, names) if (numbers != UNLABELLED).any() else (None, None)


def _spread(codes: NDArray[Any], there: NDArray[np.bool_]) -> NDArray[np.int64]:
    out = np.full(len(there), UNLABELLED, np.int64)
    out[there] = codes
    return out


def written_class_names(schema: pa.Schema, column: str) -> list[str] | None:
    """The names of the classes that a schema carries, as Hugging Face `datasets` writes them; None without."""
    try:
        facts = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        names = facts["info"]["features"][column]["names"]
    except (ValueError, KeyError, TypeError):
        return None
    return [str(each) for each in names] if isinstance(names, list) else None


def with_class_names(table: pa.Table, column: str, names: Sequence[str] | None) -> pa.Table:
    """The table with the names of the classes of a column, where it has one, in its schema, where `datasets` looks."""
    if names is None or column not in table.column_names:
        return table
    facts = {"info": {"features": {column: {"names": [str(each) for each in names], "_type": "ClassLabel"}}}}
    return table.replace_schema_metadata((table.schema.metadata or {}) | {b"huggingface": json.dumps(facts)})


def _first(wanted: Sequence[str], available: Sequence[str]) -> str | None:
    return next((each for each in wanted if each in available), None)
