"""Sums over the cosines of many pairs: by rank band in tiles, or over groups of rows without any pair by itself."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pairsift.pairs import BandMasks, RankBand, tile_rows
from pairsift.theory.arrays import FloatArray


def band_parts(features: Tensor, band: RankBand) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Similarities above, in and below the band, a few anchors at a time; every pair comes once from each side.

    Args:
        features: (B, D), any float dtype.
        band: rank fractions.

    Yields:
        Three flat float32 tensors; nothing where the band is empty.

    Raises:
        TypeError, ValueError: see `select_pairs`.
    """
    masks = BandMasks(features, band)
    rows = tile_rows(masks.columns)
    for start in range(0, 0 if masks.empty else masks.rows, rows):
        similarities, high, low = masks.similarities(start, min(start + rows, masks.rows))
        similarities.diagonal(start).fill_(torch.nan)  # neither above, in nor below
        within = (similarities < high) & (similarities >= low)
        yield similarities[similarities >= high], similarities[within], similarities[similarities < low]


def band_sums(features: Tensor, band: RankBand) -> NDArray[np.float64]:
    """Count, sum and sum of squares of the similarities above, in and below the band, over all rows.

    Returns:
        (3, 3): rows above, in and below the band; see `band_parts`. Zeros where the band is empty.
    """
    sums = np.zeros((3, 3))
    for parts in band_parts(features, band):
        for row, part in zip(sums, parts, strict=True):
            wide = part.double()
            row += [len(wide), float(wide.sum()), float(wide @ wide)]
    return sums


class GroupSums:
    """Count, sum and Gram matrix of a group of unit rows: all that means and variances of its cosines need.

    Over the group the cosines sum to `||sum u||^2` and their squares to `||sum u u^T||_F^2`.
    """

    def __init__(self, dimensions: int) -> None:
        self.n, self.total, self.gram = 0, np.zeros(dimensions), np.zeros((dimensions, dimensions))

    def add(self, rows: FloatArray) -> None:
        """Take in unit rows, (R, D)."""
        self.n += len(rows)
        self.total += rows.sum(axis=0)
        self.gram += rows.T @ rows

    def merge(self, other: GroupSums) -> GroupSums:
        """Take in another group; returns itself."""
        self.n += other.n
        self.total += other.total
        self.gram += other.gram
        return self

    def pairs(self) -> FloatArray:
        """Number of unordered pairs, sum of their cosines and of the squares; a row with itself has cosine 1."""
        n = self.n
        return np.array([n * (n - 1), self.total @ self.total - n, (self.gram**2).sum() - n]) / 2
