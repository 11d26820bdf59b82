"""Decode images of any mode to upright RGB pixels of 8 bits; files, data sets and thumbnails share it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

# The EXIF tag of how the camera was held, and its values that make height and width change places.
_ORIENTATION, _SIDEWAYS = 0x0112, range(5, 9)
_LEVELS = {1: 1, 8: 255, 16: 65_535}
# Images of an array scaled at once: 50 MB of doubles for 64 x 64 pixels in three channels.
_BLOCK = 512


def rgb(image: Image.Image) -> Image.Image:
    """An image as RGB of 8 bits, as it is meant to be seen.

    It is turned as its EXIF orientation says, as Hugging Face `datasets` does. Transparent pixels are laid over white.
    Deeper pixels are scaled to 8 bits, not clipped (`eight_bit`). Of several frames the first is taken, and
    ``info["frames"]`` says how many there are.

    Args:
        image: in any mode of Pillow.

    Raises:
        ValueError: pixels that are negative, not finite, or of no known range.
    """
    frames = _frames(image)
    # Pillow opens 16 bits of grey as "I;16" or, of some formats, as 32-bit "I".
    deep = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PPM", "PNG"))
    depth = _bits(image) if deep else None
    image.load()
    # Pillow turns TIFF itself when it loads it, and some versions leave the tag there.
    if image.format != "TIFF" and _orientation(image) > 1:
        image = ImageOps.exif_transpose(image)
    plain = _plain(image, depth)
    if frames > 1:
        plain.info["frames"] = frames
    return plain


def _bits(image: Image.Image) -> int:
    """Bits of full brightness of an image that Pillow opens with 16: a TIFF may use 12 of them, and says so."""
    tags: Any = getattr(image, "tag_v2", {})
    return int(tags.get(258, (16,))[0]) if image.format == "TIFF" else 16


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Height and width of an image that `rgb` would give, from its header."""
    width, height, orientation = image.width, image.height, 1
    if image.format == "TIFF":  # versions of Pillow give its size before or after turning
        tags: Any = getattr(image, "tag_v2", {})
        width, height, orientation = tags.get(256, width), tags.get(257, height), tags.get(_ORIENTATION, 1)
    elif image.format != "PNG" or "exif" in image.info:  # a PNG would have to be decoded to look for EXIF at its end
        orientation = _orientation(image)
    return (width, height) if orientation in _SIDEWAYS else (height, width)


def eight_bit(pixels: NDArray[Any], depth: int | None = None) -> NDArray[np.uint8]:
    """Pixels of any type as whole numbers from 0 to 255.

    Args:
        pixels: bool, whole or floating point, of one image or of a whole set.
        depth: bits of full brightness. None takes the range that the values fill: 0 to 1 (of floating point only), 0
            to 255, 0 to 65,535, or all that the type of whole numbers can hold.

    Raises:
        ValueError: pixels that are negative, not finite, or floating point above 65,535.
    """
    if pixels.dtype == np.uint8:
        return pixels
    if pixels.dtype == bool:
        return np.where(pixels, 255, 0).astype(np.uint8)
    if pixels.dtype.kind not in "iuf":
        raise ValueError(f"pixels must be numbers, got {pixels.dtype}")
    if not pixels.size:
        return pixels.astype(np.uint8)
    low, high = pixels.min(), pixels.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("pixels are not finite: mend them or leave the image out")
    top = _white(float(low), float(high), pixels.dtype, depth)
    out = np.empty(pixels.shape, np.uint8)
    for start in range(0, len(pixels), _BLOCK):
        part = pixels[start : start + _BLOCK].astype(np.float64)
        out[start : start + _BLOCK] = np.rint(part * (255 / top))
    return out


def over_white(pixels: NDArray[np.uint8], alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels laid over white.

    Args:
        pixels: (..., C).
        alpha: (..., 1), 0 for transparent to 255 for opaque.
    """
    share = alpha.astype(np.float32) / 255
    laid: NDArray[np.uint8] = np.rint(pixels * share + 255 * (1 - share)).astype(np.uint8)
    return laid


def _white(low: float, high: float, dtype: np.dtype[Any], depth: int | None) -> float:
    """The value of full brightness."""
    known = "scale them to 0 ... 1, 0 ... 255 or 0 ... 65,535"
    if low < 0:
        raise ValueError(f"pixels go from {low:g} to {high:g}: {known}")
    if depth is not None:
        return 2.0**depth - 1
    for bits in (1, 8, 16) if dtype.kind == "f" else (8, 16):
        if high <= _LEVELS[bits]:
            return _LEVELS[bits]
    if dtype.kind == "f":
        raise ValueError(f"pixels go up to {high:g}, of no known range: {known}")
    return float(np.iinfo(dtype).max)


def _plain(image: Image.Image, depth: int | None) -> Image.Image:
    """An upright image as RGB; `depth` is that of the file where it says so."""
    mode = image.mode
    if mode in ("I", "F") or mode.startswith("I;"):
        return Image.fromarray(eight_bit(np.asarray(image), depth)).convert("RGB")
    if mode in ("RGBA", "LA", "PA", "La", "RGBa") or image.info.get("transparency") is not None:
        image = image.convert("LA") if mode == "La" else image
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _orientation(image: Image.Image) -> int:
    try:
        held = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF has many ways to fail, and says nothing about the pixels
        return 1
    return held if isinstance(held, int) and 1 <= held <= 8 else 1


def _frames(image: Image.Image) -> int:
    """How many pictures a file holds; the previews that cameras add (MPO) do not count."""
    if image.format == "MPO" or not getattr(image, "is_animated", False):
        return 1
    frames: int = getattr(image, "n_frames", 1)
    return frames
