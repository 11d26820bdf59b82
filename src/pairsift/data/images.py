"""Image sets behind one way of asking, `images[rows] -> uint8 (B, C, H, W)`, and parts of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
from numpy.typing import NDArray

from pairsift._base.checks import first_line
from pairsift.data.errors import DataError
from pairsift.data.tables import DAMAGE

UInt8Array = NDArray[np.uint8]
IntArray = NDArray[np.int64]


class ImageArray(Protocol):
    """What an image set is made of: a uint8 array, a memory map, or anything that decodes rows when asked."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, 3, H, W)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> UInt8Array: ...


@dataclass(frozen=True)
class ImageSet:
    """Images of one size with what is known about each.

    Attributes:
        images: `images[rows]` gives uint8 (B, C, H, W).
        labels: (N,) int64 class numbers, or None.
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
        """Whether what is held are vectors (N, D), not images."""
        return len(self.images.shape) == 2

    @property
    def n_classes(self) -> int | None:
        """Number of classes present, None without labels."""
        return None if self.labels is None else len(np.unique(self.labels))


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


def without_rows(images: ImageSet, file: Path) -> ImageSet:
    """The images whose source rows a drop list does not name.

    Args:
        images: any image set.
        file: CSV with a column `row`, as `pairsift scan` writes.

    Raises:
        DataError: the file is missing, not such a CSV, names rows that are not in the set, or leaves nothing.
    """
    try:
        column = pa_csv.read_csv(file).column("row")
        rows = column.cast(pa.int64()).to_numpy()
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
        raise DataError(f"{file} drops all {len(images):,} images")
    return subset(images, keep)


class _LazySubset:
    def __init__(self, images: ImageArray, keep: IntArray) -> None:
        self._images, self._keep = images, keep
        self.shape = (len(keep), *images.shape[1:])

    def __len__(self) -> int:
        return len(self._keep)

    def __getitem__(self, rows: Any, /) -> UInt8Array:
        return self._images[self._keep[rows]]
