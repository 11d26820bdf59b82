"""Where images come from: parquet, folders, arrays, digits, and library data sets, behind one small protocol."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
_IMAGE_COLUMNS = ("image", "img")
_IMAGE_KEYS = ("images", "x", "x_train", "data")
_LABEL_KEYS = ("labels", "label", "y", "y_train", "targets")


class DataError(ValueError):
    """Data that cannot be used as they are; the message names what was found and the remedy."""


class Source(Protocol):
    """Encoded or raw images with labels and paths where known; nothing is decoded until asked.

    Anything with these members can be trained on: `labels` is (N,) int64 or None.
    """

    name: str
    labels: NDArray[np.int64] | None
    class_names: Sequence[str] | None
    paths: Sequence[str] | None

    def __len__(self) -> int: ...

    def image(self, row: int) -> Image.Image:
        """Decode one image; raises whatever PIL raises on corrupt bytes."""

    def size(self, row: int) -> tuple[int, int]:
        """Height and width of one image, from its header."""


def open_source(spec: str, *, label_column: str | None = None) -> Source:
    """Open a source by its name or path.

    ``digits`` (also ``digits:train``, ``digits:test``: 1,297 and 500 images); a parquet file or a folder of parquet
    shards with an image column of ``{bytes, path}``; an image folder, with or without class subfolders; ``.npy`` or
    ``.npz`` of uint8 images; ``hf:NAME[:SPLIT]`` (needs `datasets`); ``torchvision:NAME[:SPLIT]`` (needs torchvision).

    Args:
        spec: name or path.
        label_column: parquet, npz or Hugging Face column of class numbers or names; None takes the usual one where
            there is one; "none" ignores labels.

    Raises:
        DataError: nothing there, not readable, no images, or labels that are missing or of the wrong type.
    """
    kind, _, rest = spec.partition(":")
    if kind == "digits":
        return _digits(rest, label_column)
    if kind in ("hf", "torchvision") and rest:
        from pairsift.data import libraries

        return libraries.open_hf(rest, label_column) if kind == "hf" else libraries.open_torchvision(rest, label_column)
    path = Path(spec)
    if not path.exists():
        raise DataError(f"no data at {spec!r}: give a file, a folder, 'digits', 'hf:NAME' or 'torchvision:NAME'")
    if path.is_dir():
        shards = sorted(path.glob("*.parquet"))
        return ParquetSource(shards, str(path), label_column) if shards else FolderSource(path, label_column)
    if path.suffix == ".parquet":
        return ParquetSource([path], str(path), label_column)
    if path.suffix in (".npy", ".npz"):
        return _numpy_file(path, label_column)
    raise DataError(f"{spec!r} is not a kind of data known here: use .parquet, .npy, .npz or a folder of images")


class ArraySource:
    """uint8 images already decoded: (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W).

    Raises:
        DataError: another dtype or shape, or labels of another length.
    """

    def __init__(
        self,
        images: NDArray[Any],
        labels: Sequence[Any] | NDArray[Any] | None = None,
        name: str = "array",
        where: str = "in memory",
        class_names: Sequence[str] | None = None,
    ) -> None:
        if images.dtype != np.uint8:
            raise DataError(
                f"{name}: images must be uint8 (0 to 255), got {images.dtype}; scale and convert them first"
            )
        shape = images.shape
        if images.ndim == 3:
            images = images[:, None]
        elif images.ndim == 4 and shape[3] in (1, 3):
            images = images.transpose(0, 3, 1, 2)
        elif not (images.ndim == 4 and shape[1] in (1, 3)):
            raise DataError(f"{name}: images must be (N, H, W), (N, H, W, 3) or (N, 3, H, W), got shape {shape}")
        if images.shape[1] == 1:
            images = np.repeat(images, 3, axis=1)
            where = "in memory"
        if labels is not None and len(labels) != len(images):
            raise DataError(f"{name}: {len(images)} images but {len(labels)} labels")
        self.images: NDArray[np.uint8] = images
        self.name, self.where = name, where
        self.labels: NDArray[np.int64] | None = None
        self.class_names = class_names
        if labels is not None:
            self.labels, names = class_numbers(np.asarray(labels), name)
            self.class_names = class_names or names
        self.paths: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def image(self, row: int) -> Image.Image:
        return Image.fromarray(np.ascontiguousarray(self.images[row].transpose(1, 2, 0)))

    def size(self, row: int) -> tuple[int, int]:
        return self.images.shape[2], self.images.shape[3]


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

    def __init__(self, files: Sequence[Path], name: str, label_column: str | None) -> None:
        self.name = name
        tables = [_read_parquet(file, name, label_column) for file in files]
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
            column = table.column(1)
            if column.null_count:
                raise DataError(f"{name}: column {table.column_names[1]!r} has {column.null_count} missing labels")
            self.labels, self.class_names = class_numbers(
                column.to_numpy(), f"{name}, column {table.column_names[1]!r}"
            )

    def __len__(self) -> int:
        return len(self._bytes)

    def _open(self, row: int) -> io.BytesIO:
        data = self._bytes[row].as_py()
        if data is None:
            raise ValueError("the image is missing")
        return io.BytesIO(data)


class FolderSource(_EncodedSource):
    """A folder of image files; its subfolders, where it has any, are the classes."""

    def __init__(self, folder: Path, label_column: str | None = None) -> None:
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
        if label_column not in (None, "none"):
            raise DataError(
                f"{folder} is an image folder: its labels are its subfolders, not a column {label_column!r}"
            )
        parts = [file.relative_to(folder).parts for file in files]
        if label_column is None and all(len(part) > 1 for part in parts):
            self.labels, self.class_names = class_numbers(np.array([part[0] for part in parts]), self.name)

    def __len__(self) -> int:
        assert self.paths is not None
        return len(self.paths)

    def _open(self, row: int) -> Path:
        assert self.paths is not None
        return self._folder / self.paths[row]


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


def missing_column(name: str, wanted: str, available: Sequence[str]) -> DataError:
    return DataError(
        f"{name} has no column {wanted!r}; its columns: {', '.join(available)} (--label-column none for no labels)"
    )


def _read_parquet(file: Path, name: str, label_column: str | None) -> pa.Table:
    """The image column and, where wanted and there, the label column, in this order."""
    try:
        reader = pq.ParquetFile(file)
        available = reader.schema_arrow.names
        image_column = next((column for column in _IMAGE_COLUMNS if column in available), None)
        if image_column is None:
            raise DataError(
                f"{name} has no image column ({' or '.join(_IMAGE_COLUMNS)}); its columns: {', '.join(available)}"
            )
        columns = [image_column]
        if label_column is None:
            columns += ["label"] if "label" in available else []
        elif label_column != "none":
            if label_column not in available:
                raise missing_column(name, label_column, available)
            columns.append(label_column)
        table = reader.read(columns=columns).select(columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{file} cannot be read as parquet: {error}") from error
    kind = table.schema.field(0).type
    if pa.types.is_struct(kind) and "bytes" in [kind.field(i).name for i in range(kind.num_fields)]:
        kind = kind.field("bytes").type
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
        raise DataError(
            f"{name}: column {columns[0]!r} must hold encoded images (bytes or {{bytes, path}}), got {kind}"
        )
    return table


def _numpy_file(path: Path, label_column: str | None) -> ArraySource:
    name = str(path)
    try:
        if path.suffix == ".npy":
            if label_column not in (None, "none"):
                raise DataError(f"{name} is a bare array without labels: put images and labels into one .npz")
            return ArraySource(np.load(path, mmap_mode="r"), name=name, where="memory-mapped")
        with np.load(path) as arrays:
            keys = list(arrays)
            images = next((key for key in _IMAGE_KEYS if key in keys), None)
            if images is None:
                raise DataError(f"{name} has no array called {' or '.join(_IMAGE_KEYS)}; it holds: {', '.join(keys)}")
            labels = next((key for key in _LABEL_KEYS if key in keys), None) if label_column is None else label_column
            if labels == "none":
                labels = None
            if labels is not None and labels not in keys:
                raise missing_column(name, labels, keys)
            return ArraySource(arrays[images], None if labels is None else arrays[labels], name)
    except DataError:
        raise
    except Exception as error:  # zip, pickle, header: a damaged file has many ways to fail
        raise DataError(f"{name} cannot be read as a numpy file: {error}") from error


def _digits(split: str, label_column: str | None) -> ArraySource:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if split not in ("", "train", "test"):
        raise DataError(f"digits has the splits 'train' and 'test', got {split!r}")
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    labels = digits.target
    if split:
        train, test = train_test_split(np.arange(len(images)), test_size=500, random_state=0, stratify=labels)
        rows = np.sort(train if split == "train" else test)
        images, labels = images[rows], labels[rows]
    return ArraySource(images, None if label_column == "none" else labels, f"digits:{split}" if split else "digits")
