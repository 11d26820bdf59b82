"""A guide: features of the training images, by any encoder or none, that say which of them are of one class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairsift.data import DataError, FeatureSource, ImageSet, open_features
from pairsift.data.columns import NO_LABELS
from pairsift.same_class import patch_features

PATCHES = Path("patches")
"""The guide that is no file: features of small patches, learned from the training images alone."""
_BLOCK = 8192


def guide_features(file: Path, images: ImageSet, memory: float, seed: int = 0) -> NDArray[np.float32]:
    """Features of the training images, in their order, from a file or made now.

    Args:
        file: "patches" takes `affinity.patch_features` of the images. Else any kind that `open_features` reads: a row
            for every image, in their order, or in any order where a column `row` says which row of the source each is.
        images: N training images.
        memory: GB that the features of a file may take.
        seed: of features that are made.

    Returns:
        (N, D) float32, finite.

    Raises:
        DataError: not readable, of other images, not finite, or larger than `memory`.
        AffinityError: images from which no patches can be learned.
    """
    if file == PATCHES:
        return patch_features(images.images, seed=seed)
    source = open_features(str(file), NO_LABELS)
    n, width = source.shape
    if n != len(images):
        raise DataError(
            f"guide {file} has {n:,} rows, and there are {len(images):,} training images: it needs a row for each, so "
            "embed the same data with the same `per_class`, `drop` and `skip_corrupt`"
        )
    if 4 * n * width > memory * 1e9:
        raise DataError(
            f"guide {file} takes {4 * n * width / 1e9:.2g} GB ({n:,} x {width:,}), and memory_gb={memory:g} GB are "
            "allowed: raise `memory_gb`, or reduce the features to fewer dimensions"
        )
    features = np.empty((n, width), np.float32)
    for start, block in source.blocks(_BLOCK):
        wrong = ~np.isfinite(block).all(axis=1)
        if wrong.any():
            raise DataError(
                f"guide {file} row {start + int(wrong.argmax()):,} is not finite: look for a diverged encoder or an "
                "overflow in half precision"
            )
        features[start : start + len(block)] = block
    return features[_order(source, images, file)]


def _order(source: FeatureSource, images: ImageSet, file: Path) -> NDArray[np.int64]:
    """Where in the file each image's features are."""
    positions = np.arange(len(images), dtype=np.int64)
    if np.array_equal(source.rows, positions) or len(images.rows) != len(images):
        return positions  # the file names no rows, or the images have none
    missing = np.setdiff1d(images.rows, source.rows)
    if len(missing):
        raise DataError(
            f"guide {file} has no features of row {missing[0]:,} of the training images ({len(missing):,} such rows): "
            "embed the same data with the same `per_class`, `drop` and `skip_corrupt`"
        )
    order = np.argsort(source.rows, kind="stable")
    found: NDArray[np.int64] = order[np.searchsorted(source.rows[order], images.rows)]
    return found
