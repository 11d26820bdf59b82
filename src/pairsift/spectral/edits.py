"""The margin of Eq. 31 (arXiv 2501.01317) as an edit of the covariance of pairs, tile by tile."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from pairsift.pairs import PairMasks, Selector
from pairsift.spectral.moments import Array, Covariances, Float64

# Elements of a tile of the selected pairs: 32 MB in float32.
_TILE = 1 << 23


@dataclass(frozen=True)
class SelectedPairs:
    """How selected pairs vary together: the sums that a margin on them adds to the loss.

    Attributes:
        cross: (D, E) `A0' P B0 / (N M)` of centred rows; of one tower symmetric.
        square: mean of `p^2` over all N M pairs.
        share: mean of `p` over all N M pairs.
    """

    cross: Float64
    square: float
    share: float


def selected_pairs(
    selector: Selector, covariances: Covariances, sides: tuple[Array, Array], seen: tuple[Array, Array]
) -> SelectedPairs:
    """Sum over the pairs that a selector calls difficult.

    Args:
        selector: which pairs of a row of the first side and a row of the second are difficult. Of one tower, all rows
            of both sides are compared among themselves, and the selection is made symmetric.
        covariances: of the pairs, for the means.
        sides: (N, D) and (N, E) features.
        seen: (N, F) and (N, F) features of the same rows that the selector looks at.

    Raises:
        ValueError: the selector's, for another number of rows.
    """
    if covariances.one_tower:
        rows = np.concatenate(sides)
        return _summed(masks_of(selector, seen, one_tower=True), rows - covariances.first_mean, None)
    first, second = sides[0] - covariances.first_mean, sides[1] - covariances.second_mean
    return _summed(masks_of(selector, seen, one_tower=False), first, second)


def masks_of(selector: Selector, seen: tuple[Array, Array], *, one_tower: bool) -> PairMasks:
    """The selection among all rows of both sides, or of the first side with the second.

    Raises:
        ValueError: the selector's, for another number of rows.
    """
    first, second = (torch.from_numpy(np.ascontiguousarray(each, np.float32)) for each in seen)
    if one_tower:
        return selector.masks(torch.cat([first, second]))
    return selector.masks(first, second, 0)


def with_margin(covariances: Covariances, pairs: SelectedPairs, margin: float) -> Covariances:
    """The covariances whose plain solution minimises the loss with a margin on the selected pairs.

    `E_indep (f.g + sigma p)^2` adds `2 sigma E[p f.g]` to the loss, which is linear in `M` as the positive term is.
    """
    return replace(covariances, cross=covariances.cross - margin * pairs.cross)


def _summed(masks: PairMasks, first: Array, second: Array | None) -> SelectedPairs:
    keys = first if second is None else second
    cross, square, total = np.zeros((first.shape[1], keys.shape[1])), 0.0, 0.0
    rows = max(1, _TILE // masks.columns)
    for start in range(0, 0 if masks.empty else masks.rows, rows):
        stop = min(start + rows, masks.rows)
        tile = masks.tile(start, stop).cpu().numpy().astype(keys.dtype, copy=False)
        cross += first[start:stop].T @ (tile @ keys)
        square += float(np.square(tile, dtype=np.float64).sum())
        total += float(tile.sum(dtype=np.float64))
    count = masks.rows * masks.columns
    if second is None:
        cross = (cross + cross.T) / 2
        square = _symmetric_square(masks, square, rows)
    return SelectedPairs(cross / count, square / count, total / count)


def _symmetric_square(masks: PairMasks, square: float, rows: int) -> float:
    """Sum of squares of `(P + P') / 2`, for which the product of `P` with its transpose is needed, tile by tile."""
    mixed = 0.0
    for start in range(0, 0 if masks.empty else masks.rows, rows):
        stop = min(start + rows, masks.rows)
        tile = masks.tile(start, stop).cpu().numpy().copy()
        for other in range(0, masks.rows, rows):
            until = min(other + rows, masks.rows)
            across = masks.tile(other, until).cpu().numpy()[:, start:stop].T
            mixed += float((tile[:, other:until].astype(np.float64) * across).sum())
    return (square + mixed) / 2
