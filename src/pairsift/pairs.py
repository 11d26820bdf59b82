"""Which pairs of a batch are difficult: rank bands of feature similarity (Eq. 12 of arXiv 2501.01317).

A pair is difficult when it is similar without being of the same class. Without labels, the band of *ranks* below the
most similar views (taken as class-mates) and above the least similar ones stands in for it: for every anchor the
other views are ranked by cosine similarity, and those between the fractions `high` and `low` are flagged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

# Rows of similarities held at once while selecting: keeps the working set in cache and never makes a (B, K) float.
_TILE_ROWS = 256


@dataclass(frozen=True)
class RankBand:
    """The band of ranks whose pairs are taken as difficult (posHigh and posLow of Eq. 12).

    Both are fractions of an anchor's row sorted by *descending* similarity, `0 < high < low <= 1`. Pairs ranked above
    `high` are taken as same class, pairs below `low` as easy.

    Attributes:
        high: posHigh, about 1 / number of classes.
        low: posLow; 1.0 keeps everything below `high`.

    Raises:
        TypeError: a bound is not a number.
        ValueError: the bounds are out of order or out of range.
    """

    high: float
    low: float

    def __post_init__(self) -> None:
        for name, value in (("high", self.high), ("low", self.low)):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"RankBand.{name} must be a number in (0, 1], got {value!r}")
        if not self.high < self.low:
            raise ValueError(
                f"posLow must exceed posHigh, got high={self.high}, low={self.low}; ranks count from the most similar"
            )
        if not (self.high > 0 and self.low <= 1):
            raise ValueError(f"rank fractions must satisfy 0 < high < low <= 1, got high={self.high}, low={self.low}")

    @classmethod
    def for_classes(cls, n_classes: int) -> RankBand:
        """The theory's band for a rough class count: `high = 1 / n_classes`, `low = 1`.

        Args:
            n_classes: number of classes, at least 2.

        Raises:
            ValueError: fewer than two classes.
        """
        if n_classes < 2:
            raise ValueError(f"a band needs at least 2 classes, got n_classes={n_classes}")
        return cls(high=1 / n_classes, low=1.0)

    def ranks(self, others: int) -> tuple[int, int]:
        """Ranks (1 = most similar) of the two band edges in a row of `others` similarities.

        The rank of a fraction is the nearest rank, `max(1, ceil(fraction * others))`. The band holds the ranks
        `edge_high + 1 ... edge_low`; in rows so short that both edges fall on one rank it is empty.
        """
        # 0.07 * 100 is 7.000000000000001 in floating point: a whole rank must not be rounded up for that.
        high, low = (max(1, math.ceil(fraction * others - 1e-9)) for fraction in (self.high, self.low))
        return high, low


def select_pairs(features: Tensor, band: RankBand, keys: Tensor | None = None) -> Tensor:
    """Flag the difficult pairs of every anchor (Eq. 12): `p_ij = 1` iff `Sim_low <= s_ij < Sim_high`.

    Each row is ranked on its own, so the result is not symmetric. The edges are similarity *values*: pairs tied with
    the lower edge are all in the band, pairs tied with the upper edge all out, whatever their order. A row of M other
    views has its edges at the nearest ranks `ceil(high * M)` and `ceil(low * M)`, and at least 1; where they
    coincide (tiny batches), or where all similarities are equal, no pair is flagged. All-zero rows have similarity 0.

    Cost: one (B, D) x (D, K) product in tiles and two selections per row, O(B K); rows are never sorted and no (B, K)
    float matrix is made.

    Args:
        features: (B, D), any float dtype; similarities are computed in float32, under autocast too. Pass encoder
            features h, not projections z (Table 7).
        band: rank fractions.
        keys: (K, D), features to rank instead of the batch itself (a queue, say); None ranks the other B - 1 rows.

    Returns:
        (B, B) bool with a False diagonal, or (B, K) bool with `keys`; on the device of `features`, without gradient.

    Raises:
        TypeError: features are not floating point.
        ValueError: wrong shapes, no rows, or non-finite features (the row is named).
    """
    with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
        return _select(features, band, keys)


def _select(features: Tensor, band: RankBand, keys: Tensor | None) -> Tensor:
    anchors = _unit_rows(features, "features")
    others = anchors if keys is None else _unit_rows(keys, "keys")
    if anchors.shape[1] != others.shape[1]:
        raise ValueError(f"features have {anchors.shape[1]} dimensions and keys {others.shape[1]}: they must agree")
    pairs = torch.zeros(len(anchors), len(others), dtype=torch.bool, device=anchors.device)
    for start, similarities, high, low in _tiles(anchors, others, band, itself=keys is None):
        torch.logical_and(similarities >= low, similarities < high, out=pairs[start : start + _TILE_ROWS])
    return pairs


def _tiles(
    anchors: Tensor, others: Tensor, band: RankBand, itself: bool
) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Similarities of a few anchors at a time, with both band edges of every row; none where the band is empty."""
    edge_high, edge_low = band.ranks(len(others) - itself)
    if edge_high == edge_low:
        return
    band_edges = _band_edges_cpu if anchors.device.type == "cpu" else _band_edges
    for start in range(0, len(anchors), _TILE_ROWS):
        similarities = anchors[start : start + _TILE_ROWS] @ others.T
        if itself:
            similarities.diagonal(start).fill_(-torch.inf)  # an anchor is not its own neighbour: last rank
        yield start, similarities, *band_edges(similarities, edge_high, edge_low)


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
    with torch.no_grad():
        anchors = _unit_rows(features, "features")
        for start, similarities, high, low in _tiles(anchors, anchors, band, itself=True):
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


