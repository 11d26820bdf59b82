"""Features of images without an encoder: how much of every learned small patch lies in each quarter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pairsift.neighbors import FloatArray, generator, kmeans, principal_axes, unit_rows
from pairsift.same_class.estimator import AffinityError

# Images are looked at in this size, in square patches of so many pixels, whose contrast is taken relative to their own
# and this variance of noise (of 255 grey levels); whitening adds a part of the mean variance.
_SIZE, _PATCH, _NOISE, _RIDGE = 32, 6, 10.0, 0.1
# What similarity of a patch to a filter counts as none (Coates, Lee and Ng 2011).
_LEAST = 0.25
# What is learned from: patches, and images for the principal components.
_PATCHES, _IMAGES = 100_000, 10_000
# Images at a time.
_BATCH = 100


def patch_features(images: Any, *, filters: int = 200, dimensions: int = 128, seed: int = 0) -> FloatArray:
    """Features of images that no encoder made: patches are whitened and clustered, and their clusters counted.

    A single layer of the kind of Coates, Lee and Ng (AISTATS 2011), learned from the images alone, without labels and
    without training: k-means of whitened patches of 6 pixels, soft counts in each quarter of the image, principal
    components scaled by the fourth root of their variance. A guide for `Affinity.fit` that needs no second model.

    Args:
        images: (N, 3, H, W) uint8, N >= 50, an array or what gives one for an array of positions; looked at in 32 x 32
            pixels.
        filters: clusters of patches.
        dimensions: D of the features, at most 4 x filters and N - 1.
        seed: of the patches drawn and the clusters' start.

    Returns:
        (N, min(dimensions, 4 filters, N - 1)) float32 unit rows.

    Raises:
        AffinityError: not such images, fewer than 50, or images that are all alike.

    Example:
        >>> import pairsift as ps
        >>> digits = ps.data.load_images("digits:train", per_class=20)
        >>> ps.same_class.patch_features(digits.images, filters=50, dimensions=16).shape
        (200, 16)
    """
    if not hasattr(images, "shape") or not hasattr(images, "__getitem__"):
        raise AffinityError(f"images must be (N, 3, H, W) uint8, got {type(images).__name__}")
    shape = tuple(images.shape)
    kind = getattr(images, "dtype", np.dtype(np.uint8))
    if len(shape) != 4 or shape[1] != 3 or 0 in shape[2:] or kind != np.uint8:
        raise AffinityError(f"images must be (N, 3, H, W) uint8, got {kind} of shape {shape}")
    if len(images) < 50:
        raise AffinityError(f"patches of {len(images)} images say nothing about a set: at least 50 are needed")
    for name, value in (("filters", filters), ("dimensions", dimensions)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise AffinityError(f"{name} must be a whole number >= 1, got {value!r}")
    rng = generator(seed)
    layer = learned_layer(images, filters, rng, seed)
    sample = np.sort(rng.choice(len(images), min(len(images), _IMAGES), replace=False))
    seen = np.concatenate([layer.counts(images[part]) for part in _parts(sample)])
    spread = seen.std(axis=0)
    scale = np.where(spread > 0, spread, 1) + 0.01 * spread.mean()
    centre, values, vectors = principal_axes(seen / scale)
    kept = min(dimensions, len(values), len(images) - 1)
    values, vectors = values[::-1][:kept], vectors[:, ::-1][:, :kept]
    if not values[0] > 0:
        raise AffinityError("all images are alike, so nothing tells them apart")
    axes = (vectors * (values + 1e-3 * values[0]) ** -0.25).astype(np.float32)
    parts = _parts(np.arange(len(images)))
    return unit_rows(np.concatenate([(layer.counts(images[part]) / scale - centre) @ axes for part in parts]))


@dataclass(frozen=True)
class PatchLayer:
    """Filters that a patch is compared with, (K, 3, 6, 6), and what is taken from each comparison, (K,)."""

    filters: Tensor
    offsets: Tensor

    def counts(self, images: NDArray[np.uint8]) -> FloatArray:
        """(N, 4 K) mean similarity to every filter in each quarter, of either sign."""
        out: FloatArray = F.adaptive_avg_pool2d(self.maps(resized(images)), 2).flatten(1).numpy()
        return out

    def maps(self, x: Tensor) -> Tensor:
        """(N, K, 27, 27) similarity of every patch to every filter, of either sign, less what counts as none.

        Args:
            x: (N, 3, 32, 32) float images in [0, 255].
        """
        n = 3 * _PATCH**2
        mean = F.avg_pool2d(x.mean(dim=1, keepdim=True), _PATCH, 1)
        square = F.avg_pool2d(x.square().mean(dim=1, keepdim=True), _PATCH, 1)
        spread = ((square - mean.square()).clamp_min_(0) * (n / (n - 1)) + _NOISE).sqrt_()
        found = F.conv2d(x, self.filters).div_(spread).sub_(self.offsets[:, None, None])
        return found.abs_().sub_(_LEAST).clamp_min_(0)


def learned_layer(images: Any, filters: int, rng: np.random.Generator, seed: int) -> PatchLayer:
    """Centres of whitened patches, folded with the whitening into filters of pixels."""
    at = np.sort(rng.choice(len(images), min(len(images), _IMAGES), replace=False))
    each = -(-_PATCHES // len(at))
    drawn = []
    for part in _parts(at):
        corners = rng.integers(0, _SIZE - _PATCH + 1, (len(part), each, 2))
        whole = resized(images[part]).numpy()
        windows = np.lib.stride_tricks.sliding_window_view(whole, (_PATCH, _PATCH), axis=(2, 3))
        chosen = windows[np.arange(len(part))[:, None], :, corners[..., 0], corners[..., 1]]
        drawn.append(chosen.reshape(-1, 3 * _PATCH**2))
    patches = np.concatenate(drawn)
    patches -= patches.mean(axis=1, keepdims=True)
    patches /= np.sqrt(patches.var(axis=1, ddof=1, keepdims=True) + _NOISE)
    centre, values, vectors = principal_axes(patches)
    if not values[-1] > 0:
        raise AffinityError("no patch of the images has any contrast, so nothing tells them apart")
    whitening = ((vectors / np.sqrt(values + _RIDGE)) @ vectors.T).astype(np.float32)
    white = unit_rows((patches - centre) @ whitening)
    pixels = kmeans(white, min(filters, len(white)), seed) @ whitening
    offsets = pixels @ centre
    pixels -= pixels.mean(axis=1, keepdims=True)  # takes the mean of a patch away
    return PatchLayer(torch.from_numpy(pixels).view(-1, 3, _PATCH, _PATCH), torch.from_numpy(offsets))


def resized(images: NDArray[np.uint8]) -> Tensor:
    """(N, 3, 32, 32) float images in [0, 255] of uint8 images of any size."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float()
    if x.shape[2:] == (_SIZE, _SIZE):
        return x
    return F.interpolate(x, (_SIZE, _SIZE), mode="bilinear", antialias=True, align_corners=False)


def _parts(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return np.array_split(rows, -(-len(rows) // _BATCH))
