"""`ConfidentNegatives` selects the most similar pairs among those that are probably of different classes."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pairsift.pairs import PairMasks, Precision, Selector
from pairsift.pairs.selector import check_precision, most_similar, nearest_rank, need_rows, products, unit_rows
from pairsift.same_class.decision import estimate
from pairsift.same_class.estimator import Affinity, AffinityError
from pairsift.same_class.patches import patch_features
from pairsift.treatments import Decision, Treatment

# Lower bound of P(different class) in logarithms.
_LEAST = 1e-6


class ConfidentNegatives(Selector):
    """Selects the most similar keys of every row among those that are of different classes by an `Affinity`.

    The keys with `P(different class) >= probability` are candidates. The candidates with the largest cosine similarity
    of encoder features are flagged, up to `share` of all keys. They are hard negatives of which few are false.

    A loss passes ids: `loss(z0, z1, h0, h1, rows=rows)`.

    Attributes:
        affinity: may be set or replaced during training; while it is None nothing is selected.
        decision: the recommendation of `from_images` or `from_features`; None without them.

    Args:
        affinity: fitted to the training set.
        probability: least P(different class) of a candidate, in (0, 1).
        share: largest share of the keys that is flagged, in (0, 1]; rounded as in `RankBand`.

    Raises:
        TypeError: something else than an affinity.
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
        """The selector of ``pairsift train --treatment auto``, from images without labels or an encoder.

        The affinity is fitted to `patch_features`. A loss with this selector and without a treatment treats pairs by
        `decision`: not at all where the patches say too little about classes.

        Args:
            images: (N, 3, H, W) uint8, N >= 50, the whole training set; ids of images are their positions.
            seed: of the sample of patches.

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
        """`from_images` with another model's features of the whole set in place of patches.

        Args:
            features: (N, D), N >= 50; ids of rows are their positions.
            seed: of the fit.

        Raises:
            AffinityError: features from which no affinity can be fitted.
        """
        selector = cls(Affinity.fit(features, seed=seed))
        selector.decision = estimate(selector, features, seed=seed, guide=True).decide()
        return selector

    def fit_treatment(self, treatment: Treatment | None) -> Treatment | None:
        """The treatment, by default that of `decision`."""
        return self.decision.treatment if treatment is None and self.decision is not None else treatment

    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, precision: Precision = "fp32",
    ) -> ConfidentMasks:  # fmt: skip
        """The confident negatives of every row; see `Selector`.

        Args:
            h: (B, D) features.
            keys: (K, D) features of the keys; None compares the rows among themselves.
            own: see `Selector.masks`.
            rows: (B,) ids of the rows, needed once there is an affinity.
            key_rows: (K,) ids of the keys.
            precision: "bf16" multiplies unit features, not codes, in bfloat16.

        Raises:
            AffinityError: ids that the affinity does not know.
            TypeError, ValueError: missing ids; see also `select_pairs`.
        """
        check_precision(precision)
        own, shape = 0 if keys is None else own, (len(h), len(h if keys is None else keys))
        affinity = self.affinity
        if affinity is None:
            return ConfidentMasks(self, shape, own, h.device)
        codes, key_codes = None, None
        if rows is None and affinity.attached:
            h, codes = _detach(h, affinity, "features")
            keys, key_codes = (None, None) if keys is None else _detach(keys, affinity, "keys")
        else:
            rows, key_rows = need_rows(self, keys, rows, key_rows)
        with torch.no_grad(), torch.autocast(h.device.type, enabled=False):
            anchors = _side(h, affinity, rows, codes, "features", precision)
            others = anchors if keys is None else _side(keys, affinity, key_rows, key_codes, "keys", precision)
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
    """Masks and weights of pairs, created by `ConfidentNegatives.masks`."""

    def __init__(
        self, selector: ConfidentNegatives, shape: tuple[int, int], own: int | None, device: torch.device,
        anchors: _Side | None = None, keys: _Side | None = None,
    ) -> None:  # fmt: skip
        others = shape[1] - (own is not None)
        self._most = min(others, nearest_rank(selector.share, others))
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
        similar = products(self._anchors[start:stop], self._keys)
        similar.masked_fill_(self._same(start, stop) > 1 - self._probability, -torch.inf)
        if self._own is not None:
            similar.diagonal(self._own + start).fill_(-torch.inf)
        return most_similar(similar, self._most)

    @torch.no_grad()
    def log_weights(self, start: int, stop: int) -> Tensor | None:
        """(R, K) float32 log P(different class), at least log 1e-6; 0 on the row itself. None without an affinity."""
        if self._affinity is None:
            return None
        weights = (1 - self._same(start, stop)).clamp_min_(_LEAST).log_()
        if self._own is not None:
            weights.diagonal(self._own + start).zero_()
        return weights

    @torch.no_grad()
    def purity(self) -> float:
        """Mean P(different class) of the flagged pairs, an estimate of their purity; nan if there are none."""
        total, count = 0.0, 0
        for start, stop in self.parts():
            flagged = self.tile(start, stop)
            total += float(((1 - self._same(start, stop)) * flagged).sum(dtype=torch.float64))
            count += int(flagged.sum())
        return total / count if count else math.nan

    def _same(self, start: int, stop: int) -> Tensor:
        """P(same class) of some rows; the last result is kept, for `tile` and `log_weights`."""
        assert self._affinity is not None
        if self._held is None or self._held[:2] != (start, stop):
            self._held = (start, stop, self._affinity.between(self._codes[start:stop], self._key_codes))
        return self._held[2]


def _side(
    h: Tensor, affinity: Affinity, rows: Tensor | None, codes: Tensor | None, name: str, precision: Precision
) -> _Side:
    """Unit features, and codes by ids unless they are given."""
    if rows is not None and len(rows) != len(h):
        raise ValueError(f"{name} are {len(h)} rows, and there are {len(rows)} ids: give an id for each row")
    unit = unit_rows(h, name)
    if rows is not None:
        codes = affinity.codes_of(rows, "rows" if name == "features" else "key_rows").to(h.device)
    assert codes is not None
    return _Side(unit.bfloat16() if precision == "bf16" else unit, codes)


def _detach(h: Tensor, affinity: Affinity, name: str) -> tuple[Tensor, Tensor]:
    """Features and codes from the result of `Affinity.attach`."""
    if h.dim() != 2 or h.shape[1] <= affinity.width:
        raise AffinityError(
            f"{name} must be (rows, D + {affinity.width}), as affinity.attach makes them, got {tuple(h.shape)}: better "
            "pass rows= to the loss"
        )
    return h[:, : -affinity.width], h[:, -affinity.width :].detach().float()
