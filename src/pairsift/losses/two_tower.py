"""InfoNCE between two modalities (CLIP, dense retrieval) with treated difficult pairs: Eqs. 13 to 16 of 2501.01317."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import Unpack

from pairsift._base.checks import check_tensors
from pairsift.losses.engine import Comparison, Processes, Rows, info_nce
from pairsift.losses.treated import Options, Plan, TemperedLoss, check_alike, check_ids, unit
from pairsift.pairs import Selector
from pairsift.treatments import Treatment


class TwoTowerLoss(TemperedLoss):
    """InfoNCE of rows of one tower against keys of the other, row i with key i (CLIP, arXiv 2103.00020).

    Pairs are ranked per row among all keys of the other tower, so both towers' features must be of one width. The
    positive is never flagged unless asked: a caption and its image belong together however they are ranked.

    Args:
        temperature: tau, > 0.
        learnable: learn the temperature, as CLIP does, from `temperature` on; it stays at 0.01 or above.
        selector: which pairs are difficult, a `RankBand` or any other; None selects nothing.
        treatment: what happens to them; None treats nothing. Removal "exclude" never takes the positive.
        symmetric: average the losses of both directions; False takes rows of the first tower as anchors only
            (queries against documents).
        flag_positive: let the band hold the positive too, as in the paper's formulas.
        **options: see `losses.treated.Options`.

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

    def __init__(
        self,
        temperature: float = 0.07,
        learnable: bool = False,
        selector: Selector | None = None,
        treatment: Treatment | None = None,
        symmetric: bool = True,
        flag_positive: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(selector, treatment, temperature, learnable, **options)
        self.symmetric = symmetric
        self.flag_positive = flag_positive

    def select(
        self, h0: Tensor, h1: Tensor, *, rows: Tensor | None = None, key_rows: Tensor | None = None,
        selector: Selector | None = None,
    ) -> Tensor:  # fmt: skip
        """Flag the difficult pairs of rows with keys, as `forward` does.

        Args:
            h0: (N, D) features of the rows' tower.
            h1: (K, D) features of the keys' tower, K >= N.
            rows, key_rows, selector: see `forward`.

        Returns:
            (N, K) bool; in a process group K counts the keys of all processes, those of one after those of the other.

        Raises:
            ValueError: the loss has no selector, features of different widths, or see `select_pairs`.
        """
        plan = self._select_plan(selector)
        ids, key_ids = _tower_ids(plan, rows, key_rows, h0, h1)
        pairs = self._select(Rows(h0, h0, ids), Rows(h1, h1, key_ids), plan)
        if not self.flag_positive:
            pairs.diagonal(Processes(self.engine.gather_distributed, keys=h1).before("keys")).fill_(False)
        return pairs

    def forward(
        self, z0: Tensor, z1: Tensor, h0: Tensor | None = None, h1: Tensor | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, pairs: Tensor | None = None, treated: bool = True,
        selector: Selector | None = None, treatment: Treatment | None = None,
    ) -> Tensor:  # fmt: skip
        """Loss of N rows against K keys.

        Args:
            z0: (N, d) projections of the first tower.
            z1: (K, d) projections of the second tower, K >= N; those beyond N (hard negatives, say) are no row's
                positive and no anchors.
            h0, h1: (N, D) and (K, D) features of the towers, on which pairs are selected; without them the projections
                are used, with a warning. Pairs carry no gradient.
            rows: (N,) ids of the examples that the rows are of, for selectors that go by them.
            key_rows: (K,) ids of those that the keys are of; None takes `rows` for the positives and for every further
                N keys, one column of hard negatives after the other.
            pairs: a selection already made for rows against keys, of the shape that `select` gives; its transpose
                serves the other direction. Overrides h0 and h1.
            treated: False treats nothing in this call, as before a warm-up has ended.
            selector, treatment: of this call; None takes those of the loss.

        Returns:
            Scalar; float32, or float64 for float64 projections.

        Raises:
            ValueError: shapes that do not fit, or non-finite features to select on.
        """
        _check_towers(z0, z1, h0, h1)
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

    def _sum(self, anchors: Tensor, comparison: Comparison, given: bool) -> Tensor:
        """Sum of the losses of anchors, each of which belongs to the key of its number."""
        positives = torch.arange(len(anchors), device=anchors.device)
        comparison = comparison.with_positives(positives, treated=self.flag_positive or given)
        return info_nce(anchors, self.temperature, comparison, weight=1.0)

    @staticmethod
    def _turned(pairs: Tensor, forth: Comparison) -> Tensor:
        """A selection for rows against keys as one for keys against rows."""
        everywhere = forth.processes.gather("z", pairs.to(torch.uint8)).bool()
        return everywhere[:, forth.first : forth.first + len(pairs)].T

    def _own_settings(self) -> str:
        return f"{super()._own_settings()}, symmetric={self.symmetric}"


def _tower_ids(
    plan: Plan, rows: Tensor | None, key_rows: Tensor | None, first: Tensor, second: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Ids of the rows and of the keys, which are positives and then columns of hard negatives."""
    n, k = len(first), len(second)
    rows = check_ids(rows, n)
    if key_rows is None and rows is not None and k % n:
        raise ValueError(f"{k} keys are no multiple of {n} rows: pass key_rows=, with an id for each key")
    keys = rows.repeat(k // n) if key_rows is None and rows is not None else check_ids(key_rows, k, "key_rows")
    columns = [(None, 1)] if keys is None else [(part, number) for number, part in enumerate(torch.split(keys, n), 1)]
    return plan.ids((rows, 0), device=first.device), plan.ids(*columns, device=second.device)


def _check_towers(z0: Tensor, z1: Tensor, h0: Tensor | None, h1: Tensor | None) -> None:
    check_tensors({"z0": z0, "z1": z1}, h0=h0, h1=h1)
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
