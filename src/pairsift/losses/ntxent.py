"""NT-Xent, InfoNCE over two views of every image, with treated pairs (Eqs. 13 to 16 of arXiv 2501.01317)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from typing_extensions import Unpack

from pairsift.losses.engine import Comparison, Rows, info_nce
from pairsift.losses.treated import Options, PairedLoss, Plan, TemperedLoss, check_views, unit
from pairsift.pairs import Selector
from pairsift.treatments import Treatment

Reduction = Literal["mean", "none"]


class TwoViewLoss(TemperedLoss, PairedLoss):
    """Base class of losses that compare all 2N views of a batch of N images among themselves."""

    def _sides(
        self, plan: Plan, h0: Tensor, h1: Tensor, rows: Tensor | None, key_rows: Tensor | None
    ) -> tuple[Rows, None]:
        h = torch.cat([h0, h1])
        return Rows(h, h, _view_ids(plan, rows, key_rows, h0, h1)), None

    @staticmethod
    def _views(
        plan: Plan, z0: Tensor, z1: Tensor, h0: Tensor | None, h1: Tensor | None,
        rows: Tensor | None, key_rows: Tensor | None,
    ) -> Rows:  # fmt: skip
        """Unit projections, features and ids of all views, first views first."""
        h = None if h0 is None or h1 is None else torch.cat([h0, h1])
        return Rows(unit(torch.cat([z0, z1])), h, _view_ids(plan, rows, key_rows, z0, z1))

    @staticmethod
    def _paired(comparison: Comparison, views: Tensor, record: bool = False) -> Comparison:
        """The comparison where each view's positive is the other view of its image."""
        n = len(views)
        return comparison.with_positives(torch.arange(n, device=views.device).roll(n // 2), record=record)


class NTXentLoss(TwoViewLoss):
    """NT-Xent (SimCLR, arXiv 2002.05709) with treated pairs (Algorithm 1 of arXiv 2501.01317).

    Every view is an anchor: its positive is the other view of the same image, and the denominator runs over all other
    views. Without `selector` or `treatment` it is plain NT-Xent.

    Args:
        temperature: tau, > 0.
        selector, treatment, **options: see `TreatedLoss`.
        reduction: "mean" over all anchors, or "none" for the (2N,) loss of each anchor, first views first.
        learnable: learn the temperature; see `TemperedLoss`.

    Raises:
        TypeError: an unknown option.
        ValueError: a setting out of range, or a treatment without a selector.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> z0, z1, h0, h1 = torch.randn(4, 64, 16)
        >>> loss = ps.losses.NTXentLoss(0.5, ps.RankBand(0.15, 0.22), ps.Treatment(margin=0.03, temperature_scale=0.6))
        >>> loss(z0, z1, h0, h1).shape, loss.select(h0, h1).shape
        (torch.Size([]), torch.Size([128, 128]))
    """

    def __init__(
        self, temperature: float = 0.5, selector: Selector | None = None, treatment: Treatment | None = None,
        reduction: Reduction = "mean", learnable: bool = False, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(selector, treatment, temperature, learnable, **options)
        if reduction not in get_args(Reduction):
            raise ValueError(f"reduction must be 'mean' or 'none', got {reduction!r}")
        self.reduction = reduction

    def forward(
        self, z0: Tensor, z1: Tensor, h0: Tensor | None = None, h1: Tensor | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, pairs: Tensor | None = None, treated: bool = True,
        selector: Selector | None = None, treatment: Treatment | None = None,
    ) -> Tensor:  # fmt: skip
        """Loss of a batch of N images in two views each.

        Args:
            z0, z1: (N, d) projections of the first and the second views.
            h0, h1: (N, D) encoder features of the same views.
            rows, key_rows, pairs, treated, selector, treatment: see `TreatedLoss`.

        Returns:
            Scalar, or (2N,) with reduction "none": the losses of this process's views.

        Raises:
            ValueError: shapes that do not fit, or features that are not finite.
        """
        check_views(z0, z1, h0, h1)
        with torch.autocast(z0.device.type, enabled=False):
            plan = self._plan(selector, treatment, treated)
            views = self._views(plan, z0, z1, h0, h1, rows, key_rows)
            comparison = self._paired(self._compare(views, None, plan, pairs=pairs), views.z)
            if self.reduction == "none":
                return info_nce(views.z, self.temperature, comparison)
            weight = comparison.processes.weight("z")
            return comparison.processes.mean(info_nce(views.z, self.temperature, comparison, weight=weight))


def _view_ids(plan: Plan, rows: Tensor | None, key_rows: Tensor | None, first: Tensor, second: Tensor) -> Tensor | None:
    ids = [each for each in plan.ids_of_views(rows, key_rows, first, second) if each is not None]
    return torch.cat(ids) if len(ids) == 2 else None
