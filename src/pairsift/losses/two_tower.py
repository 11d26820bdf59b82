"""InfoNCE between two modalities (CLIP, dense retrieval) with treated difficult pairs: Eqs. 13 to 16 of 2501.01317."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pairsift.losses.treated import Selection, TreatedLoss, check_alike, check_pairs
from pairsift.pairs import RankBand
from pairsift.treatments import Treatment

# CLIP's bound: a learned temperature does not fall below 1 / 100.
_COLDEST = 0.01


class TwoTowerLoss(TreatedLoss):
    """InfoNCE of rows of one tower against keys of the other, row i with key i (CLIP, arXiv 2103.00020).

    Pairs are ranked per row among all keys of the other tower, so both towers' features must be of one width. The
    positive is never flagged unless asked: a caption and its image belong together however they are ranked.

    Args:
        temperature: tau, > 0.
        learnable: learn the temperature, as CLIP does, from `temperature` on; it stays at 0.01 or above.
        band: which ranks are difficult; None selects nothing.
        treatment: what happens to them; None treats nothing. Removal "exclude" never takes the positive.
        symmetric: average the losses of both directions; False takes rows of the first tower as anchors only
            (queries against documents).
        flag_positive: let the band hold the positive too, as in the paper's formulas.
        select: "band", or "random" to flag the same number of pairs per row at random (the control experiment).
        seed: seed of the random selection.

    Raises:
        ValueError: a setting out of range, or a treatment without a band to apply it to.
    """

    def __init__(
        self,
        temperature: float = 0.07,
        learnable: bool = False,
        band: RankBand | None = None,
        treatment: Treatment | None = None,
        symmetric: bool = True,
        flag_positive: bool = False,
        select: Selection = "band",
        seed: int = 0,
    ) -> None:
        super().__init__(band, treatment, select, seed)
        coldest = _COLDEST if learnable else 0
        if not (math.isfinite(temperature) and temperature > 0 and temperature >= coldest):
            raise ValueError(f"temperature must be finite, > 0 and >= {coldest}, got {temperature}")
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature))) if learnable else None
        self._temperature = temperature
        self.symmetric = symmetric
        self.flag_positive = flag_positive

    @property
    def temperature(self) -> float | Tensor:
        """tau; a scalar tensor with its gradient where it is learned."""
        if self.log_temperature is None:
            return self._temperature
        # The parameter itself is held at the bound: a clamp in the graph would have no gradient to come back by.
        with torch.no_grad():
            self.log_temperature.clamp_(min=math.log(_COLDEST))
        return self.log_temperature.exp()

    def select(self, h0: Tensor, h1: Tensor) -> Tensor:
        """Flag the difficult pairs of rows with keys, as `forward` does.

        Args:
            h0: (N, D) features of the rows' tower.
            h1: (K, D) features of the keys' tower, K >= N.

        Returns:
            (N, K) bool.

        Raises:
            ValueError: the loss has no band, features of different widths, or see `select_pairs`.
        """
        pairs = self._select(h0, h1)
        if not self.flag_positive:
            pairs.fill_diagonal_(False)
        return pairs

    def forward(
        self, z0: Tensor, z1: Tensor, h0: Tensor | None = None, h1: Tensor | None = None, *, pairs: Tensor | None = None
    ) -> Tensor:
        """Loss of N rows against K keys.

        Args:
            z0: (N, d) projections of the first tower.
            z1: (K, d) projections of the second tower, K >= N; those beyond N (hard negatives, say) are no row's
                positive and no anchors.
            h0, h1: (N, D) and (K, D) features of the towers, on which pairs are selected; without them the projections
                are used, with a warning. Pairs carry no gradient.
            pairs: (N, K) bool, a selection already made for rows against keys; its transpose serves the other
                direction. Overrides h0 and h1.

        Returns:
            Scalar; float32, or float64 for float64 projections.

        Raises:
            ValueError: shapes that do not fit, or non-finite features to select on.
        """
        _check_towers(z0, z1, h0, h1)
        n, k = len(z0), len(z1)
        treatment = self._active
        with torch.autocast(z0.device.type, enabled=False):
            unit0, unit1 = (F.normalize(z if z.dtype == torch.float64 else z.float(), dim=1) for z in (z0, z1))
            forth = back = None
            if treatment is not None and pairs is not None:
                check_pairs(pairs, (n, k))
                forth, back = pairs, pairs[:, :n].T
            elif treatment is not None:
                f0, f1 = self._selection_features(z0, z1, h0, h1)
                forth = self.select(f0, f1)
                back = self.select(f1[:n], f0) if self.symmetric else None
            similarities = unit0 @ unit1.T
            loss = self._direction(similarities, forth, treatment)
            if self.symmetric:
                loss = (loss + self._direction(similarities[:, :n].T, back, treatment)) / 2
        return loss

    def _direction(self, similarities: Tensor, pairs: Tensor | None, treatment: Treatment | None) -> Tensor:
        temperature = self.temperature
        if treatment is None or pairs is None:
            logits = similarities / temperature
        else:
            if treatment.removal == "exclude":
                pairs = pairs.clone().fill_diagonal_(False)
            logits = treatment.logits(similarities, pairs, temperature)
        return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))

    def extra_repr(self) -> str:
        temperature = torch.as_tensor(self.temperature).item()
        return (
            f"temperature={temperature:.4g}, learnable={self.log_temperature is not None}, "
            f"band={self.band}, treatment={self.treatment}, symmetric={self.symmetric}, select={self.selection!r}"
        )


def _check_towers(z0: Tensor, z1: Tensor, h0: Tensor | None, h1: Tensor | None) -> None:
    fits = z0.dim() == z1.dim() == 2 and z0.shape[1] == z1.shape[1] and 0 < len(z0) <= len(z1)
    if not fits or 0 in z0.shape:
        raise ValueError(
            f"z0 and z1 must be non-empty (N, d) and (K, d) with K >= N, got {tuple(z0.shape)} and {tuple(z1.shape)}"
        )
    if (h0 is None) != (h1 is None):
        raise ValueError("pass the features of both towers (h0 and h1) or of neither")
    check_alike(z0, z1, h0, h1)
    if h0 is None or h1 is None:
        return
    if h0.dim() != 2 or h1.dim() != 2 or len(h0) != len(z0) or len(h1) != len(z1):
        raise ValueError(
            f"h0 and h1 must have a row for each of z0 and z1, ({len(z0)}, D) and ({len(z1)}, D), got "
            f"{tuple(h0.shape)} and {tuple(h1.shape)}"
        )
    if h0.shape[1] != h1.shape[1]:
        raise ValueError(
            f"the towers' features have {h0.shape[1]} and {h1.shape[1]} dimensions and cannot be compared: give "
            "features after the layers that bring both to one width, or leave them out to select on the projections"
        )
