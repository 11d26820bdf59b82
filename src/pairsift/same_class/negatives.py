"""The selector of confident negatives: the most similar of the pairs that are hardly of one class."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pairsift.pairs import PairMasks, Precision, Selector
from pairsift.pairs.selector import check_precision, need_rows, transformed, unit_rows
from pairsift.same_class.decision import estimate
from pairsift.same_class.estimator import Affinity, AffinityError
from pairsift.same_class.patches import patch_features
from pairsift.treatments import Decision, Treatment

# Least P(different class) that a logarithm is taken of: weighs a pair as little as a million others.
_LEAST = 1e-6


class ConfidentNegatives(Selector):
    """Selects, of every row, the most similar of the pairs that an `Affinity` holds for different classes.

    Of a row's keys those with `P(different class) >= probability` are candidates, and of these the `share` of all keys
    that are most similar (cosine of the encoder features) are flagged, fewer where there are fewer candidates. So hard
    negatives are treated that are hardly false ones.

    A loss has to say which examples a batch holds: `loss(z0, z1, h0, h1, rows=rows)`.

    Attributes:
        affinity: may be set later, or anew as training goes on; while it is None nothing is selected.
        decision: the treatment that `from_images` or `from_features` found right, and the reason; None without them.

    Args:
        affinity: fitted to the training set.
        probability: least P(different class) of a candidate, in (0, 1).
        share: largest share of the keys that is flagged, in (0, 1]; counted as in `RankBand`.

    Raises:
        TypeError: an affinity that is none.
        ValueError: a number out of range.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> _ = torch.manual_seed(0)
        >>> features = torch.eye(4).repeat_interleave(50, dim=0) + 0.2 * torch.randn(200, 4)
        >>> affinity = ps.Affinity.fit(features)
        >>> rows = torch.arange(0, 200, 4)
        >>> masks = ps.ConfidentNegatives(affinity).masks(features[rows], rows=rows)
        >>> masks.whole().shape, 0.8 <= masks.purity() <= 1
        (torch.Size([50, 50]), True)
    """

    def __init__(self, affinity: Affinity | None = None, probability: float = 0.8, share: float = 0.15) -> None:
        if affinity is not None and not isinstance(affinity, Affinity):
            raise TypeError(f"affinity must be an Affinity or None, got {affinity!r}")
        if isinstance(probability, bool) or not 0 < probability < 1:
            raise ValueError(f"probability must lie between 0 and 1, got {probability!r}")
        if isinstance(share, bool) or not 0 < share <= 1:
            raise ValueError(f"share must lie in (0, 1], got {share!r}: it is a share of the keys")
        self.affinity, self.probability, self.share = affinity, probability, share
        self.decision: Decision | None = None

    @classmethod
    def from_images(cls, images: Any, *, seed: int = 0) -> ConfidentNegatives:
        """The selector of ``pairsift train --treatment auto``, made of a set of images without labels or an encoder.

        Small patches of the images tell which pairs are of one class (`patch_features`). A loss with this selector and
        no treatment of its own treats pairs as `decision` says: not at all where the patches tell too little.

        Args:
            images: (N, 3, H, W) uint8, N >= 50, the whole training set; losses name its images by their positions.
            seed: of the patches that are drawn.

        Raises:
            AffinityError: not such images, too few, or all alike.

        Example:
            >>> import pairsift as ps
            >>> digits = ps.data.load_images("digits:train", per_class=60)
            >>> selector = ps.ConfidentNegatives.from_images(digits.images)
            >>> ps.losses.NTXentLoss(0.2, selector=selector).treatment
            Treatment(margin=0.03, temperature_scale=0.6, removal=None, same_class_weight=1.0)
        """
        return cls.from_features(patch_features(images, seed=seed), seed=seed)

    @classmethod
    def from_features(cls, features: ArrayLike | Tensor, *, seed: int = 0) -> ConfidentNegatives:
        """The same, from features of the whole set that another model made; see `from_images`.

        Args:
            features: (N, D), N >= 50; losses name the rows by their positions.
            seed: of the fit.

        Raises:
            AffinityError: features from which no affinity can be fitted.
        """
        selector = cls(Affinity.fit(features, seed=seed))
        selector.decision = estimate(selector, features, seed=seed, guide=True).decide()
        return selector

    def fit_treatment(self, treatment: Treatment | None) -> Treatment | None:
        """The treatment that was asked for; without one, that of `decision`."""
        return self.decision.treatment if treatment is None and self.decision is not None else treatment

    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, precision: Precision = "fp32",
    ) -> ConfidentMasks:  # fmt: skip
        """The confident negatives of every row; see `Selector`.

        Args:
            h: (B, D) features.
            keys: (K, D) of what they are compared with; None compares the rows among themselves.
            own: the column of `keys` that is row 0 itself, the other rows following it; None where rows are not keys.
            rows: (B,) ids of the rows, see `Affinity`; needed once there is an affinity.
            key_rows: (K,) ids of the keys.
            precision: "bf16" multiplies unit features, not codes, in bfloat16.

        Raises:
            AffinityError: ids that are none of the affinity's.
            TypeError, ValueError: missing ids; see also `select_pairs`.
        """
        check_precision(precision)
        own = 0 if keys is None else own
        if self.affinity is None:
            return ConfidentMasks(self, (len(h), len(h if keys is None else keys)), own, h.device)
        with torch.no_grad(), torch.autocast(h.device.type, enabled=False):
            if rows is None and self.affinity.attached:
                anchors = _split(h, self.affinity, "features", precision)
                others = anchors if keys is None else _split(keys, self.affinity, "keys", precision)
            else:
                rows, key_rows = need_rows(self, keys, rows, key_rows)
                anchors = _side(h, self.affinity, rows, "features", precision)
                others = anchors if keys is None else _side(keys, self.affinity, key_rows, "keys", precision)
        shape = len(anchors.features), len(others.features)
        if anchors.features.shape[1] != others.features.shape[1]:
            raise ValueError(
                f"features have {anchors.features.shape[1]} dimensions and keys {others.features.shape[1]}: they must "
                "agree"
            )
        return ConfidentMasks(self, shape, own, h.device, anchors, others)

    def __repr__(self) -> str:
        return f"ConfidentNegatives({self.affinity!r}, probability={self.probability}, share={self.share})"


class _Side(NamedTuple):
    """Rows or keys: (R, D) unit features and (R, M) codes."""

    features: Tensor
    codes: Tensor


class ConfidentMasks(PairMasks):
    """`PairMasks` of confident negatives, and how much every pair weighs; made by `ConfidentNegatives.masks`."""

    def __init__(
        self, selector: ConfidentNegatives, shape: tuple[int, int], own: int | None, device: torch.device,
        anchors: _Side | None = None, keys: _Side | None = None,
    ) -> None:  # fmt: skip
        others = shape[1] - (own is not None)
        # As in a rank band: 0.07 * 100 is 7.000000000000001 in floating point.
        self._most = min(others, max(1, math.ceil(selector.share * others - 1e-9)))
        super().__init__(*shape, device, empty=anchors is None or self._most == 0)
        self._affinity, self._probability, self._own = selector.affinity, selector.probability, own
        if anchors is not None and keys is not None:
            self._anchors, self._codes, self._keys, self._key_codes = *anchors, *keys
        self._held: tuple[int, int, Tensor] | None = None

    @torch.no_grad()
    def tile(self, start: int, stop: int) -> Tensor:
        """(R, K) float: 1 for the pairs flagged, 0 for others."""
        if self.empty:
            return torch.zeros(stop - start, self.columns, dtype=torch.float32, device=self.device)
        with torch.autocast(self.device.type, enabled=False):
            similar = (self._anchors[start:stop] @ self._keys.T).float()
        similar.masked_fill_(self._same(start, stop) > 1 - self._probability, -torch.inf)
        if self._own is not None:
            similar.diagonal(self._own + start).fill_(-torch.inf)
        # A row with too few candidates has its edge at -inf: all of them are flagged, and nothing else.
        return torch.ge(similar, _kth_largest(similar, self._most).clamp_min(-2)).to(torch.float32)

    @torch.no_grad()
    def log_weights(self, start: int, stop: int) -> Tensor | None:
        """(R, K) float32 log P(different class), at least log 1e-6, and 0 on the row itself; None without an affinity.

        Added to logits, it leaves likely same-class pairs out of the denominator softly.
        """
        if self._affinity is None:
            return None
        weights = (1 - self._same(start, stop)).clamp_min_(_LEAST).log_()
        if self._own is not None:
            weights.diagonal(self._own + start).zero_()
        return weights

    @torch.no_grad()
    def purity(self) -> float:
        """Mean P(different class) of the flagged pairs, which is their purity without labels; nan if there are none."""
        total, count = 0.0, 0
        for start, stop in self.parts():
            flagged = self.tile(start, stop)
            total += float(((1 - self._same(start, stop)) * flagged).sum(dtype=torch.float64))
            count += int(flagged.sum())
        return total / count if count else math.nan

    def _same(self, start: int, stop: int) -> Tensor:
        """P(same class) of some rows, held until others are asked for: tile and weights share one computation."""
        assert self._affinity is not None
        if self._held is None or self._held[:2] != (start, stop):
            self._held = (start, stop, self._affinity.between(self._codes[start:stop], self._key_codes))
        return self._held[2]


def _side(h: Tensor, affinity: Affinity, rows: Tensor, name: str, precision: Precision) -> _Side:
    """Unit features, and the codes of their ids."""
    if len(rows) != len(h):
        raise ValueError(f"{name} are {len(h)} rows, and there are {len(rows)} ids: give an id for each row")
    unit = unit_rows(h, name)
    codes = affinity.codes_of(rows, "rows" if name == "features" else "key_rows").to(h.device)
    return _Side(unit.bfloat16() if precision == "bf16" else unit, codes)


def _split(h: Tensor, affinity: Affinity, name: str, precision: Precision) -> _Side:
    """Unit features and codes of rows that `Affinity.attach` made."""
    if h.dim() != 2 or h.shape[1] <= affinity.width:
        raise AffinityError(
            f"{name} must be (rows, D + {affinity.width}), as affinity.attach makes them, got {tuple(h.shape)}: better "
            "pass rows= to the loss"
        )
    unit = unit_rows(h[:, : -affinity.width], name)
    codes = h[:, -affinity.width :].detach().float()
    return _Side(unit.bfloat16() if precision == "bf16" else unit, codes)


def _kth_largest(values: Tensor, k: int) -> Tensor:
    """(R, 1) k-th largest value of every row (R, K); numpy selects several times faster than torch on CPUs."""
    cut = values.shape[1] - k
    if values.device.type == "cpu" and not transformed():
        return torch.from_numpy(np.partition(values.numpy(), cut, axis=1)[:, cut : cut + 1].copy())
    return values.kthvalue(cut + 1, dim=1, keepdim=True).values
