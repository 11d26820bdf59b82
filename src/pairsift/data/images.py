"""Image sets, `images[rows] -> uint8 (B, C, H, W)`: decoded once into memory, or batch by batch if they do not fit."""

from __future__ import annotations

import functools
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pairsift._base.checks import first_line
from pairsift._base.words import counted
from pairsift.data.columns import UNLABELLED
from pairsift.data.decoding import rgb
from pairsift.data.errors import DataError
from pairsift.data.sources import ArraySource, Source, open_source
from pairsift.data.tables import DAMAGE

UInt8Array = NDArray[np.uint8]
IntArray = NDArray[np.int64]


class ImageArray(Protocol):
    """Holds the images of a set: a uint8 array, a memory map, or an object that decodes rows when asked."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, 3, H, W)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> UInt8Array: ...


@dataclass(frozen=True)
class ImageSet:
    """Images of one size, with their labels, paths and row numbers where known.

    Attributes:
        images: `images[rows]` gives uint8 (B, C, H, W).
        labels: (N,) int64 class numbers, -1 for images without a label; or None.
        class_names: names of the classes, or None.
        rows: (N,) row of each image in its source.
        paths: path of each image where known, or None.
        mixed: (N,) bool, images replaced by `mix`; None where nothing was mixed.
        corrupt: source rows left out because they could not be decoded.
        where: how the images are held, in words ("60,000 images of 3 x 32 x 32 in memory, 184 MB").
    """

    images: ImageArray
    labels: IntArray | None = None
    class_names: Sequence[str] | None = None
    rows: IntArray = field(default_factory=lambda: np.zeros(0, np.int64))
    paths: Sequence[str] | None = None
    mixed: NDArray[np.bool_] | None = None
    corrupt: tuple[int, ...] = ()
    where: str = ""

    def __len__(self) -> int:
        return len(self.images)

    @property
    def vectors(self) -> bool:
        """Whether the set holds vectors (N, D), not images."""
        return len(self.images.shape) == 2

    @property
    def n_classes(self) -> int | None:
        """Number of classes present, None without labels; images without a label are of none."""
        return None if self.labels is None else len(np.unique(self.labels[self.labels != UNLABELLED]))


def load_images(
    spec: str, *, label_column: str | None = None, per_class: int | None = None, image_size: int | None = None,
    skip_corrupt: bool = False, memory: float = 4.0,
) -> ImageSet:  # fmt: skip
    """Open a source and decode it once to a uint8 array, or keep it lazy where the array would not fit.

    Args:
        spec: see `pairsift.data.open_source`.
        label_column: column that holds the classes; None takes "label" where there is one; "none" ignores labels.
        per_class: number of images of each class to keep, the first ones.
        image_size: side in pixels to resize to; None keeps the images as they are, which must then agree.
        skip_corrupt: leave out images that cannot be decoded (their rows are in `.corrupt`) instead of refusing.
        memory: GB that decoded images may take; beyond it they are decoded batch by batch.

    Raises:
        DataError: no images, mixed sizes, corrupt bytes, or a `label_column` of the wrong type.

    Example:
        >>> from pairsift.data import load_images
        >>> digits = load_images("digits:train", per_class=20, image_size=16)
        >>> digits.images.shape, digits.labels.shape
        ((200, 3, 16, 16), (200,))
    """
    source = open_source(spec, label_column=label_column)
    if len(source) == 0:
        raise DataError(f"{source.name} holds no images")
    rows = np.arange(len(source), dtype=np.int64)
    if per_class is not None:
        rows = _first_per_class(source, per_class)
    images, rows, corrupt, where = _materialise(source, rows, image_size, skip_corrupt, memory)
    labels = None if source.labels is None else source.labels[rows]
    paths = None if source.paths is None else [source.paths[row] for row in rows.tolist()]
    return ImageSet(images, labels, source.class_names, rows, paths, corrupt=corrupt, where=where)


def _materialise(
    source: Source, rows: IntArray, image_size: int | None, skip_corrupt: bool, memory: float
) -> tuple[ImageArray, IntArray, tuple[int, ...], str]:
    if isinstance(source, ArraySource) and (image_size is None or source.images.shape[2:] == (image_size, image_size)):
        everything = len(rows) == len(source)
        images: ImageArray = source.images if everything else source.images[rows]
        return images, rows, (), _describe(images.shape, source.where if everything else "in memory")
    size, corrupt = _common_size(source, rows, image_size, skip_corrupt)
    rows = rows[~np.isin(rows, corrupt)]
    need = len(rows) * 3 * size[0] * size[1]
    limit = min(memory * 1e9, 0.8 * psutil.virtual_memory().available)
    array = np.empty((len(rows), 3, *size), np.uint8) if need <= limit else None
    # Every image is decoded once now, even if it is not kept: a corrupt one must not come up in the middle of a run.
    good = _decode_all(source, rows, size if image_size is not None else None, skip_corrupt, array)
    if not good.all():
        corrupt = sorted([*corrupt, *rows[~good].tolist()])
        rows = rows[good]
        array = None if array is None else array[good]
    if not len(rows):
        raise DataError(f"{source.name}: none of its {len(corrupt)} images can be decoded")
    if array is not None:
        return array, rows, tuple(corrupt), _describe(array.shape, "in memory")
    lazy = LazyImages(source, rows, size, resize=image_size is not None)
    where = f"decoded batch by batch (in memory they need {need / 1e9:.2g} GB, allowed are {limit / 1e9:.2g} GB)"
    return lazy, rows, tuple(corrupt), _describe(lazy.shape, where)


def _decode_all(
    source: Source, rows: IntArray, size: tuple[int, int] | None, skip_corrupt: bool, array: UInt8Array | None
) -> NDArray[np.bool_]:
    """Decode every row, into `array` if there is one; (N,) bool, the rows that could be decoded."""
    good = np.ones(len(rows), bool)
    several: list[int] = []

    def decode_into(position: int) -> None:
        try:
            image = rgb(source.image(int(rows[position])))
            if image.info.get("frames", 1) > 1:
                several.append(int(rows[position]))
            pixels = _pixels(image, size)
        except Exception as error:
            if not skip_corrupt:
                raise _corrupt_error(source, int(rows[position]), error) from error
            good[position] = False
        else:
            if array is not None:
                array[position] = pixels

    pool = ThreadPoolExecutor(max_workers=os.cpu_count())
    try:
        for _ in pool.map(decode_into, range(len(rows))):
            pass
    finally:
        pool.shutdown(cancel_futures=True)
    if several:
        warnings.warn(
            f"{source.name}: {counted(len(several), 'image holds', 'images hold')} several frames, the first at row "
            f"{min(several)}: their first frame is taken, so save the others as images of their own if they count",
            stacklevel=4,
        )
    return good


def _common_size(
    source: Source, rows: IntArray, image_size: int | None, skip_corrupt: bool
) -> tuple[tuple[int, int], list[int]]:
    """Read the size that all images share from their headers, and the rows without a header."""
    if image_size is not None:
        return (image_size, image_size), []
    first_of: dict[tuple[int, int], int] = {}
    counts: Counter[tuple[int, int]] = Counter()
    corrupt: list[int] = []
    for row in rows.tolist():
        try:
            size = source.size(row)
        except Exception as error:
            if not skip_corrupt:
                raise _corrupt_error(source, row, error) from error
            corrupt.append(row)
            continue
        first_of.setdefault(size, row)
        counts[size] += 1
    if not counts:
        raise DataError(f"{source.name}: none of its {len(corrupt)} images can be decoded")
    if len(counts) > 1:
        (common, _), (other, _) = counts.most_common(2)
        raise DataError(
            f"{source.name} holds images of {len(counts)} sizes: row {first_of[common]} is {common[0]} x {common[1]}, "
            f"row {first_of[other]} is {other[0]} x {other[1]} (height x width); give `image_size` to resize them all"
        )
    return next(iter(counts)), corrupt


class LazyImages:
    """Images of a source decoded when asked for, by a few threads (PIL decodes outside the interpreter lock)."""

    def __init__(self, source: Source, rows: IntArray, size: tuple[int, int], resize: bool) -> None:
        self._rows = rows
        self._decode = functools.partial(decode, source, size=size if resize else None)
        self.shape = (len(rows), 3, *size)
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, rows: Any, /) -> UInt8Array:
        chosen = np.atleast_1d(self._rows[rows])
        # Threads do not survive a fork (a DataLoader's workers): the parent's pool would wait for them forever.
        if self._pool is None or self._process != os.getpid():
            self._pool, self._process = ThreadPoolExecutor(max_workers=os.cpu_count()), os.getpid()
        return np.stack(list(self._pool.map(self._decode, chosen.tolist())))

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pool": None}


def decode(source: Source, row: int, size: tuple[int, int] | None) -> UInt8Array:
    """One image as RGB uint8 (3, H, W), resized to `size` (height, width) if given."""
    return _pixels(rgb(source.image(row)), size)


def _pixels(image: Image.Image, size: tuple[int, int] | None) -> UInt8Array:
    if size is not None and (image.height, image.width) != size:
        image = image.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    pixels: UInt8Array = np.asarray(image).transpose(2, 0, 1)
    return pixels


def _first_per_class(source: Source, per_class: int) -> IntArray:
    if source.labels is None:
        raise DataError(f"`per_class` needs labels, and {source.name} has none; name their column with `label_column`")
    order = np.argsort(source.labels, kind="stable")
    rank = np.empty(len(order), np.int64)
    counts = np.unique(source.labels, return_counts=True)[1]
    rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.flatnonzero((rank < per_class) & (source.labels != UNLABELLED)).astype(np.int64)


def _corrupt_error(source: Source, row: int, error: Exception) -> DataError:
    # PIL's message names a stream object, which means nothing to a user.
    unknown = isinstance(error, UnidentifiedImageError)
    why = "not in a known image format" if unknown else f"{type(error).__name__}: {error}"
    return DataError(
        f"{source.name} row {row} cannot be decoded ({why}); mend it, or leave such images out with `skip_corrupt=True`"
    )


def _describe(shape: tuple[int, ...], where: str) -> str:
    n, c, h, w = shape
    megabytes = n * c * h * w / 1e6
    size = f", {megabytes:,.0f} MB" if megabytes >= 1 else f", {megabytes:.1g} MB"
    size = size if where == "in memory" else ""
    return f"{counted(n, 'image')} of {c} x {h} x {w} {where}{size}"


def subset(images: ImageSet, keep: IntArray) -> ImageSet:
    """The images at the positions `keep`: decoded ones copied, lazy ones still lazy."""
    held = images.images
    return replace(
        images,
        images=held[keep] if isinstance(held, np.ndarray) else _LazySubset(held, keep),
        labels=None if images.labels is None else images.labels[keep],
        rows=images.rows[keep],
        paths=None if images.paths is None else [images.paths[i] for i in keep],
        mixed=None if images.mixed is None else images.mixed[keep],
    )


def labelled(images: ImageSet) -> ImageSet:
    """The images that have a label; the set as it is where all have one.

    Raises:
        DataError: there are no labels.
    """
    if images.labels is None:
        raise DataError("these images have no labels; name their column with `label_column`")
    known = images.labels != UNLABELLED
    return images if known.all() else subset(images, np.flatnonzero(known))


def without_rows(images: ImageSet, file: Path) -> ImageSet:
    """Leave out the images that a drop list names.

    Args:
        images: any image set.
        file: CSV with a column `row`, as `pairsift scan` writes.

    Raises:
        DataError: the file is missing, not such a CSV, names rows that are not in the set, or leaves nothing.
    """
    try:
        # Types are given where they must be: row numbers beyond int64 would be read as floating point.
        large = images.rows.dtype == np.uint64
        options = pa_csv.ConvertOptions(column_types={"row": pa.uint64()} if large else {})
        column = pa_csv.read_csv(file, convert_options=options).column("row")
        rows = column.cast(pa.uint64() if large else pa.int64()).to_numpy()
    except (KeyError, *DAMAGE) as error:
        raise DataError(
            f"{file} is not a drop list, a CSV with whole numbers in a column 'row': {first_line(error)}"
        ) from error
    unknown = np.setdiff1d(rows, images.rows)
    if len(unknown):
        raise DataError(
            f"{file} drops row {unknown[0]:,}, which is not among the {len(images):,} images ({len(unknown):,} such "
            "rows): a drop list belongs to the data it was made from, with the same `per_class`"
        )
    keep = np.flatnonzero(~np.isin(images.rows, rows))
    if not len(keep):
        raise DataError(f"{file} drops all {counted(len(images), 'image')}")
    return subset(images, keep)


class _LazySubset:
    def __init__(self, images: ImageArray, keep: IntArray) -> None:
        self._images, self._keep = images, keep
        self.shape = (len(keep), *images.shape[1:])

    def __len__(self) -> int:
        return len(self._keep)

    def __getitem__(self, rows: Any, /) -> UInt8Array:
        return self._images[self._keep[rows]]
