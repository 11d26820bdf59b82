"""Sources of encoded images, decoded row by row: parquet and folders of image files."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

from pairsift._base.checks import first_line
from pairsift.data.columns import IMAGE_LABELS, NO_LABELS, image_column, label_column, only_field
from pairsift.data.errors import DataError
from pairsift.data.labels import class_numbers, labels_of
from pairsift.data.tables import DAMAGE

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})


class _EncodedSource:
    """Shared by sources of encoded images: a subclass opens the bytes of a row."""

    def _open(self, row: int) -> Any:
        raise AssertionError("defined by subclasses")

    def image(self, row: int) -> Image.Image:
        image: Image.Image = Image.open(self._open(row))
        with image:
            image.load()
        return image

    def size(self, row: int) -> tuple[int, int]:
        with Image.open(self._open(row)) as image:
            return image.height, image.width


class ParquetSource(_EncodedSource):
    """Parquet with an image column of encoded bytes, plain or as Hugging Face's ``{bytes, path}``.

    The encoded bytes are held in memory (for CIFAR-10 16 MB), the images are decoded from them.
    """

    def __init__(self, files: Sequence[Path], name: str, labels: str | None) -> None:
        self.name = name
        tables = [_read_parquet(file, name, labels) for file in files]
        if any(not table.schema.equals(tables[0].schema) for table in tables):
            raise DataError(f"{name}: its parquet files have different columns or types")
        table = pa.concat_tables(tables)
        images = table.column(0)
        self.paths: Sequence[str] | None = None
        if pa.types.is_struct(images.type):
            fields = {images.type.field(i).name for i in range(images.type.num_fields)}
            if "path" in fields:
                paths = pc.struct_field(images, "path").to_pylist()
                self.paths = [path or "" for path in paths] if any(paths) else None
            images = pc.struct_field(images, "bytes")
        self._bytes = images
        self.labels: NDArray[np.int64] | None = None
        self.class_names: Sequence[str] | None = None
        if table.num_columns > 1:
            self.labels, self.class_names = labels_of(table, table.column_names[1], name)

    def __len__(self) -> int:
        return len(self._bytes)

    def _open(self, row: int) -> io.BytesIO:
        data = self._bytes[row].as_py()
        if data is None:
            raise ValueError("the image is missing")
        return io.BytesIO(data)


class FolderSource(_EncodedSource):
    """A folder of image files; its subfolders, where it has any, are the classes."""

    def __init__(self, folder: Path, labels: str | None = None) -> None:
        self.name, self._folder = str(folder), folder
        files = sorted(
            Path(where, name)
            for where, _, names in os.walk(folder)
            for name in names
            if Path(name).suffix.lower() in IMAGE_SUFFIXES
        )
        if not files:
            raise DataError(f"{folder} holds no parquet and no image files ({', '.join(sorted(IMAGE_SUFFIXES))})")
        self.paths: Sequence[str] | None = [str(file.relative_to(folder)) for file in files]
        self.labels: NDArray[np.int64] | None = None
        self.class_names: Sequence[str] | None = None
        if labels not in (None, NO_LABELS):
            raise DataError(f"{folder} is an image folder: its labels are its subfolders, not a column {labels!r}")
        parts = [file.relative_to(folder).parts for file in files]
        if labels is None and all(len(part) > 1 for part in parts):
            self.labels, self.class_names = class_numbers(np.array([part[0] for part in parts]), self.name)

    def __len__(self) -> int:
        assert self.paths is not None
        return len(self.paths)

    def _open(self, row: int) -> Path:
        assert self.paths is not None
        return self._folder / self.paths[row]


def _read_parquet(file: Path, name: str, labels: str | None) -> pa.Table:
    """The image column and, where wanted and there, the label column, in this order."""
    try:
        reader = pq.ParquetFile(file, page_checksum_verification=True)
        available = reader.schema_arrow.names
        columns = [image_column(name, available)]
        classes = label_column(name, available, labels, IMAGE_LABELS)
        if classes is not None:
            columns.append(classes)
        for each in columns:
            only_field(name, reader.schema_arrow, each)
        table = reader.read(columns=columns).select(columns)
    except DAMAGE as error:
        raise DataError(f"{file} cannot be read as parquet: {first_line(error)}") from error
    kind = table.schema.field(0).type
    if pa.types.is_struct(kind) and "bytes" in [kind.field(i).name for i in range(kind.num_fields)]:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise DataError(
            f"{name}: column {columns[0]!r} must hold encoded images (bytes or {{bytes, path}}), got {kind}"
        )
    return table
