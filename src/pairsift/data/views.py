"""Random views of image batches: the SimCLR policy, its transforms, and how views are made from any policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ViewPolicy = Callable[[Tensor], Tensor]
"""float images (B, C, H, W) in [0, 1] -> one random view of each, float (B, C, H', W'). A kornia pipeline is one."""

# Images transformed at once on a CPU: the intermediates then stay in cache and below malloc's mmap threshold.
_CPU_CHUNK = 64
_GREY_WEIGHTS = (0.299, 0.587, 0.114)  # ITU-R BT.601 luma
# Share of the numbers of a noisy frame that are set to their mean.
_BLANKED = 0.2


@dataclass(frozen=True)
class SimCLRViews:
    """Random resized crop, flip, colour jitter and greyscale on whole batches (SimCLR, arXiv 2002.05709).

    Each image draws its own parameters from torch's global generator (`make_views` seeds it); the four jitter steps
    come in one random order per batch, as in kornia. Works on any device.

    Attributes:
        size: output side in pixels; None keeps the input's.
        crop_scale: range of the crop's share of the area, (0, 1].
        crop_ratio: range of the crop's aspect ratio.
        flip: probability of a horizontal flip.
        brightness, contrast, saturation: factors are drawn from [1 - x, 1 + x].
        hue: turns are drawn from [-hue, hue], at most 0.5.
        jitter: probability of the colour jitter.
        grey: probability of greyscale.

    Raises:
        ValueError: a setting out of range.
    """

    size: int | None = None
    crop_scale: tuple[float, float] = (0.2, 1.0)
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.1
    jitter: float = 0.8
    grey: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise ValueError(f"crop_scale must satisfy 0 < low <= high <= 1, got {self.crop_scale}")
        if not 0 < self.crop_ratio[0] <= self.crop_ratio[1]:
            raise ValueError(f"crop_ratio must satisfy 0 < low <= high, got {self.crop_ratio}")
        for name in ("brightness", "contrast", "saturation", "hue", "flip", "jitter", "grey"):
            limit = 0.5 if name == "hue" else 1.0
            if not 0 <= getattr(self, name) <= limit:
                raise ValueError(f"{name} must lie in [0, {limit}], got {getattr(self, name)}")

    def __call__(self, images: Tensor) -> Tensor:
        """One view of each image: float (B, 3, H, W) in [0, 1] -> (B, 3, size, size) in [0, 1], of the same dtype.

        Raises:
            TypeError: images that are not floating point.
            ValueError: images of another shape.
        """
        if not images.is_floating_point():
            raise TypeError(f"images must be floating point in [0, 1], got {images.dtype}: give images.float() / 255")
        if images.dim() != 4 or images.shape[1] != 3:
            raise ValueError(f"images must be (B, 3, H, W), got {tuple(images.shape)}")
        if images.dtype in (torch.bfloat16, torch.float16):  # too coarse for positions of pixels
            return self(images.float()).to(images.dtype)
        steps = torch.randperm(4).tolist()
        if images.device.type != "cpu" or len(images) <= _CPU_CHUNK:
            return self._views(images, steps)
        return torch.cat([self._views(chunk, steps) for chunk in torch.split(images, _CPU_CHUNK)])

    def _views(self, images: Tensor, steps: list[int]) -> Tensor:
        n, device = len(images), images.device
        size = (self.size, self.size) if self.size else (images.shape[2], images.shape[3])

        def chance(probability: float) -> Tensor:
            return torch.rand(n, dtype=torch.float32, device=device) < probability

        def uniform(spread: float, centre: float) -> Tensor:
            drawn = torch.rand(n, dtype=torch.float32, device=device)
            return torch.where(jittered, (drawn * 2 - 1) * spread + centre, centre).to(images.dtype)

        views = resized_crop(images, self.draw_boxes(images), size, chance(self.flip))
        jittered = chance(self.jitter)
        for step in steps:
            if step == 0 and self.brightness:
                adjust_brightness_(views, uniform(self.brightness, 1))
            elif step == 1 and self.contrast:
                adjust_contrast_(views, uniform(self.contrast, 1))
            elif step == 2 and self.saturation:
                adjust_saturation_(views, uniform(self.saturation, 1))
            elif step == 3 and self.hue:
                adjust_hue_(views, uniform(self.hue, 0))
        if self.grey:
            chosen = chance(self.grey).nonzero().flatten()
            views[chosen] = greyscale(views[chosen]).expand(-1, 3, -1, -1)
        return views

    def draw_boxes(self, images: Tensor) -> Tensor:
        """Crop boxes (B, 4) as top, left, height, width: ten tries for area and ratio, else the whole image."""
        n, device = len(images), images.device
        height, width = images.shape[2], images.shape[3]
        area = torch.empty(n, 10, dtype=torch.float32, device=device).uniform_(*self.crop_scale) * (height * width)
        low, high = (torch.tensor(ratio, dtype=torch.float32).log().item() for ratio in self.crop_ratio)
        ratio = torch.empty(n, 10, dtype=torch.float32, device=device).uniform_(low, high).exp()
        boxes = torch.stack([(area / ratio).sqrt().round(), (area * ratio).sqrt().round()], dim=2).long()
        limits = torch.tensor([height, width], device=device)
        fits = ((boxes > 0) & (boxes <= limits)).all(dim=2)
        first = fits.int().argmax(dim=1)  # argmax gives the first of equal maxima
        box = torch.where(fits.any(dim=1, keepdim=True), boxes[torch.arange(n, device=device), first], limits)
        corner = (torch.rand(n, 2, dtype=torch.float32, device=device) * (limits - box + 1)).long()
        return torch.cat([corner, box], dim=1)


class NoisyFrames:
    """Frames (B, D) with normal noise, and a fifth of their numbers at the mean.

    Args:
        mean, std: of each number over the training frames, D each.
        noise: standard deviation of the noise, in units of `std`.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], noise: float) -> None:
        self.mean = torch.tensor(mean, dtype=torch.float32)
        self.spread = noise * torch.tensor(std, dtype=torch.float32)

    def __call__(self, frames: Tensor) -> Tensor:
        """One view of each frame, (B, D) -> (B, D)."""
        noisy = frames + self.spread.to(frames.device) * torch.randn_like(frames)
        return torch.where(torch.rand_like(frames) > _BLANKED, noisy, self.mean.to(frames.device))


