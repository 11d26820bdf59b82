"""Features of images without an encoder: counts of clustered patches in each quarter of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pairsift._base.checks import unmasked
from pairsift.neighbors import FloatArray, generator, kmeans, principal_axes, unit_rows
from pairsift.same_class.estimator import AffinityError

# Side of the resized images and of the patches, in pixels; variance added to that of a patch before its contrast is
# normalised (of 255 grey levels); and part of the mean variance that whitening adds.
_SIZE, _PATCH, _NOISE, _RIDGE = 32, 6, 10.0, 0.1
# Similarity of a patch to a filter that counts as 0 (Coates, Lee and Ng 2011).
_LEAST = 0.25
# Patches that filters are learned from, and images for these and for the principal components.
_PATCHES, _IMAGES = 100_000, 10_000
# Images at a time.
_BATCH = 100


def patch_features(images: Any, *, filters: int = 200, dimensions: int = 128, seed: int = 0) -> FloatArray:
    """Features of images by soft counts of clustered patches, for `Affinity.fit` without a second model.

    A single layer by Coates, Lee and Ng (AISTATS 2011), learned from the images without labels: k-means of whitened
    patches of 6 x 6 pixels, soft counts in each quarter of the image, and principal components scaled by the fourth
    root of their variance.

    Args:
        images: (N, 3, H, W) uint8, N >= 50, an array or an object that returns one for an array of positions; resized
            to 32 x 32 pixels.
        filters: number of clusters.
        dimensions: D of the features, at most 4 x filters and N - 1.
        seed: of the sample of patches and the start of k-means.

    Returns:
        (N, min(dimensions, 4 filters, N - 1)) float32 unit rows.

    Raises:
        AffinityError: other arrays, fewer than 50 images, or images that are all alike.

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
    if isinstance(images, np.ma.MaskedArray):
        images = unmasked(images, "images", AffinityError)
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
    everything = len(sample) == len(images)
    parts = _parts(np.arange(len(images)))
    counts = (seen[part] if everything else layer.counts(images[part]) for part in parts)
    return unit_rows(np.concatenate([(each / scale - centre) @ axes for each in counts]))


@dataclass(frozen=True)
class PatchLayer:
    """Filters (K, 3, 6, 6), and offsets (K,) that are subtracted from a patch's products with them."""

    filters: Tensor
    offsets: Tensor

    def counts(self, images: NDArray[np.uint8]) -> FloatArray:
        """(N, 4 K) mean absolute similarity to every filter in each quarter of (N, 3, H, W) images."""
        out: FloatArray = F.adaptive_avg_pool2d(self.maps(resized(images)), 2).flatten(1).numpy()
        return out

    def maps(self, x: Tensor) -> Tensor:
        """(N, K, 27, 27) soft-thresholded similarities of patches to filters, from (N, 3, 32, 32) float images."""
        n = 3 * _PATCH**2
        mean = F.avg_pool2d(x.mean(dim=1, keepdim=True), _PATCH, 1)
        square = F.avg_pool2d(x.square().mean(dim=1, keepdim=True), _PATCH, 1)
        spread = ((square - mean.square()).clamp_min_(0) * (n / (n - 1)) + _NOISE).sqrt_()
        found = F.conv2d(x, self.filters).div_(spread).sub_(self.offsets[:, None, None])
        return found.abs_().sub_(_LEAST).clamp_min_(0)


def learned_layer(images: Any, filters: int, rng: np.random.Generator, seed: int) -> PatchLayer:
    """A layer of the centres of whitened patches, multiplied with the whitening into filters of pixels."""
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
    pixels -= pixels.mean(axis=1, keepdims=True)  # the filters then ignore the mean of a patch
    return PatchLayer(torch.from_numpy(pixels).view(-1, 3, _PATCH, _PATCH), torch.from_numpy(offsets))


def resized(images: NDArray[np.uint8]) -> Tensor:
    """(N, 3, 32, 32) float images in [0, 255] from uint8 images of any size."""
    x = torch.from_numpy(np.ascontiguousarray(images)).float()
    if x.shape[2:] == (_SIZE, _SIZE):
        return x
    return F.interpolate(x, (_SIZE, _SIZE), mode="bilinear", antialias=True, align_corners=False)


def _parts(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return np.array_split(rows, -(-len(rows) // _BATCH))
