"""Difficult pairs by rank: a band of an anchor's similarities, sorted (Eq. 12 of arXiv 2501.01317).

A difficult pair is similar but not of the same class. No labels are needed. The views of a batch are ranked by their
cosine similarity with an anchor. The most similar views are taken to be of the anchor's class and the least similar
ones to be easy. The band of ranks between them is selected.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pairsift._base.checks import check_tensors, take_renamed
from pairsift.pairs.selector import (
    PairMasks,
    Precision,
    Selector,
    check_precision,
    kth_largest,
    nearest_rank,
    runs_kernels,
    unit_rows,
)

# Rows of a symmetric product that share their results. What is kept for later rows is at most a quarter of the square
# of this number.
_BLOCK_ROWS = 4096


@dataclass(frozen=True, init=False)
class RankBand(Selector):
    """Selects the pairs in a band of ranks as difficult (posHigh and posLow of Eq. 12).

    Both edges are fractions of an anchor's row, sorted by *descending* similarity: `0 < start < stop <= 1`.

    Attributes:
        start: upper edge (posHigh), about 1 / number of classes; pairs above it are taken to be of one class.
        stop: lower edge (posLow); 1.0 selects all pairs below `start`.

    Raises:
        TypeError: an edge is missing or not a number.
        ValueError: the edges are out of order or out of range.

    Example:
        >>> import pairsift as ps
        >>> ps.RankBand(0.15, 0.22).ranks(1023)
        (154, 226)
    """

    start: float
    stop: float

    def __init__(self, start: float | None = None, stop: float | None = None, **old: float) -> None:
        edges = {"start": start, "stop": stop} | take_renamed("RankBand", old, {"high": "start", "low": "stop"})
        for name, value in edges.items():
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise TypeError(f"RankBand.{name} must be a number in (0, 1], got {value!r}")
            object.__setattr__(self, name, value)
        if not self.start < self.stop:
            raise ValueError(
                f"a band's stop (posLow) must exceed its start (posHigh), got start={self.start}, stop={self.stop}; "
                "ranks count from the most similar"
            )
        if not (self.start > 0 and self.stop <= 1):
            raise ValueError(
                f"rank fractions must satisfy 0 < start < stop <= 1, got start={self.start}, stop={self.stop}"
            )

    @classmethod
    def for_classes(cls, n_classes: int) -> RankBand:
        """The theory's band for a rough number of classes: `start = 1 / n_classes`, `stop = 1`.

        Raises:
            ValueError: fewer than two classes.
        """
        if n_classes < 2:
            raise ValueError(f"a band needs at least 2 classes, got n_classes={n_classes}")
        return cls(1 / n_classes, 1.0)

    def ranks(self, others: int) -> tuple[int, int]:
        """Ranks of both edges in a row of `others` similarities, 1 being the most similar.

        Each is the nearest rank, `max(1, ceil(fraction * others))`. The band holds the ranks after the first up to the
        second; in very short rows both are equal and the band is empty.
        """
        return nearest_rank(self.start, others), nearest_rank(self.stop, others)

    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, precision: Precision = "fp32",
    ) -> BandMasks:  # fmt: skip
        """The (B, K) pairs in the band; see `Selector`. Errors are those of `select_pairs`."""
        return BandMasks(h, self, keys, own, precision)


def select_pairs(
    features: Tensor, band: RankBand, keys: Tensor | None = None, *, precision: Precision = "fp32"
) -> Tensor:
    """Flag the difficult pairs of every anchor (Eq. 12): `p_ij = 1` iff `Sim_low <= s_ij < Sim_high`.

    Each row is ranked on its own, so the result is not symmetric. The edges are similarity *values*: pairs tied with
    the lower edge are all in the band, pairs tied with the upper edge are all out. Where both edges have one rank
    (see `RankBand.ranks`) or one value, no pair is flagged. All-zero rows have similarity 0.

    Cost: one (B, D) x (D, K) product in tiles and two selections per row, O(B K). Rows are not sorted, and no (B, K)
    float matrix is made.

    Args:
        features: (B, D) of any float dtype; similarities are computed in float32, under autocast too. Pass encoder
            features h, not projections z (Table 7).
        band: rank fractions.
        keys: (K, D) features that are ranked instead of the batch, such as a queue; None ranks the other B - 1 rows.
        precision: "bf16" multiplies unit features in bfloat16, which is faster; pairs near an edge may change sides.

    Returns:
        (B, B) bool with a False diagonal, or (B, K) bool with `keys`; on the device of `features`, without gradient.

    Raises:
        TypeError: features that are not floating point.
        ValueError: wrong shapes, no rows, non-finite features (the message names the row), or an unknown precision.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> pairs = ps.select_pairs(torch.randn(50, 8), ps.RankBand(0.1, 0.3))
        >>> pairs.shape, int(pairs.sum(1).max())
        (torch.Size([50, 50]), 10)
    """
    return band.masks(features, keys, precision=precision).whole()


class BandMasks(PairMasks):
    """Masks of a rank band, computed tile by tile; arguments and errors are those of `select_pairs`.

    Masks are floats because arithmetic with them is several times faster than selecting by booleans.

    Args:
        features, band, keys, precision: see `select_pairs`.
        own: see `Selector.masks`.
    """

    def __init__(
        self, features: Tensor, band: RankBand, keys: Tensor | None = None, own: int | None = None,
        precision: Precision = "fp32",
    ) -> None:  # fmt: skip
        check_precision(precision)
        check_tensors({"features": features}, keys=keys)
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
            anchors = unit_rows(features, "features").to(dtype)
            others = None if keys is None else unit_rows(keys, "keys").to(dtype)
            if others is not None and anchors.shape[1] != others.shape[1]:
                raise ValueError(
                    f"features have {anchors.shape[1]} dimensions and keys {others.shape[1]}: they must agree"
                )
        columns = len(anchors if others is None else others)
        self._own = 0 if keys is None else own
        self._edges = band.ranks(columns - (self._own is not None))
        super().__init__(len(anchors), columns, anchors.device, empty=self._edges[0] == self._edges[1])
        self._multiplied = Products(anchors, others)
        self._buffers: list[Tensor] = []

    @torch.no_grad()
    def tile(self, start: int, stop: int) -> Tensor:
        if runs_kernels(self._buffer(0, stop - start)):
            from pairsift.pairs.kernels import mask_band

            return mask_band(self._products(start, stop), *self._edges)
        similarities, high, low = self.similarities(start, stop)
        above = self._buffer(1, stop - start)
        torch.ge(similarities, high, out=above)
        return torch.ge(similarities, low, out=similarities).sub_(above)

    @torch.no_grad()
    def similarities(self, start: int, stop: int) -> tuple[Tensor, Tensor, Tensor]:
        """Similarities (R, K) of some anchors, -inf with themselves, and both band edges (R, 1) of each."""
        similarities = self._products(start, stop)
        low, high = kth_largest(similarities, self._edges[1], self._edges[0])
        return similarities, high, low

    def _products(self, start: int, stop: int) -> Tensor:
        similarities = self._buffer(0, stop - start)
        self._multiplied.into(similarities, start, stop)
        if self._own is not None:
            similarities.diagonal(self._own + start).fill_(-torch.inf)  # last in rank
        return similarities

    def _buffer(self, number: int, rows: int) -> Tensor:
        while len(self._buffers) <= number:
            self._buffers.append(torch.empty(0, self.columns, dtype=torch.float32, device=self.device))
        if len(self._buffers[number]) < rows:
            self._buffers[number] = torch.empty(rows, self.columns, dtype=torch.float32, device=self.device)
        return self._buffers[number][:rows]


class Products:
    """`rows @ keys.T` by tiles, where each product of two rows of one set is computed once.

    The product of rows with themselves is symmetric, so a tile holds part of later tiles. On a CPU, tiles of one
    size that are asked for in order reuse it; other tiles are multiplied whole.

    Args:
        rows: (B, D).
        keys: (K, D); None for the rows themselves.
    """

    def __init__(self, rows: Tensor, keys: Tensor | None) -> None:
        self._rows, self._keys = rows, rows if keys is None else keys
        self._symmetric = keys is None and rows.device.type == "cpu" and rows.dtype == torch.float32
        self._tile = 0
        # Results for later tiles of a block: first row of the later tile -> first row of the earlier tile -> products.
        self._made: dict[int, dict[int, Tensor]] = {}

    def into(self, out: Tensor, start: int, stop: int) -> None:
        """Write the products of the rows `start ... stop - 1` to `out` (R, K) float32."""
        if start == 0:
            self._tile, self._made = stop, {}
        if not self._symmetric or not self._tile:
            self._multiply(out, start, stop, 0, len(self._keys))
            return
        block = self._tile * max(1, _BLOCK_ROWS // self._tile)
        begin = start - start % block
        end = min(begin + block, len(self._keys))
        made = self._made.pop(start, {})
        if made.keys() != set(range(begin, start, self._tile)) or stop != min(start + self._tile, end):
            self._multiply(out, start, stop, 0, len(self._keys))  # out of order, or of another size
            return
        for column, x in made.items():
            out[:, column : column + self._tile] = x
        self._multiply(out, start, stop, 0, begin)
        self._multiply(out, start, stop, start, len(self._keys))
        for later in range(stop, end, self._tile):
            x = out[:, later : min(later + self._tile, end)].T
            self._made.setdefault(later, {})[start] = x.clone(memory_format=torch.contiguous_format)

    def _multiply(self, out: Tensor, start: int, stop: int, first: int, last: int) -> None:
        if first == last:
            return
        with torch.autocast(out.device.type, enabled=False):
            if self._keys.dtype == torch.float32:
                torch.mm(self._rows[start:stop], self._keys[first:last].T, out=out[:, first:last])
            else:
                out[:, first:last] = self._rows[start:stop] @ self._keys[first:last].T