def to_float(images: Tensor) -> Tensor:
    """uint8 [0, 255] -> float32 [0, 1], the form encoders and view policies take."""
    return images.float().div_(255)


def make_views(images: Tensor, policy: ViewPolicy, seed: int, others: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Two random views of a batch, a function of (images, policy, seed, others) alone.

    The policy draws from torch's global generators, which are seeded for the call and restored after it: any policy,
    kornia's included, gives the same views for the same seed, so an interrupted run can resume on the same views.

    Args:
        images: (B, C, H, W) uint8; or (B, D) float32 frames, which a policy then takes as they are.
        policy: makes one view of each image.
        seed: >= 0.
        others: images for the second views, such as neighbours in time; None takes the images again.

    Returns:
        Two float tensors (B, C, H', W'), or (B, D') of frames.

    Raises:
        ValueError: the policy returned another number of images or a non-float tensor.

    Example:
        >>> import torch
        >>> from pairsift.data import SimCLRViews, make_views
        >>> images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
        >>> [tuple(view.shape) for view in make_views(images, SimCLRViews(), seed=0)]
        [(8, 3, 32, 32), (8, 3, 32, 32)]
    """
    first_of, second_of = (
        each if each.is_floating_point() else to_float(each) for each in (images, images if others is None else others)
    )
    devices = [images.device] if images.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        torch.manual_seed(seed)
        first, second = policy(first_of), policy(second_of)
    for view in (first, second):
        alike = isinstance(view, Tensor) and view.dim() == images.dim() and len(view) == len(images)
        if not (alike and view.is_floating_point()):
            got = f"{view.dtype} {tuple(view.shape)}" if isinstance(view, Tensor) else type(view).__name__
            form = "(B, C, H, W)" if images.dim() == 4 else "(B, D)"
            raise ValueError(f"a view policy must return a float {form} tensor with B = {len(images)}, got {got}")
    return first, second


# Transforms of batches: each image has its own parameters.
#
# They take float images (B, C, H, W) in [0, 1] and parameters (B,), and return images in [0, 1]; a trailing underscore
# means in place, as in torch. They draw nothing at random. For the same parameters they give what `kornia.enhance` and
# `kornia.geometry` (and so torchvision) give; kornia's own cost a large part of a small encoder's training step. Masks
# are floats: on CPUs torch's `where` costs as much as twenty other passes.


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
