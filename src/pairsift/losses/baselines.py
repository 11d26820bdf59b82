"""Losses that correct for false or hard negatives in other ways, for comparison: called as `loss(z0, z1)`."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from pairsift.losses.engine import Engine, row_losses
from pairsift.losses.treated import check_temperature, check_views, unit

Aggregate = Literal["max", "mean"]


class _TwoViews(nn.Module, ABC):
    """Base class of losses of cosine similarities between all views, with the positive given separately."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)

    def forward(self, z0: Tensor, z1: Tensor) -> Tensor:
        """Loss of a batch of N images in two views each.

        Args:
            z0, z1: (N, d) projections of the first and the second views.

        Returns:
            Scalar, the mean over all 2N anchors; float32, or float64 for float64 projections. 0 for a single image.

        Raises:
            ValueError: shapes that do not fit.
        """
        with torch.autocast(z0.device.type, enabled=False):
            z, n = _views(z0, z1), len(z0)
            if n == 1:
                return (z * 0).sum()

            def losses(s: Tensor, part: slice) -> Tensor:
                places = torch.arange(part.start, part.stop, device=s.device)
                positive = s.gather(1, (places[:, None] + n) % (2 * n)).squeeze(1)
                return self._losses(positive, s[_negatives(places, n)].view(len(s), -1))

            return row_losses(z, z, losses, Engine().tile_rows(2 * n, z.device)) / (2 * n)

    @abstractmethod
    def _losses(self, positive: Tensor, negatives: Tensor) -> Tensor:
        """Losses (R,) of some views, from similarities (R,) to the positive and (R, 2N - 2) to the negatives."""


class HardNegativeLoss(_TwoViews):
    """HCL (arXiv 2010.04592): negatives weighted by hardness and corrected for those of the anchor's class.

    With M = 2N - 2 negatives, `l = s / temperature` and weights `w_k = exp(hardness l_k) / mean_j exp(hardness l_j)`,

        N_g = max((sum_k w_k exp(l_k) - M class_prior exp(l_+)) / (1 - class_prior), M exp(-1 / temperature))
        loss = -log(exp(l_+) / (exp(l_+) + N_g))

    Args:
        temperature: > 0.
        hardness: beta >= 0, concentration on hard negatives; 0 weighs all negatives alike.
        class_prior: tau^+, probability that a random negative is of the anchor's class, in [0, 1); 1 / classes.

    Raises:
        ValueError: a setting out of range.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> z0, z1 = torch.randn(2, 64, 16)
        >>> ps.losses.baselines.HardNegativeLoss(0.5, hardness=1.0, class_prior=0.1)(z0, z1).shape
        torch.Size([])
    """

    def __init__(self, temperature: float = 0.5, hardness: float = 1.0, class_prior: float = 0.1) -> None:
        super().__init__(temperature)
        if not (math.isfinite(hardness) and hardness >= 0):
            raise ValueError(f"hardness must be finite and >= 0, got {hardness}")
        if not 0 <= class_prior < 1:
            raise ValueError(f"class_prior must be in [0, 1), got {class_prior}")
        self.hardness, self.class_prior = hardness, class_prior

    def _losses(self, positive: Tensor, negatives: Tensor) -> Tensor:
        # Exponents are relative to the largest possible logit, so that none overflows.
        top = 1 / self.temperature
        positive, negatives = positive * top, negatives * top
        m = negatives.shape[1]
        weight = (self.hardness * negatives).softmax(dim=1) * m
        weighted = (weight * (negatives - top).exp()).sum(dim=1)
        anchor = (positive - top).exp()
        corrected = (weighted - m * self.class_prior * anchor) / (1 - self.class_prior)
        corrected = corrected.clamp_min(m * math.exp(-2 * top))
        return (anchor + corrected).log() + top - positive


class DebiasedLoss(HardNegativeLoss):
    """Debiased contrastive loss (arXiv 2007.00224): `HardNegativeLoss` with hardness 0."""

    def __init__(self, temperature: float = 0.5, class_prior: float = 0.1) -> None:
        super().__init__(temperature, 0.0, class_prior)


class DecoupledLoss(_TwoViews):
    """Decoupled contrastive loss (arXiv 2110.06848): the positive does not appear in the denominator.

    Args:
        temperature: > 0.
        sigma: > 0 weighs positives by `2 - exp(s / sigma) / mean exp(s / sigma)`, so that distant ones count more
            (DCLW; its paper takes 0.5); None weighs all alike.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(self, temperature: float = 0.1, sigma: float | None = None) -> None:
        super().__init__(temperature)
        if sigma is not None and not (math.isfinite(sigma) and sigma > 0):
            raise ValueError(f"sigma must be finite and > 0, got {sigma}")
        self.sigma = sigma

    def forward(self, z0: Tensor, z1: Tensor) -> Tensor:
        """Loss of (N, d) projections of two views; see `HardNegativeLoss`."""
        repulsion = super().forward(z0, z1)
        with torch.autocast(z0.device.type, enabled=False):
            if len(z0) == 1:
                return repulsion
            positive = torch.linalg.vecdot(unit(z0), unit(z1))
            attraction = positive / self.temperature
            if self.sigma is not None:  # relative to the mean over all images
                attraction = attraction * (2 - len(positive) * (positive / self.sigma).softmax(dim=0))
            loss: Tensor = repulsion - attraction.mean()
            return loss

    def _losses(self, positive: Tensor, negatives: Tensor) -> Tensor:
        return (negatives / self.temperature).logsumexp(dim=1)


class SimilarityTemperatureLoss(_TwoViews):
    """NT-Xent whose temperature depends on the similarity of each pair (arXiv 2308.01140).

    `tau(s) = coldest + (temperature - coldest) (1 + cos(pi (1 + s))) / 2` is lowest for orthogonal pairs, and
    `temperature` for equal and for opposite pairs. It carries no gradient.

    Args:
        temperature: the largest tau, > 0.
        coldest: the smallest tau, in (0, temperature].

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(self, temperature: float = 0.2, coldest: float = 0.1) -> None:
        super().__init__(temperature)
        if not 0 < coldest <= temperature:
            raise ValueError(f"coldest must be in (0, temperature={temperature}], got {coldest}")
        self.coldest = coldest

    def _losses(self, positive: Tensor, negatives: Tensor) -> Tensor:
        s = torch.cat([positive[:, None], negatives], dim=1)
        swing = (1 + torch.cos(math.pi * (1 + s.detach()))) / 2
        logits = s / (self.coldest + (self.temperature - self.coldest) * swing)
        return logits.logsumexp(dim=1) - logits[:, 0]


