"""Pairs that a guide holds for false negatives, a few rows at a time, and the difficult ones of the others."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from pairsift.pairs.edges import band_edges
from pairsift.pairs.guide_table import CODES
from pairsift.pairs.guide_tally import Tally
from pairsift.pairs.rows import Precision, check_precision, tile_rows, unit_rows

# log 0 that a gradient survives: `treatments.NOTHING`, which stands in a later layer.
_NOTHING = -1e30


class GuideSettings(NamedTuple):
    """What decides: width of guide features, margin, floor, cap, difficult share, and whether the guide is asked."""

    width: int
    margin: float
    floor: float
    cap: float
    difficult: float | None
    asked: bool


class GuideMasks:
    """`PairMasks` of a `GuideMask`.

    Args:
        settings: of the mask.
        tally: counts every pair once.
        h: (B, F + D + 5) features, guide features and codes, as `GuideMask.attach` makes them.
        keys: (K, F + D + 5) of what they are compared with; None compares the rows among themselves.
        own: the column of `keys` that is row 0 itself; None where rows are not among the keys.
        precision: "bf16" multiplies unit features in bfloat16.

    Raises:
        ValueError: features without codes, or of a guide of another width.
    """

    def __init__(
        self, settings: GuideSettings, tally: Tally, h: Tensor, keys: Tensor | None, own: int | None,
        precision: Precision,
    ) -> None:  # fmt: skip
        check_precision(precision)
        self._settings, self._tally = settings, tally
        self._own = 0 if keys is None else own
        self._anchors = _Side.split(h, settings, "features", precision)
        self._keys = self._anchors if keys is None else _Side.split(keys, settings, "keys", precision)
        self.rows, self.columns = len(h), len(self._keys.codes)
        self.empty = False
        self._counted = 0
        self._held: tuple[int, int, Tensor] | None = None
        # An example that stands once among the keys is its row's positive; one that stands twice is a duplicate too.
        examples = self._keys.codes[:, 3].contiguous()
        _, inverse, counts = torch.unique(examples, return_inverse=True, return_counts=True)
        self._single = torch.where((counts[inverse] == 1) & (examples >= 0), examples, -2.0)

    @torch.no_grad()
    def tile(self, start: int, stop: int) -> Tensor:
        """(stop - start, K) float: 1 for masked pairs, or, with a `difficult` share, for difficult ones of the rest."""
        false = self.false_negatives(start, stop)
        share = self._settings.difficult
        if share is None:
            return false.float()
        if not self._settings.asked:
            return torch.zeros(false.shape, device=false.device)
        similar = (self._anchors.features[start:stop] @ self._keys.features.T).float()
        similar.masked_fill_(false | self._own_pairs(start, stop), -torch.inf)
        # As in a rank band: 0.07 * 100 is 7.000000000000001 in floating point.
        edge = band_edges(similar, *[max(1, math.ceil(share * self.columns - 1e-9))] * 2)[0]
        return torch.ge(similar, edge.clamp_min(-2)).float()  # -inf is the edge of a row with too few of them

    @torch.no_grad()
    def log_weights(self, start: int, stop: int) -> Tensor:
        """(stop - start, K) float32: log 0 for masked pairs and log 1 for others; `Treatment(class_mates=1)` asks."""
        false = self.false_negatives(start, stop)
        return torch.zeros(false.shape, device=false.device).masked_fill_(false, _NOTHING)

    def whole(self) -> Tensor:
        """(B, K) bool: what `tile` flags."""
        pairs = torch.zeros(self.rows, self.columns, dtype=torch.bool, device=self._anchors.codes.device)
        step = tile_rows(max(self.columns, 1))
        for start in range(0, self.rows, step):
            stop = min(start + step, self.rows)
            pairs[start:stop] = self.tile(start, stop) > 0
        return pairs

    @torch.no_grad()
    def false_negatives(self, start: int, stop: int) -> Tensor:
        """(stop - start, K) bool: the masked pairs, held until others are asked for."""
        if self._held is None or self._held[:2] != (start, stop):
            self._held = (start, stop, self._masked(start, stop))
        return self._held[2]

    def _masked(self, start: int, stop: int) -> Tensor:
        anchors, keys = self._anchors.codes[start:stop], self._keys.codes
        own = self._own_pairs(start, stop)
        text = keys[:, 1]
        same = ((text == anchors[:, 2:3]) | (text == anchors[:, 1:2])) & ~own
        candidates = self.columns - own.sum(dim=1, keepdim=True)
        same &= same.sum(dim=1, keepdim=True) < candidates  # where nothing would be left, nothing goes
        masked, off = same, torch.zeros_like(candidates, dtype=torch.bool)
        if self._settings.asked:
            similarity = anchors[:, :1]
            least = (similarity - self._settings.margin * similarity.abs()).clamp_min(self._settings.floor)
            with torch.autocast(keys.device.type, enabled=False):
                guide = (self._anchors.guide[start:stop] @ self._keys.guide.T).float()
            # A row without a known pair has no similarity to go by (hard negatives as anchors, say).
            masked = ((guide > least) & (anchors[:, 3:4] >= 0) & ~own) | same
            off = masked.sum(dim=1, keepdim=True) > self._settings.cap * candidates
            masked = torch.where(off, same, masked)
        self._count(start, stop, candidates, masked, same, off, own)
        return masked

    def _own_pairs(self, start: int, stop: int) -> Tensor:
        """(R, K) bool: positives, and rows themselves."""
        own = self._single == self._anchors.codes[start:stop, 3:4]
        if self._own is not None:
            own.diagonal(self._own + start).fill_(True)
        return own

    def _count(self, start: int, stop: int, candidates: Tensor, masked: Tensor, same: Tensor, off: Tensor,
               own: Tensor) -> None:  # fmt: skip
        if start < self._counted:  # asked again, in a backward pass for example
            return
        self._counted = stop
        identical = same.sum()
        counts: list[int | Tensor] = [candidates.sum(), masked.sum() - identical, identical, stop - start, off.sum()]
        labels, key_labels = self._anchors.codes[start:stop, 4:5], self._keys.codes[:, 4]
        known = (labels >= 0) & (key_labels >= 0) & ~own
        alike = known & (labels == key_labels)
        self._tally.add([*counts, known.sum(), alike.sum(), (known & masked).sum(), (alike & masked).sum()])


class _Side(NamedTuple):
    """Rows or keys: features where difficult pairs are asked for, unit guide features, and codes."""

    features: Tensor
    guide: Tensor
    codes: Tensor

    @classmethod
    def split(cls, h: Tensor, settings: GuideSettings, name: str, precision: Precision) -> _Side:
        behind = settings.width + CODES
        if h.dim() != 2 or h.shape[1] <= behind:
            raise ValueError(
                f"{name} must be (rows, D + {behind}), with {settings.width} guide features and {CODES} codes behind "
                f"them, got {tuple(h.shape)}: pass GuideMask.attach(h, rows) for anchors and attach_keys for others"
            )
        h = h.detach()
        guide, codes = h[:, -behind:-CODES].float(), h[:, -CODES:].float()
        features = guide if settings.difficult is None else unit_rows(h[:, :-behind], name)
        if precision == "bf16":
            features, guide = features.bfloat16(), guide.bfloat16()
        return cls(features, guide, codes)
