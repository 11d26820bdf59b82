"""Texts read from files a few at a time, and their views written to one parquet file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pairsift._base.checks import first_line
from pairsift._base.files import replacing
from pairsift.data import DataError
from pairsift.data.columns import only_field
from pairsift.data.tables import DAMAGE
from pairsift.text.semantic import SemanticViews, View, ViewMaker

# Names that are looked for, the first one that is there wins.
TEXT_COLUMNS = ("text", "sentence", "texts", "sentences")
_ROWS, _EXAMPLES = 1024, 3
_CHANGES = pa.list_(
    pa.struct([
        ("token", pa.int32()), ("old", pa.string()), ("new", pa.string()), ("relation", pa.string()),
        ("start", pa.int32()), ("stop", pa.int32()),
    ])
)  # fmt: skip
_SCHEMA = pa.schema([
    ("text", pa.string()), ("words", pa.int32()), ("synonym", pa.string()), ("synonym_changes", _CHANGES),
    ("antonym", pa.string()), ("antonym_changes", _CHANGES),
])  # fmt: skip


@dataclass
class ViewSummary:
    """What a file of views holds.

    Attributes:
        texts: how many.
        synonym, antonym, both: how many have the one version, the other, both.
        synonym_share, antonym_share: mean share of words replaced, of texts that have the version; 0 where none has.
        seconds: taken.
        examples: the first texts that have both.
    """

    texts: int = 0
    synonym: int = 0
    antonym: int = 0
    both: int = 0
    synonym_share: float = 0.0
    antonym_share: float = 0.0
    seconds: float = 0.0
    examples: list[SemanticViews] = field(default_factory=list)

    def add(self, views: SemanticViews) -> None:
        """Count a text."""
        self.texts += 1
        for name in ("synonym", "antonym"):
            view: View | None = getattr(views, name)
            if view is not None:
                count, share = getattr(self, name) + 1, f"{name}_share"
                now = len(view.changes) / len(view.replaced)
                setattr(self, name, count)
                setattr(self, share, getattr(self, share) + (now - getattr(self, share)) / count)
        if views.synonym is not None and views.antonym is not None:
            self.both += 1
            if len(self.examples) < _EXAMPLES:
                self.examples.append(views)


def read_texts(path: Path, column: str | None = None) -> Iterator[str]:
    """The texts of a .parquet file, or of a .txt file, one a line, empty ones left out; few are held at once.

    Raises:
        DataError: no such file or kind of file, not readable, no column of texts, a row without a text.
    """
    if not path.is_file():
        raise DataError(f"no texts at {path}: give a .parquet file, or a .txt file with one a line")
    if path.suffix == ".txt":
        if column is not None:
            raise DataError(f"{path} is a .txt file and has no columns: leave `column` out")
        return _lines(path)
    if path.suffix != ".parquet":
        raise DataError(f"{path} is no kind of file known here: use .parquet, or .txt with one text a line")
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read as parquet: {first_line(error)}") from error
    names = file.schema_arrow.names
    found = (
        column if column in names else next((each for each in TEXT_COLUMNS if column is None and each in names), None)
    )
    if found is None:
        what = f"column {column!r}" if column else f"column called {' or '.join(TEXT_COLUMNS)}"
        raise DataError(f"{path} has no {what}; its columns: {', '.join(names)} (name one with `column`)")
    kind = only_field(str(path), file.schema_arrow, found).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
        raise DataError(f"column {found!r} of {path} holds {kind}, not texts; its columns: {', '.join(names)}")
    return _cells(file, found, path)


def write_views(
    path: Path, output: Path, column: str | None = None, *, progress: Callable[[int], None] | None = None, **views: Any
) -> ViewSummary:
    """Write the views of a file's texts as parquet, whole or not at all.

    Columns: text, words (how many), synonym and antonym (null where there is none), and the changes of each: token,
    old, new, relation, and start and stop in characters of the version. A `SemanticCollator` reads its rows.

    Args:
        path: see `read_texts`.
        output: the file to write.
        column: of the texts; None takes a usual one.
        progress: told how many texts are done.
        **views: settings of `semantic_views`.

    Raises:
        DataError: see `read_texts`; or there is no text at all.
        ValueError: the output is there already, its folder is not, or a setting is out of range.
    """
    if output.exists():
        raise ValueError(f"{output} is there already: remove it, or name another file")
    if not output.parent.is_dir():
        raise ValueError(f"the folder of {output} does not exist")
    texts = read_texts(path, column)
    start, summary = time.perf_counter(), ViewSummary()
    made = ViewMaker(**views).stream(texts)
    settings = {name: each for name, each in views.items() if isinstance(each, (int, float, str))}
    schema = _SCHEMA.with_metadata({"pairsift": json.dumps(settings)})
    with replacing(output) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for block in _blocks(made):
            for each in block:
                summary.add(each)
            writer.write_table(pa.Table.from_pylist([_row(each) for each in block], schema=schema))
            if progress is not None:
                progress(summary.texts)
        if not summary.texts:
            raise DataError(f"{path} holds no text")
    summary.seconds = time.perf_counter() - start
    return summary


def _lines(path: Path) -> Iterator[str]:
    try:
        with path.open(encoding="utf-8") as file:
            yield from filter(None, map(str.strip, file))
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no UTF-8 text: {first_line(error)}") from error


def _cells(file: pq.ParquetFile, column: str, path: Path) -> Iterator[str]:
    row = 0
    try:
        for batch in file.iter_batches(_ROWS, columns=[column]):
            for text in batch.column(0).to_pylist():
                if text is None:
                    raise DataError(f"row {row} of {path} has no text in {column!r}: remove such rows")
                yield text
                row += 1
    except DAMAGE as error:
        raise DataError(f"{path} cannot be read beyond row {row}: {first_line(error)}") from error


def _blocks(views: Iterable[SemanticViews]) -> Iterator[list[SemanticViews]]:
    every = iter(views)
    while block := list(islice(every, _ROWS)):
        yield block


def _row(views: SemanticViews) -> dict[str, Any]:
    row: dict[str, Any] = {"text": views.original, "words": len(views.tokens)}
    for name in ("synonym", "antonym"):
        view: View | None = getattr(views, name)
        row[name] = None if view is None else view.text
        row[f"{name}_changes"] = None if view is None else [change._asdict() for change in view.changes]
    return row
