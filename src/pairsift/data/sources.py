"""Sources of images: tables, folders, arrays, digits and data sets of libraries, behind one protocol."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from PIL import Image

from pairsift._base.checks import first_line
from pairsift._base.extras import needs
from pairsift._base.words import counted
from pairsift.data import arrow
from pairsift.data.arrays import NpzFile, open_npy
from pairsift.data.columns import (
    ARRAY_LABELS,
    IMAGE_ARRAYS,
    IMAGE_LABELS,
    NO_LABELS,
    Undescribed,
    array_called,
    class_numbers,
    column_labels,
    find_label_column,
    image_column,
    usable_labels,
)
from pairsift.data.decoding import eight_bit, over_white, rgb, upright_size
from pairsift.data.errors import DataError
from pairsift.data.tables import SPLIT_WORDS, TableRows, find_files, format_of, is_hidden, open_table

IMAGE_SUFFIXES = frozenset({
    ".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff",
    ".tga", ".ppm", ".pgm", ".pbm", ".pnm",
})  # fmt: skip


class Source(Protocol):
    """Encoded or raw images with labels and paths where known; nothing is decoded until asked.

    Anything with these members can be trained on: `labels` is (N,) int64 or None, -1 where an image has no label.
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

    ``digits`` (also ``digits:train``, ``digits:test``: 1,297 and 500 images); a parquet or Arrow file or a folder of
    them, with an image column of ``{bytes, path}``; an image folder, with or without class subfolders, without its
    hidden files; ``.npy`` or ``.npz`` of images; ``hf:NAME[:SPLIT]`` (needs `datasets`); ``torchvision:NAME[:SPLIT]``
    (needs torchvision).

    Args:
        spec: name or path.
        label_column: table, npz or Hugging Face column of class numbers or names; None takes the usual one where
            there is one; "none" ignores labels.

    Raises:
        DataError: nothing there, not readable, no images, or a `label_column` of the wrong type.
    """
    kind, _, rest = spec.partition(":")
    if kind == "digits":
        return open_digits(rest, label_column)
    if kind in ("hf", "torchvision") and rest:
        return open_hf(rest, label_column) if kind == "hf" else open_torchvision(rest, label_column)
    path = Path(spec)
    if path.is_dir() and not _has_tables(path):
        return FolderSource(path, label_column)
    if path.suffix in (".npy", ".npz") and path.exists():
        return open_numpy(path, label_column)
    if path.is_dir() or format_of(path) in ("parquet", "arrow"):
        if not (path.exists() or any(each in spec for each in "*?[")):
            raise DataError(_NOTHING.format(spec))
        return TableSource(open_table(spec, "images"), label_column)
    if not path.exists():
        raise DataError(_NOTHING.format(spec))
    raise DataError(f"{spec!r} is not a kind of data known here: use .parquet, .npy, .npz or a folder of images")


_NOTHING = "no data at {!r}: give a file, a folder, 'digits', 'hf:NAME' or 'torchvision:NAME'"


def _has_tables(folder: Path) -> bool:
    """Whether a folder holds a table of images, not files of images."""
    if any((folder / name).exists() for name in ("state.json", "dataset_dict.json")):
        return True
    return any(format_of(each) in ("parquet", "arrow") and not is_hidden(Path(each.name)) for each in folder.iterdir())


class ArraySource(Undescribed):
    """Images already decoded: (N, H, W), (N, H, W, C) or (N, C, H, W), with 1 to 4 channels C.

    Two channels are grey and alpha, four RGB and alpha: transparent pixels are laid over white. Pixels that are not
    uint8 are scaled to it, by the range that all of them fill (see `decoding.eight_bit`).

    Raises:
        DataError: pixels out of any range, another shape, or labels of another length.
    """

    def __init__(
        self, images: NDArray[Any], labels: Sequence[Any] | NDArray[Any] | None = None, name: str = "array",
        where: str = "in memory", class_names: Sequence[str] | None = None,
    ) -> None:  # fmt: skip
        images = _channels_first(images, name)
        if images.dtype != np.uint8:
            where = "in memory"
            try:
                images = eight_bit(images)
            except ValueError as error:
                raise DataError(f"{name}: {error}") from error
        if images.shape[1] in (2, 4):
            pixels, alpha = images[:, :-1], images[:, -1:]
            images, where = over_white(pixels, alpha), "in memory"
        if images.shape[1] == 1:
            images = np.repeat(images, 3, axis=1)
            where = "in memory"
        if labels is not None and len(labels) != len(images):
            raise DataError(f"{name}: {counted(len(images), 'image')} but {counted(len(labels), 'label')}")
        self.images: NDArray[np.uint8] = images
        self.name, self.where = name, where
        self.class_names = class_names
        if labels is not None:
            self.labels, names = class_numbers(np.asanyarray(labels), name)
            self.class_names = class_names or names

    def __len__(self) -> int:
        return len(self.images)

    def image(self, row: int) -> Image.Image:
        """One image, RGB."""
        return Image.fromarray(np.ascontiguousarray(self.images[row].transpose(1, 2, 0)))

    def size(self, row: int) -> tuple[int, int]:
        """Height and width, the same of every image."""
        return self.images.shape[2], self.images.shape[3]


def _channels_first(images: NDArray[Any], name: str) -> NDArray[Any]:
    shape = images.shape
    if images.ndim == 3:
        return images[:, None]
    # Three channels or one are the usual ones; where a side could be either, channels come last.
    for channels in ((1, 3), (2, 4)):
        if images.ndim == 4 and shape[3] in channels:
            last: NDArray[Any] = images.transpose(0, 3, 1, 2)
            return last
        if images.ndim == 4 and shape[1] in channels:
            return images
    raise DataError(f"{name}: images must be (N, H, W), (N, H, W, 3) or (N, 3, H, W), got shape {shape}")


def open_numpy(path: Path, labels: str | None) -> ArraySource:
    """Images of a .npy (memory-mapped) or .npz file; `labels` names the array of classes."""
    name = str(path)
    try:
        if path.suffix == ".npy":
            if labels not in (None, NO_LABELS):
                raise DataError(f"{name} is a bare array without labels: put images and labels into one .npz")
            return ArraySource(open_npy(path), name=name, where="memory-mapped")
        arrays = NpzFile(path)
        images = ArraySource(arrays.read(array_called(name, IMAGE_ARRAYS, arrays.names)), name=name)
        classes = find_label_column(name, arrays.names, labels, ARRAY_LABELS)
        if classes is not None:
            held = arrays.read(classes)
            images.labels, images.class_names = usable_labels(
                lambda: _of_length(class_numbers(held, name), len(images), name), labels is not None
            )
        return images
    except DataError:
        raise
    except Exception as error:  # zip, pickle, header: a damaged file has many ways to fail
        raise DataError(f"{name} cannot be read as a numpy file: {first_line(error)}") from error


def _of_length(labels: Any, n: int, name: str) -> Any:
    if len(labels[0]) != n:
        raise DataError(f"{name}: {n} images but {len(labels[0])} labels")
    return labels


def open_digits(split: str, labels: str | None) -> ArraySource:
    """The 1,797 digits of scikit-learn, or one of two fixed parts of them."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    if split not in ("", "train", "test"):
        raise DataError(f"digits has the splits 'train' and 'test', got {split!r}")
    digits = load_digits()
    images = np.rint(digits.images * (255 / 16)).astype(np.uint8)
    classes = digits.target
    if split:
        train, test = train_test_split(np.arange(len(images)), test_size=500, random_state=0, stratify=classes)
        rows = np.sort(train if split == "train" else test)
        images, classes = images[rows], classes[rows]
    return ArraySource(images, None if labels == NO_LABELS else classes, f"digits:{split}" if split else "digits")


