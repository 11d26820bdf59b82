"""Examples as the page shows them: thumbnails where there are images, facts always."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pairsift.data import ArraySource, ImageSet, open_source

if TYPE_CHECKING:
    from pairsift.scanning.result import Scan

# Sides of thumbnails, how many pixels are kept as they are, and bytes from which on one is made coarser: with four of
# them for each line of the page it stays below a megabyte and a half.
_THUMBNAIL, _EXACT, _LARGEST = 96, 32 * 32, 6000


class Example(NamedTuple):
    """Facts of an example; `image` is a data address, empty for one that cannot be read, None where there are none."""

    row: int
    cluster: int
    score: str
    label: str | None
    image: str | None


class Pair(NamedTuple):
    """A bridging pair; `probability` of different classes is None where it is not known."""

    anchor: Example
    other: Example
    similarity: str
    probability: str | None


class Examples:
    """Examples of a scan by their positions.

    Args:
        scan: that they are of.
        images: see `Scan.report`.
        labels: (N,) classes to name, or None.

    Raises:
        ValueError: images of another length than the scan.
    """

    def __init__(self, scan: Scan, images: Any, labels: NDArray[Any] | None) -> None:
        self._scan, self._labels = scan, labels
        self._image = None if images is None else _opener(scan, images)

    def pairs(self, most: int) -> list[Pair]:
        """The strongest bridging pairs."""
        return [
            Pair(
                self._example(pair["anchor"]),
                self._example(pair["other"]),
                f"{pair['similarity']:.3f}",
                None if math.isnan(pair["probability"]) else f"{pair['probability']:.0%}",
            )
            for pair in self._scan.pairs.slice(0, most).to_pylist()
        ]

    def at(self, positions: NDArray[np.int64]) -> list[Example]:
        """The examples at some positions, in order."""
        return [self._example(position) for position in positions.tolist()]

    def _example(self, position: int) -> Example:
        scan = self._scan
        return Example(
            row=int(scan.rows[position]), cluster=int(scan.clusters[position]), score=f"{scan.scores[position]:.3f}",
            label=None if self._labels is None else str(self._labels[position]),
            image=None if self._image is None else _thumbnail(self._image, position),
        )  # fmt: skip


def _thumbnail(open_image: Callable[[int], Image.Image], position: int) -> str:
    """A small copy as a data address; empty where the image cannot be read."""
    try:
        image = open_image(position).convert("RGB")
    except Exception:  # a damaged image, or one that claims to be huge, has many ways to fail
        return ""
    image.thumbnail((_THUMBNAIL, _THUMBNAIL))
    buffer = io.BytesIO()
    small = image.width * image.height <= _EXACT
    image.save(buffer, "PNG") if small else image.save(buffer, "JPEG", quality=80)
    if buffer.tell() > _LARGEST:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=40)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _opener(scan: Scan, images: Any) -> Callable[[int], Image.Image]:
    """How to get the image of a position, whatever the images are given as."""
    if isinstance(images, (str, Path)):
        source = open_source(str(images))
        counted = np.array_equal(scan.rows, np.arange(len(scan)))
        if (counted and len(source) != len(scan)) or len(source) <= scan.rows.max():
            raise ValueError(
                f"{images} has {len(source):,} images, the scan {len(scan):,} rows up to row {scan.rows.max():,}: give "
                "the images that the features were computed from, or features with a column 'row'"
            )
        return lambda position: source.image(int(scan.rows[position]))
    if isinstance(images, ImageSet):
        images = images.images
    if len(images) != len(scan):
        raise ValueError(f"the scan has {len(scan):,} rows, got {len(images):,} images")
    if isinstance(images, np.ndarray):
        return ArraySource(images, name="images").image
    return lambda position: Image.fromarray(np.ascontiguousarray(images[np.array([position])][0].transpose(1, 2, 0)))
