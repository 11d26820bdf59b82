"""The selector of false negatives by the similarities of the model in training itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pairsift.pairs.selector import PairMasks, Precision, Selector, check_precision, need_rows, unit_rows
from pairsift.treatments import Treatment

# The id of a hard negative, which is nobody's positive.
_NOBODY = -1


class SelfMask(Selector):
    """Masks in-batch negatives that the model itself finds clearly more similar to the anchor than its positive.

    With h the current features, candidate c_j of anchor a_i with positive p_i is masked when
    `cos(a_i, c_j) > cos(a_i, p_i) + margin` (Qwen3 Embedding, arXiv 2506.05176, which takes 0.1). There is no guide:
    the mask costs no second model, and it changes as the model does. Early in training it can mask true negatives, and
    it never masks a false negative that lies closer than the margin. `GuideMask` and identity of texts find those.

    Masked pairs leave the denominator: `Treatment(removal="exclude")`, which a loss takes where it is given none. A
    loss has to know which examples a batch holds: `loss(z0, z1, h0, h1, rows=rows)`, with any ids that are different
    for different examples. `TreatedRankingLoss` numbers them itself.

    Args:
        margin: difference of cosines, in [-2, 2].

    Raises:
        ValueError: a margin out of range.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> anchors, keys = torch.eye(3), torch.eye(3)
        >>> keys[:2] = torch.tensor([[0.3, 0.95, 0.0], [0.0, 0.6, 0.8]])  # key 0 is closer to anchor 1 than its own
        >>> rows = torch.arange(3)
        >>> ps.SelfMask(0.1).masks(anchors, keys, rows=rows, key_rows=rows).whole()
        tensor([[False, False, False],
                [ True, False, False],
                [False, False, False]])
    """

    def __init__(self, margin: float = 0.1) -> None:
        if isinstance(margin, bool) or not math.isfinite(margin) or not -2 <= margin <= 2:
            raise ValueError(f"margin must lie in [-2, 2], got {margin!r}: it is a difference of cosines")
        self.margin = float(margin)

    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, precision: Precision = "fp32",
    ) -> PairMasks:  # fmt: skip
        """The masked pairs of every row; see `Selector`.

        Args:
            h: (B, D) features of anchors.
            keys: (K, D) features of candidates; None compares the rows among themselves.
            own: the column of `keys` that is row 0 itself; None where rows are not keys.
            rows: (B,) ids of the anchors' examples.
            key_rows: (K,) ids of the candidates' examples; a candidate with an anchor's id is its positive.
            precision: "bf16" multiplies features in bfloat16.

        Raises:
            ValueError: ids that are missing, or not one for each row.
        """
        check_precision(precision)
        rows, key_rows = need_rows(self, keys, rows, key_rows)
        anchors = unit_rows(h.detach(), "features")
        others = anchors if keys is None else unit_rows(keys.detach(), "keys")
        for name, ids, features in (("rows", rows, anchors), ("key_rows", key_rows, others)):
            if ids.shape != (len(features),):
                raise ValueError(
                    f"{name} must be ({len(features)},), an id for each feature row, got {tuple(ids.shape)}"
                )
        if precision == "bf16":
            anchors, others = anchors.bfloat16(), others.bfloat16()
        examples = rows.to(h.device), key_rows.to(h.device)
        return _SelfMasks(self.margin, anchors, others, examples, 0 if keys is None else own)

    def fit_treatment(self, treatment: Treatment | None) -> Treatment | None:
        """By default masked pairs leave the denominator; a treatment that pushes them apart harder is refused.

        Raises:
            ValueError: such a treatment.
        """
        if treatment is None:
            return Treatment(removal="exclude")
        if treatment.removal is None and (treatment.margin or treatment.temperature_scale < 1):
            raise ValueError(
                f"{treatment} pushes the false negatives that the mask finds apart harder: give no treatment, which "
                "leaves them out (removal='exclude')"
            )
        return treatment

    def identify(self, rows: Tensor, column: int) -> Tensor:
        """(N,) int64: the ids, and -1 for hard negatives, which are nobody's positive."""
        return rows if column < 2 else torch.full_like(rows, _NOBODY)

    def __repr__(self) -> str:
        return f"SelfMask(margin={self.margin:g})"


class _SelfMasks(PairMasks):
    """`PairMasks` of a `SelfMask`.

    Args:
        margin: difference of cosines.
        anchors, keys: (B, D) and (K, D) unit features.
        ids: (B,) and (K,) ids of their examples.
        own: the key that is row 0 itself, the other rows following it; None where rows are not among the keys.
    """

    def __init__(
        self, margin: float, anchors: Tensor, keys: Tensor, ids: tuple[Tensor, Tensor], own: int | None
    ) -> None:
        super().__init__(len(anchors), len(keys), anchors.device)
        self._margin, self._anchors, self._keys, self._ids, self._own = margin, anchors, keys, ids, own

    @torch.no_grad()
    def tile(self, start: int, stop: int) -> Tensor:
        """(stop - start, K) float32: 1 for masked pairs. A row without a positive among the keys masks nothing."""
        with torch.autocast(self.device.type, enabled=False):
            similar = (self._anchors[start:stop] @ self._keys.T).float()
        anchors = self._ids[0][start:stop, None]
        positive = (anchors == self._ids[1]) & (anchors != _NOBODY)
        if self._own is not None:
            positive.diagonal(self._own + start).fill_(False)
        least = similar.masked_fill(~positive, -torch.inf).amax(dim=1, keepdim=True) + self._margin
        masked = (similar > least) & least.isfinite() & ~positive
        if self._own is not None:
            masked.diagonal(self._own + start).fill_(False)
        return masked.to(torch.float32)