class _EncodedSource(Undescribed):
    """Shared by sources of encoded images: a subclass opens the bytes of a row.

    Pillow gets an open file, never a path: it would map uncompressed TIFF, and misreads one that must be turned.
    """

    def _open(self, row: int) -> BinaryIO:
        raise AssertionError("defined by subclasses")

    def image(self, row: int) -> Image.Image:
        """One image, RGB."""
        with self._open(row) as file, Image.open(file) as image:
            return rgb(image)

    def size(self, row: int) -> tuple[int, int]:
        """Height and width of one image, from its header."""
        with self._open(row) as file, Image.open(file) as image:
            return upright_size(image)


class TableSource(_EncodedSource):
    """A table with an image column of encoded bytes, plain or as Hugging Face's ``{bytes, path}``.

    The encoded bytes are held in memory (for CIFAR-10 16 MB) or mapped, the images are decoded from them.

    Raises:
        DataError: no such column, or labels that were asked for and cannot be used.
    """

    def __init__(self, rows: TableRows, labels: str | None) -> None:
        self.name, schema = rows.name, rows.schema
        column = image_column(self.name, schema)
        classes = find_label_column(self.name, schema.names, labels, IMAGE_LABELS)
        kind = arrow.only_field(self.name, schema, column).type
        if not arrow.is_encoded(kind):
            raise DataError(
                f"{self.name}: column {column!r} must hold encoded images (bytes or {{bytes, path}}), got {kind}"
            )
        images = rows.read([column]).column(0)
        if pa.types.is_struct(images.type):
            if "path" in {field.name for field in images.type}:
                paths = pc.struct_field(images, "path").to_pylist()
                self.paths = [path or "" for path in paths] if any(paths) else None
            images = pc.struct_field(images, "bytes")
        self._bytes = images
        if classes is not None:
            field = arrow.only_field(self.name, schema, classes)
            self.labels, self.class_names = usable_labels(
                lambda: column_labels(rows.read([field.name]).column(0), field, schema, self.name), labels is not None
            )

    def __len__(self) -> int:
        return len(self._bytes)

    def _open(self, row: int) -> io.BytesIO:
        data = self._bytes[row].as_py()
        if data is None:
            raise ValueError("the image is missing")
        return io.BytesIO(data)


