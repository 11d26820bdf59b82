"""Images of the scanned rows: which image belongs to which row, and small copies for the page."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pairsift._base.checks import real_array
from pairsift._base.words import counted
from pairsift.data import ArraySource, DataError, ImageSet, open_source
from pairsift.data.decoding import rgb

# Sides of thumbnails; pixels up to which an image is kept as it is; bytes from which on one is compressed more. With
# four of them for each line of the page it stays below a megabyte and a half.
_SIDE, _EXACT, _LARGEST = 96, 32 * 32, 6000
# Side of the small ones, such as those of nearest rows, which are many.
_NEAR_SIDE = 48

OpenImage = Callable[[int], Image.Image]


def open_images(images: Any, rows: NDArray[np.int64], paths: Sequence[str] | None) -> OpenImage:
    """A function that opens the image of a position, for images of every kind.

    Images with paths are joined to rows by path where the rows have paths, too. Others must be as many as the rows,
    in the same order; images of a whole set may be more, where `rows` says which rows were scanned.

    Args:
        images: a path or name that `pairsift.data.open_source` reads; an `ImageSet`; an array or tensor (N, H, W),
            (N, H, W, C) or (N, C, H, W); a list or column of paths, PIL images, arrays or tensors (H, W), (H, W, C),
            (C, H, W).
        rows: (N,) row of each position in the set that was scanned.
        paths: (N,) path of each position, or None.

    Raises:
        DataError: images that cannot be read, of another number, or with other paths.
        TypeError: images of another kind.
    """
    if isinstance(images, (str, Path)):
        source = open_source(str(images))
        if source.paths is not None and paths is not None:
            places = _joined(source.paths, paths, str(images))
            return lambda position: source.image(_place(places, position))
        whole = np.array_equal(rows, np.arange(len(rows)))
        if (whole and len(source) != len(rows)) or len(source) <= rows.max():
            raise DataError(
                f"{images} has {counted(len(source), 'image')}, the scan {len(rows):,} rows up to row {rows.max():,}: "
                "give the images that the features were computed from, or features with a column 'row' or 'path'"
            )
        return lambda position: source.image(int(rows[position]))
    images = _plain(images)
    if not (hasattr(images, "__len__") and hasattr(images, "__getitem__")) or isinstance(images, (bytes, dict)):
        raise TypeError(
            f"images must be a path, an array, an ImageSet or a list of paths, PIL images or arrays, got "
            f"{type(images).__name__}"
        )
    if len(images) != len(rows):
        raise DataError(f"the scan has {len(rows):,} rows, got {counted(len(images), 'image')}")
    if isinstance(images, np.ndarray):
        return ArraySource(images, name="images").image
    if not isinstance(images, Sequence):  # decoded as they are asked for: (B, C, H, W) of B positions
        return lambda position: ArraySource(images[np.array([position])], name="images").image(0)
    if not isinstance(images, (list, tuple)):  # a column of a data set, which decodes an image when it is asked for
        return lambda position: _opened(_plain(images[position]))
    images = [_plain(each) for each in images]
    for i, each in enumerate(images):
        _check(each, i)
    return lambda position: _opened(images[position])


def _plain(images: Any) -> Any:
    """The array of a tensor or an `ImageSet`, the list of a column or of an array of paths, else what was given."""
    if isinstance(images, ImageSet):
        return images.images
    if isinstance(images, torch.Tensor):
        return real_array(images, "images", DataError)
    if isinstance(images, np.ndarray):
        return images.tolist() if images.dtype.kind in "OUST" else images
    listed = next((name for name in ("to_pylist", "to_list") if hasattr(images, name)), None)
    return images if listed is None else getattr(images, listed)()


def thumbnails(open_image: OpenImage, positions: Iterable[int], small: Iterable[int] = ()) -> dict[int, str]:
    """Small copies as data addresses; empty text for an image that cannot be read.

    Args:
        open_image: gives the image at a position.
        positions: of images to show.
        small: of further images, which are shown smaller.

    Raises:
        DataError: none of the images can be read.
    """
    made, error = {}, None
    for position, side in (dict.fromkeys(small, _NEAR_SIDE) | dict.fromkeys(positions, _SIDE)).items():
        try:
            made[position] = _address(rgb(open_image(position)), side)
        except Exception as caught:  # a damaged image, or one that claims to be huge, has many ways to fail
            made[position], error = "", caught
    if made and not any(made.values()):
        raise DataError(f"none of {counted(len(made), 'image')} can be read; of the last one: {error}") from error
    return made


def _check(image: Any, position: int) -> None:
    if isinstance(image, (str, PurePath)):
        if not Path(image).is_file():
            raise DataError(f"image {position}: there is no file {str(image)!r}")
    elif isinstance(image, np.ndarray):
        if image.ndim not in (2, 3):
            raise DataError(f"image {position} must be (H, W), (H, W, C) or (C, H, W), got shape {image.shape}")
    elif not isinstance(image, Image.Image):
        raise TypeError(f"image {position} must be a path, a PIL image or an array, got {type(image).__name__}")


def _opened(image: Any) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, np.ndarray):
        return ArraySource(image[None], name="images").image(0)
    return Image.open(image)


def _joined(known: Sequence[str], wanted: Sequence[str], name: str) -> list[int]:
    """Place among the known paths of each wanted one: by the whole path, else by as much of its end as is unique."""
    places = {path: i for i, path in enumerate(known)} | {"": -1}
    if not all(each in places for each in wanted):
        depth = min(len(PurePath(each).parts) for each in (*known, *wanted) if each)
        for parts in range(depth, 0, -1):
            ends = [_end(path, parts) for path in known]
            if max(Counter(ends).values()) == 1:
                shorter = dict(zip(ends, range(len(ends)), strict=True)) | {(): -1}
                if all(_end(each, parts) in shorter for each in wanted):
                    return [shorter[_end(each, parts)] for each in wanted]
        missing = [each for each in wanted if each not in places]
        raise DataError(
            f"{name} has no image {missing[0]!r}, which a row of the features names ({len(missing):,} of "
            f"{len(wanted):,} are missing); its first is {known[0]!r}: give the images that the features were computed "
            "from"
        )
    return [places[each] for each in wanted]


def _place(places: list[int], position: int) -> int:
    if places[position] < 0:
        raise LookupError(f"row {position} has no path")
    return places[position]


def _end(path: str, parts: int) -> tuple[str, ...]:
    return PurePath(path).parts[-parts:]


def _address(image: Image.Image, side: int) -> str:
    image.thumbnail((side, side))
    buffer = io.BytesIO()
    small = image.width * image.height <= _EXACT
    image.save(buffer, "PNG") if small else image.save(buffer, "JPEG", quality=80)
    if buffer.tell() > _LARGEST:
        buffer, small = io.BytesIO(), False
        image.save(buffer, "JPEG", quality=40)
    return f"data:image/{'png' if small else 'jpeg'};base64,{base64.b64encode(buffer.getvalue()).decode()}"