class FalseNegativeCancellationLoss(nn.Module):
    """NT-Xent without likely false negatives (arXiv 2011.11765, elimination).

    Each negative is scored by its similarity to support views of the anchor's image. Negatives leave the denominator
    that are among the `top_k` highest scores and reach the `threshold`.

    Args:
        temperature: > 0.
        top_k: largest number of negatives that an anchor loses, >= 1; None sets none.
        threshold: least score of a negative that is left out, in [-1, 1]; None sets none. One of both is needed.
        aggregate: "max" or "mean" of the similarities to the support views.

    Raises:
        ValueError: a setting out of range.
    """

    def __init__(
        self, temperature: float = 0.5, top_k: int | None = 10, threshold: float | None = None,
        aggregate: Aggregate = "max",
    ) -> None:  # fmt: skip
        super().__init__()
        self.temperature = check_temperature(temperature)
        if top_k is None and threshold is None:
            raise ValueError("set top_k or threshold: without either nothing is left out")
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        if threshold is not None and not -1 <= threshold <= 1:
            raise ValueError(f"threshold is a cosine similarity in [-1, 1], got {threshold}")
        if aggregate not in get_args(Aggregate):
            raise ValueError(f"aggregate must be 'max' or 'mean', got {aggregate!r}")
        self.top_k, self.threshold, self.aggregate = top_k, threshold, aggregate

    def forward(self, z0: Tensor, z1: Tensor, support: Sequence[Tensor] | None = None) -> Tensor:
        """Loss of a batch of N images in two views each.

        Args:
            z0, z1: (N, d) projections of the first and the second views.
            support: further views of the same images, each (N, d), without gradient; None takes z0 and z1.

        Returns:
            Scalar, the mean over all 2N anchors; float32, or float64 for float64 projections. 0 for a single image.

        Raises:
            ValueError: shapes that do not fit, or a `top_k` that leaves out all negatives.
        """
        with torch.autocast(z0.device.type, enabled=False):
            z, n = _views(z0, z1), len(z0)
            if n == 1:
                return (z * 0).sum()
            s, m = z @ z.T, 2 * n - 2
            positive, negatives = s.diagonal(n).repeat(2), s[_negatives(torch.arange(2 * n, device=z.device), n)]
            if self.top_k is not None and self.top_k >= m and self.threshold is None:
                raise ValueError(f"top_k={self.top_k} would leave out all {m} negatives: lower it or enlarge the batch")
            false = self._false_negatives(z0, z1, [z0, z1] if support is None else support)
            logits = (negatives.view(2 * n, m) / self.temperature).masked_fill(false, -torch.inf)
            positive = positive / self.temperature
            return (torch.cat([positive[:, None], logits], dim=1).logsumexp(dim=1) - positive).mean()

    @torch.no_grad()
    def _false_negatives(self, z0: Tensor, z1: Tensor, support: Sequence[Tensor]) -> Tensor:
        """(2N, 2N - 2) bool: the negatives that leave the denominator."""
        n = len(z0)
        if not support or any(view.shape != z0.shape for view in support):
            raise ValueError(
                f"support must be views of shape {tuple(z0.shape)}, got {[tuple(v.shape) for v in support]}"
            )
        z = unit(torch.cat([z0, z1]))
        each = torch.stack([unit(view.to(z.dtype)) @ z.T for view in support])
        scores = each.amax(dim=0) if self.aggregate == "max" else each.mean(dim=0)
        scores = scores.repeat(2, 1)[_negatives(torch.arange(2 * n, device=z.device), n)].view(2 * n, -1)
        false = torch.ones_like(scores, dtype=torch.bool)
        if self.threshold is not None:
            false &= scores >= self.threshold
        if self.top_k is not None and self.top_k < scores.shape[1]:
            false &= torch.zeros_like(false).scatter_(1, scores.topk(self.top_k, dim=1).indices, True)
        return false


def _views(z0: Tensor, z1: Tensor) -> Tensor:
    """Unit rows (2N, d) of both views."""
    check_views(z0, z1, None, None)
    return unit(torch.cat([z0, z1]))


def _negatives(places: Tensor, n: int) -> Tensor:
    """(R, 2n) bool: whether each view is of another image than the views at (R,) places."""
    return places[:, None] % n != torch.arange(2 * n, device=places.device) % n
