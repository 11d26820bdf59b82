"""The spectral contrastive loss (arXiv 2106.04156) with treated pairs: Eqs. 31 and 40 of arXiv 2501.01317."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from typing_extensions import Unpack

from pairsift.losses.engine import Comparison, Rows, row_losses
from pairsift.losses.treated import Options, PairedLoss, check_views, power_of_two, wide
from pairsift.pairs import Selector
from pairsift.treatments import Treatment

_MU = (1e-6, 1e6)


class SpectralLoss(PairedLoss):
    """`(1 / mu) (-2 mean_i <z_i, z'_i> + mean_{i != j} <z_i, z'_j>^2)`, rows scaled to length sqrt(mu) where longer.

    First views are anchors; second views are their positives and negatives. Pairs are ranked per first view among all
    second views. For a difficult pair the margin is added inside the square (Eq. 31), and the temperature divides the
    product, also of a selected positive (Eq. 40). Neutral removal sets the product to 0. Removal "exclude" takes the
    pair out of the mean and never takes a positive.

    The loss of a finite population takes all vertices as both views, and the probabilities of positive pairs and of
    vertices as `positives` and `weights`. It equals `theory.population.margin_loss` and `temperature_loss` as long as
    mu is large enough to scale no row.

    Args:
        mu: squared length of the longest row, > 0; arXiv 2106.04156 takes 1 for CIFAR and 10 for ImageNet. Tune mu for
            a fair baseline.
        selector, treatment, **options: see `TreatedLoss`. The margin is in units of mu, so that it means the same at
            every mu. A population is not gathered, and compared as a whole matrix.

    Raises:
        ValueError: a setting out of range, or a treatment without a selector.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> z0, z1, h0, h1 = torch.randn(4, 64, 16)
        >>> loss = ps.losses.SpectralLoss(10.0, ps.RankBand(0.15, 0.22), ps.Treatment(margin=0.03))
        >>> loss(z0, z1, h0, h1).shape, loss.select(h0, h1).shape
        (torch.Size([]), torch.Size([64, 64]))
    """

    _shown = ("mu",)

    def __init__(
        self, mu: float = 1.0, selector: Selector | None = None, treatment: Treatment | None = None,
        **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(selector, treatment, **options)
        if isinstance(mu, bool) or not isinstance(mu, (int, float, np.floating)):
            raise TypeError(f"mu must be a number, got {mu!r}")
        if not _MU[0] <= mu <= _MU[1]:  # otherwise squares of products leave the range of float32
            raise ValueError(f"mu must be finite, > 0 and in {_MU[0]:g} ... {_MU[1]:g}, got {mu}")
        self.mu = mu

    def forward(
        self, z0: Tensor, z1: Tensor, h0: Tensor | None = None, h1: Tensor | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, pairs: Tensor | None = None, treated: bool = True,
        selector: Selector | None = None, treatment: Treatment | None = None,
        positives: Tensor | None = None, weights: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Loss of a batch of N images in two views each, or of a population.

        Args:
            z0, z1: (N, d) projections of the first and the second views; for a population the same twice.
            h0, h1: (N, D) encoder features of the same views.
            rows, key_rows, pairs, treated, selector, treatment: see `TreatedLoss`.
            positives: (N, N) probabilities of positive pairs, summing to 1; None takes each row with its other view.
            weights: (N,) probabilities of rows, summing to 1: negatives are then all N x N pairs, weighted by the
                product. None weighs all pairs of different rows alike.

        Returns:
            Scalar; 0 for a single image without weights.

        Raises:
            ValueError: shapes that do not fit, or features that are not finite.
        """
        check_views(z0, z1, h0, h1)
        _check_population(positives, weights, len(z0))
        population = positives is not None or weights is not None
        with torch.autocast(z0.device.type, enabled=False):
            first, second = self._bounded(z0), self._bounded(z1)
            engine = replace(self.engine, gather_distributed=False, tile="dense") if population else self.engine
            plan = self._plan(selector, treatment, treated)
            ids = plan.ids_of_views(rows, key_rows, z0, z1)
            comparison = self._compare(
                Rows(first, h0, ids[0]), Rows(second, h1, ids[1]), plan, pairs=pairs, engine=engine
            ).with_positives(torch.arange(len(z0), device=z0.device), treated=False, record=not population)
            processes = comparison.processes
            if processes.total("z") == 1 and weights is None:  # no negatives, so nothing to learn
                return (first * 0).sum()
            if population:
                return self._population(first, comparison, positives, weights)
            attraction, repulsion, count = self._sums(first, second, comparison)
            # All pairs may be excluded: at least 1.
            repulsion = repulsion * (processes.size / processes.sum(count).clamp_min(1).to(repulsion.dtype))
            return processes.mean((repulsion - 2 * attraction * processes.weight("z")) / self.mu)

    def _sums(self, first: Tensor, second: Tensor, comparison: Comparison) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of the attracting products, sum of the repelling squares, and number of repelling pairs."""
        edit, where = comparison.edit(1 / self.mu), comparison.positives
        assert where is not None

        def repulsion(products: Tensor, part: slice) -> Tensor:
            mask = comparison.mask(part, edit, products.dtype)
            if edit is not None and mask is not None:
                products = edit.apply_to_products(products, mask)
            return products.scatter(1, where[part, None], 0).square().sum(dim=1)

        repelled = row_losses(first, comparison.keys, repulsion, comparison.tile)
        attracted = torch.linalg.vecdot(first, second)
        count = torch.tensor(len(first) * (len(comparison.keys) - 1), device=first.device)
        if edit is not None and comparison.recorded is not None:
            attracted = attracted * (1 + comparison.recorded.at_positives * (edit.factor - 1))
            if edit.excludes:
                count -= comparison.recorded.others.sum()
        return attracted.sum(), repelled, count

    def _population(
        self, first: Tensor, comparison: Comparison, positives: Tensor | None, weights: Tensor | None
    ) -> Tensor:
        attracted = repelled = first @ comparison.keys.T
        share = torch.ones_like(repelled) if weights is None else weights[:, None] * weights
        if weights is None:
            share.fill_diagonal_(0)
        edit = comparison.edit(1 / self.mu)
        if edit is not None and comparison.masks is not None:
            mask = comparison.masks.tile(0, len(first)).to(first.dtype)
            if edit.excludes:
                share = share * (1 - mask)
            else:
                attracted, repelled = replace(edit, offset=0.0).apply(attracted, mask), edit.apply(repelled, mask)
        attraction = attracted.diagonal().mean() if positives is None else (positives * attracted).sum()
        repulsion = (share * repelled**2).sum() / share.sum().clamp_min(torch.finfo(share.dtype).tiny)
        return (repulsion - 2 * attraction) / self.mu

    def _bounded(self, z: Tensor) -> Tensor:
        z = wide(z)
        scale = power_of_two(z)
        lengths = (z * scale).norm(dim=1, keepdim=True).clamp_min(1e-12)
        bounded: Tensor = z * (math.sqrt(self.mu) * scale / lengths).clamp_max(1)
        return bounded

    def _fitting(self, selector: Selector | None, treatment: Treatment | None) -> Treatment | None:
        fitting = super()._fitting(selector, treatment)
        if fitting is not None and fitting.same_class_weight:
            raise ValueError(
                f"same_class_weight={fitting.same_class_weight} weighs the terms of a softmax, which this loss lacks: "
                "leave it 0"
            )
        return fitting


def _check_population(positives: Tensor | None, weights: Tensor | None, n: int) -> None:
    for name, given, shape in (("positives", positives, (n, n)), ("weights", weights, (n,))):
        if given is None:
            continue
        if given.shape != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(given.shape)}")
        if not torch.isclose(given.sum(), given.new_ones(()), atol=1e-5):
            raise ValueError(f"{name} are probabilities and must sum to 1, got {float(given.sum()):.6g}")