class FolderSource(_EncodedSource):
    """A folder of image files; its subfolders, where it has any, are the classes. Hidden files are left out.

    Raises:
        DataError: no image files, or several splits.
    """

    def __init__(self, folder: Path, labels: str | None = None) -> None:
        folder = _one_split(folder)
        self.name, self._folder = str(folder), folder
        found = (Path(where, name) for where, _, names in os.walk(folder) for name in names)
        files = sorted(
            each for each in found
            if _is_image(each) and not is_hidden(each.relative_to(folder))
        )  # fmt: skip
        if not files:
            if any(format_of(each) in ("parquet", "arrow") for each in folder.rglob("*")):
                find_files(folder, "images")  # which names the folder that does
            raise DataError(f"{folder} holds no parquet and no image files ({', '.join(sorted(IMAGE_SUFFIXES))})")
        self.paths = self._files = [str(file.relative_to(folder)) for file in files]
        if labels not in (None, NO_LABELS):
            raise DataError(f"{folder} is an image folder: its labels are its subfolders, not a column {labels!r}")
        parts = [file.relative_to(folder).parts for file in files]
        if labels is None and all(len(part) > 1 for part in parts):
            self.labels, self.class_names = class_numbers(np.array([part[0] for part in parts]), self.name)

    def __len__(self) -> int:
        return len(self._files)

    def _open(self, row: int) -> BinaryIO:
        return (self._folder / self._files[row]).open("rb")


