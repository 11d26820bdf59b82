"""Which pairs of a batch are difficult: rank bands of feature similarity (Eq. 12 of arXiv 2501.01317).

A pair is difficult when it is similar without being of the same class. Without labels, the band of *ranks* below the
most similar views (taken as class-mates) and above the least similar ones stands in for it: for every anchor the
other views are ranked by cosine similarity, and those between the fractions `high` and `low` are flagged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pairsift._base.checks import check_tensors
from pairsift.pairs.band_kernel import mask_band
from pairsift.pairs.edges import band_edges
from pairsift.pairs.products import Products
from pairsift.pairs.rows import Precision, check_precision, tile_rows, unit_rows
from pairsift.pairs.triton_support import runs_kernels


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

    Example:
        >>> import pairsift as ps
        >>> ps.RankBand(high=0.15, low=0.22).ranks(1023)
        (154, 226)
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

    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *, precision: Precision = "fp32"
    ) -> BandMasks:
        """The pairs of every row that lie in the band; see `Selector` and `select_pairs`.

        Raises:
            TypeError, ValueError: see `select_pairs`.
        """
        return BandMasks(h, self, keys, own, precision)


def select_pairs(
    features: Tensor, band: RankBand, keys: Tensor | None = None, *, precision: Precision = "fp32"
) -> Tensor:
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
        precision: "bf16" multiplies unit features in bfloat16: faster, and pairs near an edge may change sides.

    Returns:
        (B, B) bool with a False diagonal, or (B, K) bool with `keys`; on the device of `features`, without gradient.

    Raises:
        TypeError: features are not floating point.
        ValueError: wrong shapes, no rows, or non-finite features (the row is named); an unknown precision.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> pairs = ps.select_pairs(torch.randn(50, 8), ps.RankBand(0.1, 0.3))
        >>> pairs.shape, int(pairs.sum(1).max())
        (torch.Size([50, 50]), 10)
    """
    return band.masks(features, keys, precision=precision).whole()


class BandMasks:
    """`PairMasks` of a rank band (Eq. 12), selected tile by tile; see `select_pairs`.

    Masks are floats because arithmetic with them is several times faster than selecting by booleans.

    Args:
        features: (B, D) features of the anchors.
        band: rank fractions.
        keys: (K, D) features to rank; None ranks the other B - 1 anchors.
        own: where among the keys the first anchor itself stands, the others following, to be left out; None where they
            are not among them.
        precision: see `select_pairs`.

    Raises:
        TypeError, ValueError: see `select_pairs`.
    """

    def __init__(
        self, features: Tensor, band: RankBand, keys: Tensor | None = None, own: int | None = None,
        precision: Precision = "fp32",
    ) -> None:  # fmt: skip
        check_precision(precision)
        check_tensors({"features": features}, keys=keys)
        with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
            self._anchors = unit_rows(features, "features")
            self._keys = self._anchors if keys is None else unit_rows(keys, "keys")
            if self._anchors.shape[1] != self._keys.shape[1]:
                raise ValueError(
                    f"features have {self._anchors.shape[1]} dimensions and keys {self._keys.shape[1]}: they must agree"
                )
            if precision == "bf16":
                itself = keys is None
                self._anchors = self._anchors.bfloat16()
                self._keys = self._anchors if itself else self._keys.bfloat16()
        self.rows, self.columns = len(self._anchors), len(self._keys)
        self._own = 0 if keys is None else own
        self._edges = band.ranks(self.columns - (self._own is not None))
        self.empty = self._edges[0] == self._edges[1]
        self._multiplied = Products(self._anchors, None if self._keys is self._anchors else self._keys)
        self._buffers: list[Tensor] = []

    @torch.no_grad()
    def tile(self, start: int, stop: int) -> Tensor:
        """See `PairMasks`."""
        if runs_kernels(self._buffer(0, stop - start)):
            return mask_band(self._products(start, stop), *self._edges)
        similarities, high, low = self.similarities(start, stop)
        above = self._buffer(1, stop - start)
        torch.ge(similarities, high, out=above)
        return torch.ge(similarities, low, out=similarities).sub_(above)

    def whole(self) -> Tensor:
        """See `PairMasks`."""
        pairs = torch.zeros(self.rows, self.columns, dtype=torch.bool, device=self._keys.device)
        rows = tile_rows(self.columns)
        for start in range(0, 0 if self.empty else self.rows, rows):
            stop = min(start + rows, self.rows)
            pairs[start:stop] = self.tile(start, stop)
        return pairs

    @torch.no_grad()
    def similarities(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """Similarities of some anchors (R, K), -inf with themselves, and both band edges (R, 1) of each."""
        similarities = self._products(start, stop)
        return similarities, *band_edges(similarities, *self._edges)

    def _products(self, start: int, stop: int) -> Tensor:
        """Similarities of some anchors, -inf with themselves: last in rank."""
        similarities = self._buffer(0, stop - start)
        self._multiplied.into(similarities, start, stop)
        if self._own is not None:
            similarities.diagonal(self._own + start).fill_(-torch.inf)
        return similarities

    def _buffer(self, number: int, rows: int) -> Tensor:
        while len(self._buffers) <= number:
            self._buffers.append(torch.empty(rows, self.columns, device=self._keys.device))
        if len(self._buffers[number]) < rows:
            self._buffers[number] = torch.empty(rows, self.columns, device=self._keys.device)
        return self._buffers[number][:rows]
