"""Which pairs of a batch are difficult: rank bands of feature similarity (Eq. 12 of arXiv 2501.01317).

A pair is difficult when it is similar without being of the same class. Without labels, the band of *ranks* below the
most similar views (taken as class-mates) and above the least similar ones stands in for it: for every anchor the
other views are ranked by cosine similarity, and those between the fractions `high` and `low` are flagged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pairsift.kernels import mask_band, runs_kernels

Precision = Literal["fp32", "bf16"]

# Fewer rows make the products slower, more rows nothing faster (measured on 1,024 to 16,384 keys).
_MOST_ROWS = 256
# Entries of a tile of similarities, of which a few are held at a time: 64 MB each.
_TILE_ENTRIES = 2**24


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


def tile_rows(keys: int) -> int:
    """Rows of a tile against so many keys: 64 to 256."""
    return min(_MOST_ROWS, max(64, _TILE_ENTRIES // keys))


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
    """
    return BandMasks(features, band, keys, precision=precision).whole()


class PairMasks(Protocol):
    """Difficult pairs of a few anchors at a time, as numbers to calculate with."""

    rows: int
    columns: int
    empty: bool

    def tile(self, start: int, stop: int) -> Tensor:
        """(stop - start, columns) float: 1 where a pair is difficult, else 0; may be overwritten by the caller."""
        ...

    def whole(self) -> Tensor:
        """(rows, columns) bool: the difficult pairs of all anchors."""
        ...


class GivenMasks:
    """`PairMasks` of a selection that was made before.

    Args:
        pairs: (B, K) bool.
    """

    def __init__(self, pairs: Tensor) -> None:
        self.rows, self.columns = pairs.shape
        self.empty = False
        self.pairs = pairs

    def tile(self, start: int, stop: int) -> Tensor:
        return self.pairs[start:stop].float()

    def whole(self) -> Tensor:
        return self.pairs


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
        if precision not in get_args(Precision):
            raise ValueError(f"precision must be 'fp32' or 'bf16', got {precision!r}")
        with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
            self._anchors = _unit_rows(features, "features")
            self._keys = self._anchors if keys is None else _unit_rows(keys, "keys")
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
        self._buffers: list[Tensor] = []

    @torch.no_grad()
    def tile(self, start: int, stop: int) -> Tensor:
        if runs_kernels(self._buffer(0, stop - start)):
            return mask_band(self._products(start, stop), *self._edges)
        similarities, high, low = self.similarities(start, stop)
        above = self._buffer(1, stop - start)
        torch.ge(similarities, high, out=above)
        return torch.ge(similarities, low, out=similarities).sub_(above)

    def whole(self) -> Tensor:
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
        band_edges = _band_edges_cpu if similarities.device.type == "cpu" else _band_edges
        return similarities, *band_edges(similarities, *self._edges)

    def _products(self, start: int, stop: int) -> Tensor:
        """Similarities of some anchors, -inf with themselves: last in rank."""
        similarities = self._buffer(0, stop - start)
        with torch.autocast(similarities.device.type, enabled=False):
            if self._keys.dtype == torch.float32:
                torch.mm(self._anchors[start:stop], self._keys.T, out=similarities)
            else:
                similarities.copy_(self._anchors[start:stop] @ self._keys.T)
        if self._own is not None:
            similarities.diagonal(self._own + start).fill_(-torch.inf)
        return similarities

    def _buffer(self, number: int, rows: int) -> Tensor:
        while len(self._buffers) <= number:
            self._buffers.append(torch.empty(rows, self.columns, device=self._keys.device))
        if len(self._buffers[number]) < rows:
            self._buffers[number] = torch.empty(rows, self.columns, device=self._keys.device)
        return self._buffers[number][:rows]


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


@torch.no_grad()
def random_pairs(pairs: Tensor, generator: torch.Generator | None = None, *, own: int | None = 0) -> Tensor:
    """Flag as many pairs per row as `pairs` does, but at random: the control for any claim about selection.

    Args:
        pairs: (B, K) bool, as from `select_pairs`.
        generator: source of randomness, on the device of `pairs`.
        own: column of the first row itself, the other rows following, never drawn; None where rows are not among the
            columns.

    Returns:
        (B, K) bool with the row sums of `pairs`.
    """
    counts = pairs.sum(dim=1, keepdim=True)
    most = int(counts.max()) if pairs.numel() else 0
    order = torch.rand(pairs.shape, generator=generator, device=pairs.device)
    if own is not None:
        order.diagonal(own).fill_(-1)
    chosen = order.topk(most, dim=1).indices  # most <= K - 1 where a row leaves itself out, so -1 is never drawn
    drawn = torch.arange(most, device=pairs.device) < counts
    return torch.zeros_like(pairs).scatter_(1, chosen, drawn)


@torch.no_grad()
def pair_shares(
    pairs: Tensor, labels: Tensor, key_labels: Tensor | None = None, candidates: int | None = None
) -> tuple[float, float]:
    """How often pairs truly are of different classes: among the flagged (Fig. 4c), and among all.

    A selection knows something about classes only as far as the first exceeds the second.

    Args:
        pairs: (B, B) bool with a False diagonal; with `key_labels` (B, K), every entry a pair.
        labels: (B,) class numbers of the rows.
        key_labels: (K,) class numbers of the keys, where they are not the rows themselves.
        candidates: how many pairs there are; None counts every entry, without the diagonal where there are no
            `key_labels`.

    Returns:
        Share among flagged pairs (nan if none is flagged) and base rate over all pairs, in [0, 1].
    """
    different = labels[:, None] != (labels if key_labels is None else key_labels)
    flagged = int(pairs.sum())
    share = int((pairs & different).sum()) / flagged if flagged else math.nan
    total = pairs.numel() - (len(labels) if key_labels is None else 0) if candidates is None else candidates
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
