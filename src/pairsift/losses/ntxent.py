"""InfoNCE over two views per image (NT-Xent) with treated difficult pairs: Eqs. 13 to 16 of arXiv 2501.01317."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from typing_extensions import Unpack

from pairsift.losses.engine import Rows, info_nce
from pairsift.losses.treated import Options, TemperedLoss, check_views, unit, view_ids
from pairsift.pairs import Selector
from pairsift.treatments import Treatment

Reduction = Literal["mean", "none"]


class NTXentLoss(TemperedLoss):
    """NT-Xent (SimCLR, arXiv 2002.05709) whose difficult pairs are found by rank and treated (Algorithm 1).

    Every view is an anchor: its positive is the other view of the same image, and the denominator runs over all other
    views. Without `selector` or `treatment` it is plain NT-Xent. Half precision inputs are computed in float32, also
    under autocast, so that small temperatures neither overflow nor lose digits; float64 stays float64.

    Args:
        temperature: tau, > 0.
        selector: which pairs are difficult, a `RankBand` or any other; None selects nothing.
        treatment: what happens to them; None treats nothing.
        learnable: learn the temperature from `temperature` on; it stays at 0.01 or above.
        reduction: "mean" over all anchors, or "none" for the (2N,) loss of each anchor, first views first.
        **options: see `losses.treated.Options`.

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
        self,
        temperature: float = 0.5,
        selector: Selector | None = None,
        treatment: Treatment | None = None,
        reduction: Reduction = "mean",
        learnable: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(selector, treatment, temperature, learnable, **options)
        if reduction not in get_args(Reduction):
            raise ValueError(f"reduction must be 'mean' or 'none', got {reduction!r}")
        self.reduction = reduction

    def select(
        self, h0: Tensor, h1: Tensor, *, rows: Tensor | None = None, key_rows: Tensor | None = None,
        selector: Selector | None = None,
    ) -> Tensor:  # fmt: skip
        """Flag the difficult pairs of a batch, as `forward` does.

        Args:
            h0, h1: (N, D) features of the first and the second views.
            rows, key_rows, selector: see `forward`.

        Returns:
            (2N, 2N) bool over the views, first views first; in a process group (2N, M) for the M views of all
            processes, those of one after those of the other.

        Raises:
            ValueError: the loss has no selector, or see `select_pairs`.
        """
        plan = self._select_plan(selector)
        h = torch.cat([h0, h1])
        return self._select(Rows(h, h, view_ids(plan, rows, key_rows, h)), None, plan)

    def forward(
        self, z0: Tensor, z1: Tensor, h0: Tensor | None = None, h1: Tensor | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, pairs: Tensor | None = None, treated: bool = True,
        selector: Selector | None = None, treatment: Treatment | None = None,
    ) -> Tensor:  # fmt: skip
        """Loss of a batch of N images in two views each.

        Args:
            z0, z1: (N, d) projections of the first and the second views.
            h0, h1: (N, D) encoder features of the same views, on which pairs are selected; without them the
                projections are used, with a warning. Pairs carry no gradient.
            rows: (N,) ids of the examples that the first views are of, for selectors that go by them.
            key_rows: (N,) ids of those that the second views are of; None takes `rows`.
            pairs: a selection already made, of the shape that `select` gives; overrides h0 and h1.
            treated: False treats nothing in this call, as before a warm-up has ended.
            selector, treatment: of this call; None takes those of the loss.

        Returns:
            Scalar, or (2N,) with reduction "none"; float32, or float64 for float64 projections. In a process group the
            mean is over all processes, and the losses one by one are those of this process's views.

        Raises:
            ValueError: shapes that do not fit, or non-finite features to select on.
        """
        check_views(z0, z1, h0, h1)
        with torch.autocast(z0.device.type, enabled=False):
            z = unit(torch.cat([z0, z1]))
            h = None if h0 is None or h1 is None else torch.cat([h0, h1])
            plan = self._plan(selector, treatment, treated)
            ids = view_ids(plan, rows, key_rows, z)
            comparison = self._compare(Rows(z, h, ids), None, plan, pairs=pairs)
            comparison = comparison.with_positives(torch.arange(len(z), device=z.device).roll(len(z0)))
            if self.reduction == "none":
                return info_nce(z, self.temperature, comparison)
            weight = comparison.processes.weight("z")
            return comparison.processes.mean(info_nce(z, self.temperature, comparison, weight=weight))
