"""Batched image transforms: every image of a batch at once, each with its own parameters.

All functions take float images of shape (B, C, H, W) in [0, 1] and per-image parameters of shape (B,), and return
new images in [0, 1]. They draw nothing at random: `pairsift.data.views` draws the parameters. The semantics are those
of `kornia.enhance` / `kornia.geometry` (and so of torchvision) for the same parameters; they exist because kornia's
augmentation costs a large part of a small encoder's training step (`benchmarks/input.py`).
"""

from __future__ import annotations

import torch
from torch import Tensor

_GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma


def resized_crop(images: Tensor, boxes: Tensor, size: tuple[int, int], flip: Tensor | None = None) -> Tensor:
    """Cut a box out of each image and resize it bilinearly; optionally mirror it left to right.

    Bilinear resizing is separable, so a crop is two small matrix products per image, `rows @ image @ columns^T`.
    Boxes larger than `size` are resized with the widened (antialiasing) triangle filter, as PIL does.

    Args:
        images: float, (B, C, H, W).
        boxes: int, (B, 4) as top, left, height, width in pixels, inside the image.
        size: output height and width in pixels.
        flip: bool, (B,); images to mirror.

    Returns:
        (B, C, *size), the dtype of `images`.
    """
    top, left, height, width = boxes.unbind(1)
    rows = _resize_matrix(top, height, images.shape[2], size[0], images.dtype)
    columns = _resize_matrix(left, width, images.shape[3], size[1], images.dtype)
    if flip is not None:
        columns = torch.where(flip[:, None, None], columns.flip(1), columns)
    return rows[:, None] @ (images @ columns[:, None].transpose(2, 3))


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply every pixel by `factor` (B,) >= 0 and clamp to [0, 1]."""
    return (images * _per_image(factor)).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image's mean grey: 0 gives flat grey, 1 the image; `factor` (B,) >= 0."""
    mean = greyscale(images).mean(dim=(1, 2, 3), keepdim=True)
    return mean.lerp(images, _per_image(factor)).clamp_(0, 1)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey version: 0 gives grey, 1 the image; `factor` (B,) >= 0."""
    return greyscale(images).lerp(images, _per_image(factor)).clamp_(0, 1)


def adjust_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Rotate the HSV hue by `turn` (B,) of a full circle, in [-0.5, 0.5]; saturation and value stay.

    Uses the closed form `channel_n = V - C * clamp(min(k, 4 - k), 0, 1)`, `k = (n + 6 hue) mod 6`, n = 5, 3, 1 for
    red, green, blue, so that no per-sextant cases are needed on the way back.
    """
    red, green, blue = images.unbind(1)
    value = torch.maximum(torch.maximum(red, green), blue)
    chroma = value - torch.minimum(torch.minimum(red, green), blue)
    scale = chroma.clamp_min(torch.finfo(images.dtype).tiny).reciprocal_()  # grey pixels: any hue, chroma is 0
    sextant = torch.where(
        value == red,
        (green - blue) * scale,
        torch.where(value == green, (blue - red) * scale + 2, (red - green) * scale + 4),
    ).add_(6 * turn[:, None, None])
    out = torch.empty_like(images)
    for channel, n in enumerate((5, 3, 1)):
        k = (sextant + n).remainder_(6)
        torch.sub(value, torch.minimum(k, 4 - k).clamp_(0, 1).mul_(chroma), out=out[:, channel])
    return out.clamp_(0, 1)


def greyscale(images: Tensor) -> Tensor:
    """Luma of RGB images: (B, 3, H, W) -> (B, 1, H, W)."""
    red, green, blue = images.unbind(1)
    return (red * _GREY_WEIGHTS[0]).add_(green, alpha=_GREY_WEIGHTS[1]).add_(blue, alpha=_GREY_WEIGHTS[2])[:, None]


def _per_image(parameter: Tensor) -> Tensor:
    return parameter[:, None, None, None]


def _resize_matrix(start: Tensor, length: Tensor, source: int, target: int, dtype: torch.dtype) -> Tensor:
    """Interpolation weights (B, target, source) that resize `[start, start + length)` of a line to `target` pixels."""
    position = torch.arange(source, dtype=dtype, device=start.device)
    start, length = start[:, None].to(dtype), length[:, None].to(dtype)
    scale = length / target
    centre = (torch.arange(target, dtype=dtype, device=start.device) + 0.5) * scale - 0.5
    support = scale.clamp_min(1)[..., None]
    # Samples outside the box take its edge pixel (upscaling) or drop out of the average (downscaling).
    centre = start + torch.where(scale <= 1, centre.clamp_min(0).minimum(length - 1), centre)
    weights = (1 - (position - centre[..., None]).abs_() / support).clamp_min_(0)
    inside = (position >= start) & (position < start + length)
    weights = weights * inside[:, None]
    return weights / weights.sum(dim=2, keepdim=True)