def _one_split(folder: Path) -> Path:
    """The folder of images itself, or its only subfolder where that is named as a split.

    Raises:
        DataError: subfolders of several splits, which are no classes.
    """
    below = sorted(each for each in folder.iterdir() if each.is_dir() and not is_hidden(Path(each.name)))
    splits = {SPLIT_WORDS[each.name.lower()]: each for each in below if each.name.lower() in SPLIT_WORDS}
    if len(splits) > 1:
        names = ", ".join(each.name for each in splits.values())
        first = splits.get("train", below[0])
        raise DataError(f"{folder} holds the splits {names}, which are no classes: name one, as {first}")
    return below[0] if len(below) == len(splits) == 1 and not any(map(_is_image, folder.iterdir())) else folder


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES


class LibrarySource(Undescribed):
    """Rows of a library's data set; `get(row)` gives a PIL image."""

    def __init__(
        self, name: str, get: Any, length: int, labels: NDArray[Any] | None, class_names: Sequence[str] | None,
        asked: bool = True,
    ) -> None:  # fmt: skip
        self.name, self._get, self._length = name, get, length
        self.class_names = class_names
        if labels is not None:
            self.labels, names = usable_labels(lambda: class_numbers(labels, name), asked)
            self.class_names = None if self.labels is None else class_names or names

    def __len__(self) -> int:
        return self._length

    def image(self, row: int) -> Image.Image:
        """One image, RGB."""
        return rgb(self._get(row))

    def size(self, row: int) -> tuple[int, int]:
        """Height and width of one image, which is decoded for it."""
        image = self.image(row)
        return image.height, image.width


def open_hf(name: str, labels: str | None) -> LibrarySource:
    """A data set of the Hugging Face hub or disk cache, `NAME` or `NAME:SPLIT` (default train)."""
    with needs("vision", f"hf:{name}", DataError):
        import datasets
    name, _, split = name.partition(":")
    try:
        data = datasets.load_dataset(name, split=split or "train")
    except Exception as error:
        raise DataError(f"hf:{name} cannot be loaded ({type(error).__name__}: {first_line(error)})") from error
    column = image_column(f"hf:{name}", data.features.arrow_schema)
    wanted = find_label_column(f"hf:{name}", data.column_names, labels, IMAGE_LABELS)
    data = data.cast_column(column, datasets.Image(decode=False))
    classes, class_names = None, None
    if wanted is not None:
        classes = np.asarray(data[wanted][:])
        class_names = getattr(data.features[wanted], "names", None)

    def get(row: int) -> Image.Image:
        item = data[row][column]
        held = item["bytes"] if item["bytes"] is not None else Path(item["path"]).read_bytes()
        return Image.open(io.BytesIO(held))

    return LibrarySource(f"hf:{name}", get, len(data), classes, class_names, labels is not None)


def open_torchvision(name: str, labels: str | None, root: str = "data") -> LibrarySource:
    """A torchvision data set by class name, `CIFAR10` or `CIFAR10:SPLIT` (default train), from the folder `data`."""
    try:
        import torchvision
    except Exception as error:  # a wheel built for another torch fails with RuntimeError, not ImportError
        raise DataError(
            f"torchvision:{name} needs a torchvision that matches the installed torch: pip install 'pairsift[vision]' "
            f"({type(error).__name__}: {first_line(error)})"
        ) from error
    name, _, split = name.partition(":")
    kind = getattr(torchvision.datasets, name, None)
    if kind is None:
        raise DataError(f"torchvision has no data set {name!r}")
    split = split or "train"
    options = {"train": split == "train"} if name.startswith("CIFAR") or name.endswith("MNIST") else {"split": split}
    try:
        data = kind(root=root, download=True, **options)
    except Exception as error:
        raise DataError(f"torchvision:{name} cannot be loaded ({type(error).__name__}: {first_line(error)})") from error
    classes = getattr(data, "targets", getattr(data, "labels", None))
    keep = classes is not None and labels != NO_LABELS
    held = (np.asarray(classes), getattr(data, "classes", None)) if keep else (None, None)
    return LibrarySource(f"torchvision:{name}:{split}", lambda row: data[row][0], len(data), *held)
