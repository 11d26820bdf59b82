"""InfoNCE over two views per image (NT-Xent) with treated difficult pairs: Eqs. 13 to 16 of arXiv 2501.01317."""

from __future__ import annotations

import math
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from pairsift.losses.treated import Selection, TreatedLoss, check_pairs, check_views
from pairsift.pairs import RankBand
from pairsift.treatments import Treatment

Reduction = Literal["mean", "none"]


class NTXentLoss(TreatedLoss):
    """NT-Xent (SimCLR, arXiv 2002.05709) whose difficult pairs are found by rank and treated (Algorithm 1).

    Every view is an anchor: its positive is the other view of the same image, and the denominator runs over all other
    views. Without `band` or `treatment` it is plain NT-Xent. Half precision inputs are computed in float32, also under
    autocast, so that small temperatures neither overflow nor lose digits; float64 stays float64.

    Args:
        temperature: tau, > 0.
        band: which ranks are difficult; None selects nothing.
        treatment: what happens to them; None treats nothing.
        reduction: "mean" over all anchors, or "none" for the (2N,) loss of each anchor, first views first.
        select: "band", or "random" to flag the same number of pairs per row at random (the control experiment).
        seed: seed of the random selection.

    Raises:
        ValueError: a setting out of range, or a treatment without a band to apply it to.
    """

    def __init__(
        self,
        temperature: float = 0.5,
        band: RankBand | None = None,
        treatment: Treatment | None = None,
        reduction: Reduction = "mean",
        select: Selection = "band",
        seed: int = 0,
    ) -> None:
        super().__init__(band, treatment, select, seed)
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature must be finite and > 0, got {temperature}")
        if reduction not in get_args(Reduction):
            raise ValueError(f"reduction must be 'mean' or 'none', got {reduction!r}")
        self.temperature = temperature
        self.reduction = reduction

    def select(self, h0: Tensor, h1: Tensor) -> Tensor:
        """Flag the difficult pairs of a batch, as `forward` does.

        Args:
            h0, h1: (N, D) features of the first and the second views.

        Returns:
            (2N, 2N) bool over the views, first views first.

        Raises:
            ValueError: the loss has no band, or see `select_pairs`.
        """
        return self._select(torch.cat([h0, h1]))

    def forward(
        self, z0: Tensor, z1: Tensor, h0: Tensor | None = None, h1: Tensor | None = None, *, pairs: Tensor | None = None
    ) -> Tensor:
        """Loss of a batch of N images in two views each.

        Args:
            z0, z1: (N, d) projections of the first and the second views.
            h0, h1: (N, D) encoder features of the same views, on which pairs are selected; without them the
                projections are used, with a warning. Pairs carry no gradient.
            pairs: (2N, 2N) bool, a selection already made (`select`); overrides h0 and h1.

        Returns:
            Scalar, or (2N,) with reduction "none"; float32, or float64 for float64 projections.

        Raises:
            ValueError: shapes that do not fit, or non-finite features to select on.
        """
        check_views(z0, z1, h0, h1)
        treatment = self._active
        with torch.autocast(z0.device.type, enabled=False):
            if treatment is None:
                pairs = None
            elif pairs is None:
                pairs = self.select(*self._selection_features(z0, z1, h0, h1))
            else:
                check_pairs(pairs, (2 * len(z0), 2 * len(z0)))
            z = torch.cat([z0, z1])
            z = F.normalize(z if z.dtype == torch.float64 else z.float(), dim=1)
            losses: Tensor = _InfoNCE.apply(z, pairs, treatment, self.temperature)  # type: ignore[no-untyped-call]
        return losses.mean() if self.reduction == "mean" else losses

    def extra_repr(self) -> str:
        return (
            f"temperature={self.temperature}, band={self.band}, treatment={self.treatment}, select={self.selection!r}"
        )


class _InfoNCE(torch.autograd.Function):
    """Per-anchor InfoNCE of unit rows z (2N, d), first views first -> (2N,).

    Written out by hand because autograd keeps several (2N, 2N) matrices alive; this keeps one, the exponentials, and
    needs one more in the backward pass, at about half of autograd's time.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, pairs: Tensor | None, treatment: Treatment | None, temperature: float) -> Tensor:
        n = len(z) // 2
        logits = (z / temperature) @ z.T
        factor = 1.0
        if pairs is not None and treatment is not None:
            factor, offset = treatment.affine(temperature)
            if treatment.removal == "exclude":
                pairs = pairs.clone(memory_format=torch.contiguous_format)
                _positives(pairs, n).fill_(False)  # an anchor never loses its positive
            if treatment.removal is None:
                torch.where(pairs, logits * factor + offset, logits, out=logits)
            else:
                logits.masked_fill_(pairs, offset)
        logits.fill_diagonal_(-torch.inf)
        positive = _positives(logits, n).clone().flatten()
        peak = logits.amax(dim=1, keepdim=True)
        exponentials = logits.sub_(peak).exp_()
        total = exponentials.sum(dim=1, keepdim=True)
        ctx.save_for_backward(z, pairs, exponentials, total)
        ctx.factor, ctx.temperature = factor, temperature
        return (total.log() + peak).squeeze(1) - positive

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:
        z, pairs, exponentials, total = ctx.saved_tensors
        n = len(z) // 2
        upstream = upstream / ctx.temperature
        # d loss_i / d logit_ik = softmax_ik - [k is the positive of i]; d logit / d s = factor / temperature on pairs.
        gradient = exponentials * (upstream[:, None] / total)
        _positives(gradient, n).sub_(upstream.view(2, n))
        if pairs is not None:
            torch.where(pairs, gradient * ctx.factor, gradient, out=gradient)
        with torch.autocast(z.device.type, enabled=False):
            return torch.addmm(gradient @ z, gradient.T, z), None, None, None


def _positives(matrix: Tensor, n: int) -> Tensor:
    """View (2, n) of the entries (i, positive of i) of a (2n, 2n) contiguous matrix: (i, n + i), then (n + i, i)."""
    return matrix.as_strided((2, n), (2 * n * n - n, 2 * n + 1), matrix.storage_offset() + n)
