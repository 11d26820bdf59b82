"""The rank band of feature similarity: which pairs of a batch are difficult (Eq. 12 of arXiv 2501.01317).

A pair is difficult when it is similar without being of the same class. Labels are not needed: for every anchor the
other views are ranked by cosine similarity. The most similar ones are taken to be of the anchor's class, the least
similar ones to be easy, and the band of ranks between both is flagged.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pairsift._base.checks import check_tensors, take_renamed
from pairsift.pairs.selector import (
    PairMasks,
    Precision,
    Selector,
    check_precision,
    runs_kernels,
    transformed,
    unit_rows,
)

# Rows among which a product serves both of its pairs: what is kept for later rows is at most a quarter of their square.
_BLOCK_ROWS = 4096


@dataclass(frozen=True, init=False)
class RankBand(Selector):
    """The band of ranks whose pairs are taken as difficult (posHigh and posLow of Eq. 12).

    Both edges are fractions of an anchor's row sorted by *descending* similarity, `0 < start < stop <= 1`. Pairs ranked
    above `start` are taken to be of one class, pairs below `stop` to be easy.

    Attributes:
        start: upper edge (posHigh), about 1 / number of classes.
        stop: lower edge (posLow); 1.0 keeps everything below `start`.

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
        """The theory's band for a rough class count: `start = 1 / n_classes`, `stop = 1`.

        Args:
            n_classes: number of classes, at least 2.

        Raises:
            ValueError: fewer than two classes.
        """
        if n_classes < 2:
            raise ValueError(f"a band needs at least 2 classes, got n_classes={n_classes}")
        return cls(1 / n_classes, 1.0)

    def ranks(self, others: int) -> tuple[int, int]:
        """Ranks (1 = most similar) of the two band edges in a row of `others` similarities.

        The rank of a fraction is the nearest rank, `max(1, ceil(fraction * others))`. The band holds the ranks
        `edge_high + 1 ... edge_low`; in rows so short that both edges fall on one rank it is empty.
        """
        # 0.07 * 100 is 7.000000000000001 in floating point: a whole rank must not be rounded up for that.
        high, low = (max(1, math.ceil(fraction * others - 1e-9)) for fraction in (self.start, self.stop))
        return high, low

    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, precision: Precision = "fp32",
    ) -> BandMasks:  # fmt: skip
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
    views has its edges at the nearest ranks `ceil(start * M)` and `ceil(stop * M)`, and at least 1; where they
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


class BandMasks(PairMasks):
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
        self._own = 0 if keys is None else own
        self._edges = band.ranks(len(self._keys) - (self._own is not None))
        empty = self._edges[0] == self._edges[1]
        super().__init__(len(self._anchors), len(self._keys), self._keys.device, empty)
        self._multiplied = Products(self._anchors, None if self._keys is self._anchors else self._keys)
        self._buffers: list[Tensor] = []

    @torch.no_grad()
    def tile(self, start: int, stop: int) -> Tensor:
        """See `PairMasks`."""
        if runs_kernels(self._buffer(0, stop - start)):
            from pairsift.pairs.kernels import mask_band

            return mask_band(self._products(start, stop), *self._edges)
        similarities, high, low = self.similarities(start, stop)
        above = self._buffer(1, stop - start)
        torch.ge(similarities, high, out=above)
        return torch.ge(similarities, low, out=similarities).sub_(above)

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
            self._buffers.append(torch.empty(0, self.columns, dtype=torch.float32, device=self.device))
        if len(self._buffers[number]) < rows:
            self._buffers[number] = torch.empty(rows, self.columns, dtype=torch.float32, device=self.device)
        return self._buffers[number][:rows]


class Products:
    """`rows @ keys.T` by tiles.

    Where rows meet themselves on a CPU the matrix is symmetric, and a tile that is made for the rows before it holds
    part of the rows after it. Tiles that come in order, all of one size, use that; others are multiplied whole.

    Args:
        rows: (B, D).
        keys: (K, D); None for the rows themselves.
    """

    def __init__(self, rows: Tensor, keys: Tensor | None) -> None:
        self._rows, self._keys = rows, rows if keys is None else keys
        self._symmetric = keys is None and rows.device.type == "cpu" and rows.dtype == torch.float32
        self._tile = 0
        # By the first row of a tile to come: what earlier tiles of its block have made of it, by their own first row.
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


def band_edges(similarities: Tensor, edge_high: int, edge_low: int) -> tuple[Tensor, Tensor]:
    """Values at two descending ranks of every row.

    Args:
        similarities: (R, K) float32.
        edge_high, edge_low: ranks, 1 = most similar, the first the smaller.

    Returns:
        (R, 1) each.
    """
    by = _by_quickselect if similarities.device.type == "cpu" and not transformed() else _by_kthvalue
    return by(similarities, edge_high, edge_low)


def _by_kthvalue(similarities: Tensor, edge_high: int, edge_low: int) -> tuple[Tensor, Tensor]:
    """Radix selection on accelerators."""
    size = similarities.shape[1]
    high = similarities.kthvalue(size - edge_high + 1, dim=1, keepdim=True).values
    low = similarities.kthvalue(size - edge_low + 1, dim=1, keepdim=True).values
    return high, low


def _by_quickselect(similarities: Tensor, edge_high: int, edge_low: int) -> tuple[Tensor, Tensor]:
    """numpy's vectorised quickselect, 10 to 20 times faster than torch's `kthvalue` on CPUs.

    One selection splits the row at the lower edge; the upper edge is then sought only among what lies above it.
    """
    cut = similarities.shape[1] - edge_low
    top = np.partition(similarities.numpy(), cut, axis=1)[:, cut:]
    low = top[:, :1].copy()
    cut = edge_low - edge_high
    high = np.partition(top, cut, axis=1)[:, cut : cut + 1]
    return torch.from_numpy(high), torch.from_numpy(low)
