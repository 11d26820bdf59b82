"""Find the files of a table, and read their rows whatever the format.

Parquet is read by row groups and Arrow files are mapped; CSV and JSON lines, which must be parsed, are held in memory.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pairsift._base.checks import first_line
from pairsift._base.files import replacing
from pairsift.data import arrow
from pairsift.data.errors import DataError

IntArray = NDArray[np.int64]

# Errors that reading a damaged file raises.
DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)
# Formats in the order in which a folder is searched for them, with the ends of their files' names.
FORMATS = {
    "parquet": (".parquet", ".pq"),
    "arrow": (".arrow", ".feather", ".ipc"),
    "npy": (".npy",),
    "json": (".jsonl", ".ndjson", ".json"),
    "csv": (".csv",),
    "tsv": (".tsv",),
}
_PACKED = (".gz", ".bz2", ".zst")
# Rows of a piece of a table that is not in row groups, and bytes from which on text is parsed in several blocks.
_PIECE, _LARGEST_BLOCK = 65_536, 2**30
_SPLITS = re.compile(r"(train|training|test|testing|validation|valid|val|dev|eval)(?![a-z])", re.IGNORECASE)
_PARTITION = re.compile(r"([^=]+)=(.*)")
# What stands for a split in a file's path, as the Hugging Face hub reads it.
SPLIT_WORDS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test", "eval": "test", "evaluation": "test",
}  # fmt: skip
# What `datasets` writes about a set, which is no table.
_FACTS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_SPLIT = re.compile(rf"(?:^|[-._= 0-9/])({'|'.join(SPLIT_WORDS)})(?=$|[-._ 0-9/])", re.IGNORECASE)


# Which files


def natural_order(path: Path | str) -> list[Any]:
    """Sort key of names in which numbers count as numbers: part-2 before part-10."""
    parts = re.split(r"(\d+)", str(path))
    return [(int(part), "") if i % 2 else (-1, part) for i, part in enumerate(parts)]


def is_hidden(path: Path) -> bool:
    """Whether a path below the folder that is read is hidden, or kept by a program for itself (``__MACOSX``)."""
    return any(
        part.startswith(".") or part in ("__MACOSX", "@eaDir", "Thumbs.db", "desktop.ini") for part in path.parts
    )


def format_of(path: Path) -> str | None:
    """The format of a table file by the end of its name (`FORMATS`), compressed or not; None for another file."""
    suffixes = [each.lower() for each in path.suffixes]
    if suffixes and suffixes[-1] in _PACKED:
        suffixes = suffixes[:-1] if path.stem else []
        packed = True
    else:
        packed = False
    end = suffixes[-1] if suffixes else ""
    found = next((name for name, ends in FORMATS.items() if end in ends), None)
    return None if packed and found in ("parquet", "arrow", "npy") else found


def find_files(spec: Path | str, what: str = "data") -> list[Path]:
    """The table files that a name stands for, in natural order.

    Args:
        spec: a file, a pattern (``runs/*/part-*.parquet``), or a folder: of shards, as `datasets` saves to disk, or
            partitioned (``split=train/part-0.parquet``). Of a folder that holds several formats the first of
            `FORMATS` is read; hidden files, and those whose names begin with an underscore, are left out.
        what: to read, for errors.

    Raises:
        DataError: nothing there, or a folder of several splits or sub-folders, which are named.
    """
    path = Path(spec)
    if path.is_dir():
        return _folder_files(path, what)
    if path.exists():
        return [path]
    if any(each in str(spec) for each in "*?["):
        found = sorted((Path(each) for each in glob(str(spec), recursive=True)), key=natural_order)
        files = [each for each in found if each.is_file() and format_of(each)]
        if files and len({format_of(each) for each in files}) == 1:
            return files
        ends = ", ".join(sorted({each.suffix for each in files})) or "no table files"
        raise DataError(f"the pattern {spec} finds {ends}: it must find files of one format")
    raise DataError(
        f"no {what} at {spec}: give a file, a folder of shards or a pattern such as '{path.parent}/*.parquet'"
    )


def _folder_files(folder: Path, what: str) -> list[Path]:
    """The shards of a folder."""
    if (folder / "dataset_dict.json").exists():
        splits = sorted(each.parent.name for each in folder.glob("*/state.json"))
        raise DataError(f"{folder} holds the splits {', '.join(splits)}: name one, as {folder / splits[0]}"
                        if splits else f"{folder} is a data set of splits without any: save it anew")  # fmt: skip
    if (folder / "state.json").exists():
        return _saved_files(folder)
    files = _of_one_format(each for each in folder.iterdir() if each.is_file())
    if not files:
        nested = [each for each in folder.rglob("*") if each.is_file() and not is_hidden(each.relative_to(folder))]
        partitioned = [each for each in nested if all(map(_PARTITION.fullmatch, each.relative_to(folder).parts[:-1]))]
        files = _of_one_format(partitioned)
        if not files and _of_one_format(nested):
            below = sorted({each.relative_to(folder).parts[0] for each in _of_one_format(nested)}, key=natural_order)
            raise DataError(
                f"{folder} holds no {what} itself, but its sub-folders do: name one, as {folder / below[0]}"
            )
    if not files:
        raise DataError(f"the folder {folder} holds no parquet files, nor other tables ({_known()})")
    splits = sorted({found[1].lower() for each in files if (found := _SPLITS.match(each.name))})
    if len(splits) > 1:
        raise DataError(
            f"{folder} holds files of several splits, {', '.join(splits)}: name those to read with a pattern, as "
            f"'{folder / f'{splits[0]}*{files[0].suffix}'}'"
        )
    return files


def files_by_split(folder: Path, what: str) -> dict[str, list[Path]]:
    """The table files in and below a folder by split, in natural order; all under "" where no name has a split.

    If a split has files of several formats, those of the format that comes first in `FORMATS` are taken. Left out are
    hidden files, files and folders whose names begin with an underscore, and the JSON files that `datasets` adds.

    Raises:
        DataError: no files, files that name a split together with files that name none, or a split in several folders.
    """
    below = (file for file in folder.rglob("*") if file.is_file() and file.name not in _FACTS)
    paths = {file: file.relative_to(folder) for file in below}
    shown = {
        file: path for file, path in paths.items()
        if not is_hidden(path) and not any(part.startswith("_") for part in path.parts)
        and format_of(file) not in (None, "npy")
    }  # fmt: skip
    if not shown:
        held = sorted(each.name for each in folder.iterdir())
        words = "is empty" if not held else "holds " + ", ".join(held[:5]) + (" and more" if len(held) > 5 else "")
        raise DataError(f"no {what} at {folder}: the folder {words}; give a folder of parquet shards, or a file")
    found: dict[str, list[Path]] = {}
    for file in sorted(shown, key=lambda file: natural_order(file.name)):
        named: list[str] = _SPLIT.findall(shown[file].with_suffix("").as_posix())
        found.setdefault(SPLIT_WORDS[named[-1].lower()] if named else "", []).append(file)
    found = {split: _of_one_format(of_split) for split, of_split in found.items()}
    rest, others = found.get(""), [of_split[0] for split, of_split in found.items() if split]
    if rest and others:
        if _rank(rest[0]) <= max(map(_rank, others)):
            raise DataError(
                f"{folder}: {shown[others[0]]} names a split and {shown[rest[0]]} none: give files of one split, or "
                "name the file"
            )
        # Tables of a later format describe the splits, or hold other texts.
        del found[""]
    for split, of_split in found.items():
        places = sorted({file.parent for file in of_split})
        if len(places) > 1:
            raise DataError(
                f"{folder}: the files{' of split ' + repr(split) if split else ''} lie in {places[0]} and {places[1]}: "
                "give one of these folders"
            )
    return found


def _of_one_format(files: Any) -> list[Path]:
    """The files of the first format that there is, in natural order."""
    shown = [each for each in files if not each.name.startswith((".", "_"))]
    kinds = {each: format_of(each) for each in shown}
    kind = next((name for name in FORMATS if name in kinds.values()), None)
    return sorted((each for each in shown if kind is not None and kinds[each] == kind), key=natural_order)


def _rank(file: Path) -> int:
    """The place of a table file's format in `FORMATS`."""
    return list(FORMATS).index(str(format_of(file)))


def _saved_files(folder: Path) -> list[Path]:
    """The files of a data set that `datasets` saved to disk, in its order."""
    try:
        names = [each["filename"] for each in json.loads((folder / "state.json").read_text())["_data_files"]]
        files = [folder / Path(name).name for name in names]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{folder / 'state.json'} does not name the data's files: {first_line(error)}") from error
    missing = [each for each in files if not each.exists()]
    if missing or not files:
        raise DataError(f"{folder} lacks {missing[0].name if missing else 'its data files'}: save the data set anew")
    return files


def _known() -> str:
    return ", ".join(end for ends in FORMATS.values() for end in ends if end != ".npy")


# Rows


class TableRows:
    """Rows of a table in memory, in pieces that are read one by one.

    Args:
        table: the rows.
        name: of the data, for errors.
        files: the files they come from, and the rows of each; none for a table that was made here.

    Attributes:
        schema: names and types of the columns.
        starts: (G + 1,) int64, the first row of each of G pieces, and the number of rows.
        typed: whether the source says which numbers are whole.
        shareable: whether workers on other machines can read the rows after unpickling.
    """

    shareable = False

    def __init__(self, table: pa.Table, name: str, files: Sequence[tuple[Path, int]] = (), typed: bool = True) -> None:
        self.name, self.typed, self._table = name, typed, table
        self.schema = _schema_without_views(table.schema)
        self.files = [file for file, _ in files]
        self.file_starts = _starts([count for _, count in files] or [len(table)])
        self.starts = np.minimum(np.arange(0, len(table) + _PIECE, _PIECE), len(table)).astype(np.int64)
        self.starts = self.starts if len(table) else np.zeros(1, np.int64)

    def __len__(self) -> int:
        return int(self.starts[-1])

    def piece(self, number: int, rows: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The rows of a piece, at most `rows` at once.

        Raises:
            DataError: a damaged file.
        """
        start, stop = self.starts[number], self.starts[number + 1]
        table = self._table.select(columns).slice(start, stop - start)
        yield from map(arrow.rows_without_views, table.to_batches(max_chunksize=rows))

    def read(self, columns: Sequence[str]) -> pa.Table:
        """Some columns of all rows.

        Raises:
            DataError: a damaged file.
        """
        return arrow.rows_without_views(self._table.select(columns))

    def count(self, columns: Sequence[str]) -> int:
        """About how many numbers columns hold, elements of lists counted one by one, without reading files."""
        return int(self._table.select(columns).nbytes) // 4

    def locate(self, rows: IntArray) -> tuple[IntArray, IntArray]:
        """Where rows lie: the number of the file of each in `files`, and its row in that file, both from 0."""
        file = np.searchsorted(self.file_starts, rows, side="right") - 1
        return file.astype(np.int64), rows - self.file_starts[file]


class ParquetRows(TableRows):
    """Rows of parquet files with the same columns, read by row groups; the keys of partitions are columns, too.

    Args:
        files: in order.
        name: of the data, for errors.
        root: the folder below which ``key=value`` folders count.

    Raises:
        DataError: not readable, or of different columns.
    """

    shareable = True

    def __init__(self, files: Sequence[Path], name: str, root: Path | None = None) -> None:
        self.name, self.typed, self.files = name, True, list(files)
        self._metadata = [_metadata(file) for file in files]
        schema = self._metadata[0].schema.to_arrow_schema()
        for file, metadata in zip(files, self._metadata, strict=True):
            if not metadata.schema.to_arrow_schema().equals(schema):
                raise DataError(f"{file} has other columns or types than {files[0]}")
        self._keys = [_partition(file, root) for file in files]
        if any(keys.keys() != self._keys[0].keys() for keys in self._keys):
            raise DataError(f"{name}: its folders are partitioned by different keys")
        self._keys = [{key: value for key, value in keys.items() if key not in schema.names} for keys in self._keys]
        for key in self._keys[0]:
            schema = schema.append(pa.field(key, pa.string()))
        self.schema = _schema_without_views(schema)
        self._groups = [(f, g) for f, metadata in enumerate(self._metadata) for g in range(metadata.num_row_groups)]
        self.starts = _starts([self._metadata[f].row_group(g).num_rows for f, g in self._groups])
        self.file_starts = _starts([metadata.num_rows for metadata in self._metadata])

    def piece(self, number: int, rows: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """See `TableRows`."""
        file, group = self._groups[number]
        try:
            # A reader of its own: rows may be read from several threads, and shards be more than open files may.
            reader = pq.ParquetFile(self.files[file], metadata=self._metadata[file], page_checksum_verification=True)
            keys = {name: value for name, value in self._keys[file].items() if name in columns}
            for batch in reader.iter_batches(rows, row_groups=[group], columns=[c for c in columns if c not in keys]):
                for name, value in keys.items():
                    batch = batch.append_column(name, pa.repeat(pa.scalar(value, pa.string()), len(batch)))
                yield arrow.rows_without_views(batch.select(list(columns)))
        except DAMAGE as error:
            raise unreadable(self.files[file], error) from error

    def count(self, columns: Sequence[str]) -> int:
        """See `TableRows`."""
        groups = (self._metadata[f].row_group(g) for f, g in self._groups)
        parts = (group.column(i) for group in groups for i in range(group.num_columns))
        return sum(part.num_values for part in parts if part.path_in_schema.split(".")[0] in columns)

    def read(self, columns: Sequence[str]) -> pa.Table:
        """See `TableRows`."""
        tables = []
        for file, metadata, keys in zip(self.files, self._metadata, self._keys, strict=True):
            try:
                table = read_table(file, [each for each in columns if each not in keys])
            except DAMAGE as error:
                raise unreadable(file, error) from error
            for key in keys:
                if key in columns:
                    table = table.append_column(key, pa.repeat(pa.scalar(keys[key], pa.string()), metadata.num_rows))
            tables.append(table.select(columns))
        return arrow.rows_without_views(pa.concat_tables(tables))


def open_table(spec: Path | str, what: str = "data") -> TableRows:
    """Open the rows of table files, see `find_files`.

    Raises:
        DataError: nothing there, of no known format, not readable, or files of different columns.
    """
    files = find_files(spec, what)
    return open_files(files, str(spec), None if len(files) == 1 and files[0] == Path(spec) else _root(Path(spec)))


def open_files(files: Sequence[Path], name: str, root: Path | None = None) -> TableRows:
    """Open the rows of files of one format; `root` as for `ParquetRows`.

    Raises:
        DataError: no known format, not readable, or files of different columns.
    """
    kind = format_of(files[0])
    if kind is None or kind == "npy":
        raise DataError(f"{files[0]} is not a kind of table known here: use {_known()}")
    if kind == "parquet":
        return ParquetRows(files, name, root)
    tables = [_read_arrow(file) if kind == "arrow" else _parse(file, kind) for file in files]
    try:
        # Parsed numbers may be whole in one file and fractions in the next.
        table = pa.concat_tables(tables, promote_options="none" if kind == "arrow" else "permissive")
    except pa.ArrowException as error:
        raise DataError(f"{name}: its files have other columns or types: {first_line(error)}") from error
    return TableRows(
        table, name, [(file, len(each)) for file, each in zip(files, tables, strict=True)], kind == "arrow"
    )


def _schema_without_views(schema: pa.Schema) -> pa.Schema:
    fields = [field.with_type(arrow.without_views(field.type)) for field in schema]
    return pa.schema(fields, schema.metadata)


def _starts(counts: Sequence[int]) -> IntArray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _metadata(file: Path) -> Any:
    try:
        return pq.read_metadata(file)
    except DAMAGE as error:
        raise unreadable(file, error) from error


def _root(spec: Path) -> Path:
    """The folder that was named, or the part of a pattern before its first wildcard."""
    plain = [part for part in spec.parents if not any(each in str(part) for each in "*?[")]
    return spec if spec.is_dir() else plain[0]


def _partition(file: Path, root: Path | None) -> dict[str, str]:
    """The keys and values in the names of the folders between the root and a file."""
    parts = () if root is None else file.relative_to(root).parts[:-1]
    return {found[1]: found[2] for part in parts if (found := _PARTITION.fullmatch(part))}


def _read_arrow(file: Path) -> pa.Table:
    """A mapped Arrow file, of the format for files or for streams."""
    try:
        source = pa.memory_map(str(file))
        whole = source.read(6) == b"ARROW1"
        source.seek(0)
        reader = pa.ipc.open_file(source) if whole else pa.ipc.open_stream(source)
        table = reader.read_all()
        table.validate()
        return table
    except (*DAMAGE, ValueError) as error:
        raise DataError(f"{file} cannot be read as an Arrow file: {first_line(error)}") from error


def _parse(file: Path, kind: str) -> pa.Table:
    """The table of a file of text."""
    size, free = file.stat().st_size, psutil.virtual_memory().available
    if 4 * size > free:
        raise DataError(f"{file} has {size / 1e9:.2g} GB of text, and {free / 1e9:.2g} GB are free to parse it in: "
                        "write it as parquet")  # fmt: skip
    try:
        with pa.input_stream(str(file)) as stream:
            content = stream.read()
        block = max(min(len(content) + 1, _LARGEST_BLOCK), 1)
        if kind == "json":
            listed = content.lstrip()[:1] == b"["
            return _from_rows(json.loads(content), file) if listed else _json_lines(content, block)
        table = pa_csv.read_csv(
            pa.BufferReader(content), pa_csv.ReadOptions(block_size=block),
            pa_csv.ParseOptions(delimiter="\t" if kind == "tsv" else ",", newlines_in_values=True),
            pa_csv.ConvertOptions(strings_can_be_null=True, null_values=["", "nan", "NaN"]),
        )  # fmt: skip
    except (*DAMAGE, ValueError) as error:
        raise DataError(f"{file} cannot be read as {kind.upper()}: {first_line(error)}") from error
    return _with_lists(table, file)


def _json_lines(content: bytes, block: int) -> pa.Table:
    """The table of JSON lines, in which a string that looks like a time stays a string."""
    options = pa_json.ReadOptions(block_size=block)
    table = pa_json.read_json(pa.BufferReader(content), options)
    schema = pa.schema([field.with_type(_without_times(field.type)) for field in table.schema])
    if schema.equals(table.schema):
        return table
    return pa_json.read_json(pa.BufferReader(content), options, pa_json.ParseOptions(explicit_schema=schema))


def _without_times(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_struct(kind):
        return pa.struct([each.with_type(_without_times(each.type)) for each in kind])
    if arrow.is_list(kind):
        return pa.list_(_without_times(kind.value_type))
    return pa.string() if pa.types.is_timestamp(kind) else kind


def _from_rows(rows: Any, file: Path) -> pa.Table:
    if not (isinstance(rows, list) and rows and all(isinstance(each, dict) for each in rows)):
        raise DataError(f"{file} holds no list of objects: write an object for each row, one a line")
    return arrow.table_of(rows)


def _with_lists(table: pa.Table, file: Path) -> pa.Table:
    """The table of a CSV with its columns of written vectors, ``[0.1, 0.2]``, as lists of numbers."""
    for i, name in enumerate(table.column_names):
        column = table.column(i)
        if not arrow.is_text(column.type):
            continue
        written = arrow.texts(column, f"{file}, column {name!r}")
        some = next((each for each in written if each), "")
        if not re.fullmatch(r"\s*\[[-+\d.,eE\sainfnNIF]*\]\s*", some):
            continue
        lists = []
        for row, each in enumerate(written):
            try:
                lists.append(
                    None if each is None else [float(part) for part in re.split(r"[,\s]+", each.strip("[] \n"))]
                )
            except ValueError as error:
                cut = ", which NumPy has shortened: write all numbers" if each and "..." in each else ""
                raise DataError(f"{file} row {row}, column {name!r} holds no vector of numbers{cut}") from error
        table = table.set_column(i, name, pa.array(lists, pa.list_(pa.float32())))
    return table


# Parquet


def unreadable(file: Path, error: Exception) -> DataError:
    """Make the error of a file that cannot be read as parquet; it says why."""
    try:
        with file.open("rb") as stream:
            start = stream.read(4)
            stream.seek(-min(4, os.fstat(stream.fileno()).st_size), os.SEEK_END)
            end = stream.read(4)
    except OSError:
        return DataError(f"{file} cannot be read as parquet: {first_line(error)}")
    if not start:
        why = "it is empty"
    elif start != b"PAR1":
        why = f"it is no parquet file, it begins with {start!r}"
    elif end != b"PAR1":
        why = "it begins as parquet and its end is missing, so it was cut short: copy or write it anew"
    else:
        why = first_line(error)
    return DataError(f"{file} cannot be read as parquet: {why}")


def write_table(path: Path, table: pa.Table) -> None:
    """Write parquet whole or not at all, with a checksum of every page, which readers verify.

    Raises:
        OSError: not writable.
    """
    with replacing(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read parquet; pages that have a checksum are held against it.

    Raises:
        pyarrow.ArrowException, OSError, UnicodeDecodeError: no such file, or a damaged one.
    """
    # Without partitioning=None, folders called key=value above the file would become columns.
    return pq.read_table(path, columns=columns, page_checksum_verification=True, partitioning=None)
