"""InfoNCE between two modalities (CLIP, dense retrieval) with treated pairs: Eqs. 13 to 16 of arXiv 2501.01317."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from pairsift.losses.engine import Comparison, Processes, Rows, info_nce
from pairsift.losses.treated import Options, PairedLoss, Plan, TemperedLoss, check_ids, check_views, unit
from pairsift.pairs import Selector
from pairsift.treatments import Treatment


class TwoTowerLoss(TemperedLoss, PairedLoss):
    """InfoNCE of rows of one tower against keys of the other, row i with key i (CLIP, arXiv 2103.00020).

    Pairs are ranked per row among all keys of the other tower, so both towers need features of one width. Removal
    "exclude" never takes the positive.

    Args:
        temperature: tau, > 0.
        learnable: learn the temperature, as CLIP does; see `TemperedLoss`.
        selector, treatment, **options: see `TreatedLoss`.
        symmetric: average the losses of both directions; False takes only rows of the first tower as anchors, such as
            queries against documents.
        flag_positive: whether the positive may be selected and treated like any pair, as in the paper's formulas.

    Raises:
        ValueError: a setting out of range, or a treatment without a selector.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> queries, documents, h0, h1 = torch.randn(4, 64, 16)
        >>> loss = ps.losses.TwoTowerLoss(selector=ps.RankBand(0.15, 0.22), treatment=ps.Treatment(margin=0.03))
        >>> loss(queries, documents, h0, h1).shape
        torch.Size([])
    """

    _shown = ("symmetric",)

    def __init__(
        self, temperature: float = 0.07, learnable: bool = False, selector: Selector | None = None,
        treatment: Treatment | None = None, symmetric: bool = True, flag_positive: bool = False,
        **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(selector, treatment, temperature, learnable, **options)
        self.symmetric, self.flag_positive = symmetric, flag_positive

    def forward(
        self, z0: Tensor, z1: Tensor, h0: Tensor | None = None, h1: Tensor | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, pairs: Tensor | None = None, treated: bool = True,
        selector: Selector | None = None, treatment: Treatment | None = None,
    ) -> Tensor:  # fmt: skip
        """Loss of N rows against K keys.

        Args:
            z0: (N, d) projections of the first tower.
            z1: (K, d) projections of the second tower, K >= N. Keys beyond N, such as hard negatives, are neither
                positives nor anchors.
            h0, h1: (N, D) and (K, D) features of the towers.
            key_rows: (K,) ids of the keys' examples; None takes `rows` for the positives and for every further column
                of N hard negatives.
            pairs: (N, K) bool, a selection made before; its transpose serves the other direction.
            rows, treated, selector, treatment: see `TreatedLoss`.

        Returns:
            Scalar.

        Raises:
            ValueError: shapes that do not fit, or features that are not finite.
        """
        check_views(z0, z1, h0, h1, more_keys=True)
        n = len(z0)
        with torch.autocast(z0.device.type, enabled=False):
            plan = self._plan(selector, treatment, treated)
            ids, key_ids = _tower_ids(plan, rows, key_rows, z0, z1)
            first, second = Rows(unit(z0), h0, ids), Rows(unit(z1), h1, key_ids)
            forth = self._compare(first, second, plan, pairs=pairs)
            loss = self._sum(first.z, forth, pairs is not None)
            if self.symmetric:
                turned = None if pairs is None else self._turned(pairs, forth)
                anchors = Rows(*(None if each is None else each[:n] for each in second))  # type: ignore[arg-type]
                back = self._compare(anchors, first, plan, pairs=turned)
                loss = loss + self._sum(anchors.z, back, pairs is not None)
            return forth.processes.mean(loss * (forth.processes.weight("z") / (1 + self.symmetric)))

    def _sides(
        self, plan: Plan, h0: Tensor, h1: Tensor, rows: Tensor | None, key_rows: Tensor | None
    ) -> tuple[Rows, Rows]:
        ids, key_ids = _tower_ids(plan, rows, key_rows, h0, h1)
        return Rows(h0, h0, ids), Rows(h1, h1, key_ids)

    def _select(self, rows: Rows, keys: Rows | None, plan: Plan, *, gathered: bool = True) -> Tensor:
        pairs = super()._select(rows, keys, plan, gathered=gathered)
        if not self.flag_positive and keys is not None:
            pairs.diagonal(Processes(self.engine.gather_distributed, keys=keys.z).before("keys")).fill_(False)
        return pairs

    def _sum(self, anchors: Tensor, comparison: Comparison, given: bool) -> Tensor:
        """Sum of the losses of anchors, whose positives are the keys of the same numbers."""
        positives = torch.arange(len(anchors), device=anchors.device)
        comparison = comparison.with_positives(positives, treated=self.flag_positive or given)
        return info_nce(anchors, self.temperature, comparison, weight=1.0)

    @staticmethod
    def _turned(pairs: Tensor, forth: Comparison) -> Tensor:
        """The selected pairs of keys with rows, from those of rows with keys."""
        everywhere = forth.processes.gather("z", pairs.to(torch.uint8)).bool()
        return everywhere[:, forth.first : forth.first + len(pairs)].T


def _tower_ids(
    plan: Plan, rows: Tensor | None, key_rows: Tensor | None, first: Tensor, second: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Ids of the rows and of the keys, which are the positives and then columns of hard negatives."""
    n, k = len(first), len(second)
    rows = check_ids(rows, n)
    if key_rows is None and rows is not None:
        if k % n:
            raise ValueError(f"{k} keys are no multiple of {n} rows: pass key_rows=, with an id for each key")
        key_rows = rows.repeat(k // n)
    keys = check_ids(key_rows, k, "key_rows")
    if keys is None:
        return plan.ids(rows, first), None
    columns = zip(torch.split(keys, n), torch.split(second, n), strict=True)
    ids = [plan.ids(part, x, column) for column, (part, x) in enumerate(columns, 1)]
    known = [each for each in ids if each is not None]
    return plan.ids(rows, first), torch.cat(known) if known else None
