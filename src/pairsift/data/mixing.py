"""Mixed data sets: a known share of images made difficult (Fig. 2 of arXiv 2501.01317, "Mixed CIFAR-10")."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from pairsift._base.checks import class_labels
from pairsift._base.words import counted
from pairsift.data.columns import UNLABELLED
from pairsift.data.errors import DataError
from pairsift.data.images import ImageArray, ImageSet, UInt8Array

MixKind = Literal["pixel", "composite"]


@dataclass(frozen=True)
class Mixture:
    """The result of `mix`.

    Attributes:
        images: (N, C, H, W) uint8, mixed ones replaced; the same kind (array or lazy) as went in.
        mixed: (N,) bool, which images were replaced.
        partner: (N,) int64, the image each mixed one was mixed with; its own position where not mixed.
    """

    images: ImageArray
    mixed: NDArray[np.bool_]
    partner: NDArray[np.int64]


def mix(
    images: ImageArray, labels: NDArray[np.int64] | None = None, *, fraction: float = 0.2, seed: int = 0,
    kind: MixKind = "pixel",
) -> Mixture:  # fmt: skip
    """Replace a fraction of the images by a mixture with an image of another class.

    A mixed image keeps its label. Partners are drawn from the original images, uniformly over those of other classes,
    or over all other images when there are no labels or an image has none (-1).

    Args:
        images: (N, C, H, W) uint8 array, or lazy images.
        labels: (N,) class numbers, or None.
        fraction: share of images to replace, in [0, 1]; round(fraction * N) images are.
        seed: seed of the draw; both kinds draw the same images and partners.
        kind: "pixel", the 50/50 mean (the paper's), or "composite", the left half joined to the partner's right half.

    Raises:
        DataError: other images, fraction out of range, an unknown kind, labels of another length, fewer than two
            images, one class.
    """
    if not hasattr(images, "shape") or len(images.shape) != 4:
        raise DataError(f"images must be (N, C, H, W) uint8, got {getattr(images, 'shape', type(images).__name__)}")
    if getattr(images, "dtype", np.dtype(np.uint8)) != np.uint8:
        raise DataError(f"images must be uint8 (0 to 255), got {getattr(images, 'dtype', None)}")
    n = len(images)
    if not isinstance(fraction, (int, float)) or not 0 <= fraction <= 1:
        raise DataError(f"the mixed fraction must lie in [0, 1], got {fraction}")
    if labels is not None:
        labels = class_labels(labels, "labels", DataError)
        if labels.shape != (n,):
            raise DataError(f"{counted(n, 'image')} but labels of shape {labels.shape}")
    if not isinstance(kind, str) or kind not in get_args(MixKind):
        raise DataError(f"kind must be 'pixel' or 'composite', got {kind!r}")
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(n, size=round(fraction * n), replace=False))
    partner = np.arange(n, dtype=np.int64)
    if len(chosen):
        partner[chosen] = _draw_partners(chosen, n, labels, rng)
    mixed = np.zeros(n, bool)
    mixed[chosen] = True
    if not isinstance(images, np.ndarray):
        return Mixture(_LazyMixture(images, mixed, partner, kind), mixed, partner)
    out = images.copy()
    out[chosen] = _mixed(images[chosen], images[partner[chosen]], kind)
    return Mixture(out, mixed, partner)


def mix_set(images: ImageSet, fraction: float, seed: int, kind: MixKind = "pixel") -> ImageSet:
    """`mix` applied to an image set; `.mixed` says which images were replaced.

    Example:
        >>> from pairsift.data import load_images, mix_set
        >>> mixed = mix_set(load_images("digits:train", per_class=20), fraction=0.2, seed=0)
        >>> int(mixed.mixed.sum())
        40
    """
    mixture = mix(images.images, images.labels, fraction=fraction, seed=seed, kind=kind)
    return replace(images, images=mixture.images, mixed=mixture.mixed)


def _draw_partners(
    chosen: NDArray[np.int64], n: int, labels: NDArray[np.int64] | None, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw uniformly over other classes: sorted by class, the others of a block are the rest of a circle."""
    if n < 2:
        raise DataError(f"mixing needs at least 2 images, got {n}")
    classes = np.arange(n) if labels is None else labels
    if labels is not None and labels.dtype.kind == "i" and (labels == UNLABELLED).any():
        # An image without a label may be of any class: each is a class of its own here, with a number below all.
        classes = np.where(labels == UNLABELLED, min(int(labels.min()), 0) - 1 - np.arange(n), labels)
    order = np.argsort(classes, kind="stable")
    values, starts, counts = np.unique(classes[order], return_index=True, return_counts=True)
    if len(values) < 2:
        raise DataError(
            f"all {n} images have label {values[0]}: mixing needs a second class, or no labels (`label_column='none'`)"
        )
    block = np.searchsorted(values, classes[chosen])
    offset = (rng.random(len(chosen)) * (n - counts[block])).astype(np.int64)
    partners: NDArray[np.int64] = order[(starts[block] + counts[block] + offset) % n]
    return partners


class _LazyMixture:
    def __init__(self, images: ImageArray, mixed: NDArray[np.bool_], partner: NDArray[np.int64], kind: MixKind) -> None:
        self._images, self._mixed, self._partner, self._kind = images, mixed, partner, kind
        self.shape = images.shape

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, rows: Any, /) -> UInt8Array:
        positions = np.arange(len(self))[rows]
        out = self._images[positions]
        which = self._mixed[positions]
        if which.any():
            out[which] = _mixed(out[which], self._images[self._partner[positions[which]]], self._kind)
        return out


def _mixed(a: UInt8Array, b: UInt8Array, kind: MixKind) -> UInt8Array:
    if kind == "pixel":
        mean: UInt8Array = ((a.astype(np.uint16) + b + 1) // 2).astype(np.uint8)
        return mean
    out: UInt8Array = a.copy()
    out[..., a.shape[-1] // 2 :] = b[..., a.shape[-1] // 2 :]
    return out