@torch.no_grad()
def random_pairs(pairs: Tensor, generator: torch.Generator | None = None, *, diagonal: bool = False) -> Tensor:
    """Flag as many pairs per row as `pairs` does, but at random: the control for any claim about selection.

    Args:
        pairs: (B, K) bool, as from `select_pairs`.
        generator: source of randomness, on the device of `pairs`.
        diagonal: whether (i, i) may be drawn; False for a batch against itself, True against keys.

    Returns:
        (B, K) bool with the row sums of `pairs`.
    """
    counts = pairs.sum(dim=1, keepdim=True)
    most = int(counts.max()) if pairs.numel() else 0
    order = torch.rand(pairs.shape, generator=generator, device=pairs.device)
    if not diagonal:
        order.fill_diagonal_(-1)
    chosen = order.topk(most, dim=1).indices  # most <= K - 1 without the diagonal, so -1 is never drawn
    drawn = torch.arange(most, device=pairs.device) < counts
    return torch.zeros_like(pairs).scatter_(1, chosen, drawn)


@torch.no_grad()
def pair_shares(pairs: Tensor, labels: Tensor, key_labels: Tensor | None = None) -> tuple[float, float]:
    """How often pairs truly are of different classes: among the flagged (Fig. 4c), and among all.

    A selection knows something about classes only as far as the first exceeds the second.

    Args:
        pairs: (B, B) bool with a False diagonal; with `key_labels` (B, K), every entry a pair.
        labels: (B,) class numbers of the rows.
        key_labels: (K,) class numbers of the keys, where they are not the rows themselves.

    Returns:
        Share among flagged pairs (nan if none is flagged) and base rate over all pairs, in [0, 1].
    """
    different = labels[:, None] != (labels if key_labels is None else key_labels)
    flagged = int(pairs.sum())
    share = int((pairs & different).sum()) / flagged if flagged else math.nan
    total = pairs.numel() - (len(labels) if key_labels is None else 0)
    return share, int(different.sum()) / total if total else math.nan


def _unit_rows(features: Tensor, name: str) -> Tensor:
    """Rows scaled to unit length in float32, refusing what cosine similarity cannot rank."""
    if not features.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {features.dtype}")
    if features.dim() != 2 or 0 in features.shape:
        raise ValueError(f"{name} must be a non-empty (rows, dimensions) matrix, got shape {tuple(features.shape)}")
    if features.dtype in (torch.float16, torch.bfloat16):
        features = features.float()
    # Cosine is scale-free: dividing by the largest entry first keeps huge and tiny rows inside float32.
    peak = features.abs().amax(dim=1, keepdim=True)
    finite = peak.isfinite()
    if not bool(finite.all()):
        rows = (~finite).flatten().nonzero().flatten().tolist()
        raise ValueError(
            f"{name} row {rows[0]} is not finite ({len(rows)} of {len(features)} rows hold nan or inf); "
            "similarities cannot be ranked: look for a diverged encoder or an overflow in half precision"
        )
    scaled = features / peak.clamp_min(torch.finfo(features.dtype).tiny)
    return F.normalize(scaled.float(), dim=1)


def _band_edges(similarities: Tensor, edge_high: int, edge_low: int) -> tuple[Tensor, Tensor]:
    """Values at two descending ranks of every row, (R, 1) each: radix selection on accelerators."""
    size = similarities.shape[1]
    high = similarities.kthvalue(size - edge_high + 1, dim=1, keepdim=True).values
    low = similarities.kthvalue(size - edge_low + 1, dim=1, keepdim=True).values
    return high, low


def _band_edges_cpu(similarities: Tensor, edge_high: int, edge_low: int) -> tuple[Tensor, Tensor]:
    """`_band_edges` by numpy's vectorised quickselect, 10 to 20 times faster than torch's `kthvalue` on CPUs.

    One selection splits the row at the lower edge; the upper edge is then sought only among what lies above it.
    """
    cut = similarities.shape[1] - edge_low
    top = np.partition(similarities.numpy(), cut, axis=1)[:, cut:]
    low = top[:, :1].copy()
    cut = edge_low - edge_high
    high = np.partition(top, cut, axis=1)[:, cut : cut + 1]
    return torch.from_numpy(high), torch.from_numpy(low)
