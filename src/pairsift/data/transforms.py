"""Batched image transforms: every image of a batch at once, each with its own parameters.

All functions take float images of shape (B, C, H, W) in [0, 1] and per-image parameters of shape (B,), and return
images in [0, 1]; as in torch, a trailing underscore means in place. They draw nothing at random: the parameters are
drawn by `pairsift.data.views`. For the same parameters they give what `kornia.enhance` and `kornia.geometry` (and so
torchvision) give; they exist because kornia's augmentation costs a large part of a small encoder's training step
(`lab/benchmarks/input.py`). Masks are floats: on CPUs torch's `where` costs as much as twenty other passes.
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
    n, channels, height, width = images.shape
    rows = _resize_matrix(boxes[:, 0], boxes[:, 2], height, size[0], images.dtype)
    columns = _resize_matrix(boxes[:, 1], boxes[:, 3], width, size[1], images.dtype, flip)
    narrow = torch.bmm(images.reshape(n, channels * height, width), columns.transpose(1, 2))
    # One product a channel: a broadcast `rows[:, None] @ ...` would first copy `rows` for every channel.
    return torch.stack([torch.bmm(rows, channel) for channel in narrow.view(n, channels, height, -1).unbind(1)], 1)


def adjust_brightness_(images: Tensor, factor: Tensor) -> Tensor:
    """Multiply every pixel by `factor` (B,) >= 0 and clamp to [0, 1], in place."""
    return images.mul_(_per_image(factor)).clamp_(0, 1)


def adjust_contrast_(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the image's mean grey, in place: 0 gives flat grey, 1 the image; `factor` (B,) >= 0."""
    mean, factor = greyscale(images.mean(dim=(2, 3), keepdim=True)), _per_image(factor)
    return images.mul_(factor).add_((1 - factor) * mean).clamp_(0, 1)


def adjust_saturation_(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the grey version, in place: 0 gives grey, 1 the image; `factor` (B,) >= 0."""
    return images.lerp_(greyscale(images), _per_image(1 - factor)).clamp_(0, 1)


def adjust_hue_(images: Tensor, turn: Tensor) -> Tensor:
    """Rotate the HSV hue by `turn` (B,) of a full circle, in [-0.5, 0.5], in place; saturation and value stay.

    With the hue h in sextants, red is `low + chroma * clamp(|h - 3| - 1, 0, 1)`, green and blue are
    `low + chroma * clamp(2 - |h - c|, 0, 1)` with c = 2 and 4: no cases are needed on the way back.
    """
    red, green, blue = images.unbind(1)
    high = torch.maximum(torch.maximum(red, green), blue)
    low = torch.minimum(torch.minimum(red, green), blue)
    chroma = high - low
    # Scaled to [0, 1], the largest channel is exactly 1 and the others below it. Grey pixels: any hue, no chroma.
    r, g, b = ((images - low[:, None]) / chroma.clamp_min(torch.finfo(images.dtype).tiny)[:, None]).unbind(1)
    hue = (r - g).add_(4).lerp_((b - r).add_(2), g.floor()).lerp_(g - b, r.floor()).add_(6 * turn[:, None, None])
    hue.sub_((hue / 6).floor_().mul_(6))
    for channel, centre in ((red, 3), (green, 2), (blue, 4)):
        torch.sub(hue, centre, out=channel).abs_()
        (channel.sub_(1) if centre == 3 else channel.neg_().add_(2)).clamp_(0, 1).mul_(chroma).add_(low)
    return images.clamp_(0, 1)


def greyscale(images: Tensor) -> Tensor:
    """Luma of RGB images: (B, 3, H, W) -> (B, 1, H, W)."""
    red, green, blue = images.unbind(1)
    return (red * _GREY_WEIGHTS[0]).add_(green, alpha=_GREY_WEIGHTS[1]).add_(blue, alpha=_GREY_WEIGHTS[2])[:, None]


def _per_image(parameter: Tensor) -> Tensor:
    return parameter[:, None, None, None]


def _resize_matrix(
    start: Tensor, length: Tensor, source: int, target: int, dtype: torch.dtype, flip: Tensor | None = None
) -> Tensor:
    """Interpolation weights (B, target, source) that resize `[start, start + length)` of a line to `target` pixels."""
    position = torch.arange(source, dtype=dtype, device=start.device)
    start, length = start[:, None].to(dtype), length[:, None].to(dtype)
    scale = length / target
    centre = (torch.arange(target, dtype=dtype, device=start.device) + 0.5) * scale - 0.5
    # Samples outside the box take its edge pixel (upscaling) or drop out of the average (downscaling).
    centre = start + torch.where(scale <= 1, centre.clamp_min(0).minimum(length - 1), centre)
    if flip is not None:
        centre = torch.where(flip[:, None], centre.flip(1), centre)
    inside = ((position >= start) & (position < start + length)).to(dtype)
    weights = (position - centre[..., None]).abs_().div_(scale.clamp_min(1)[..., None]).neg_().add_(1).clamp_min_(0)
    weights.mul_(inside[:, None])
    return weights.div_(weights.sum(dim=2, keepdim=True))
