"""NT-Xent and the supervised contrastive loss, mixed by a weight: between them classes keep their inner variance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from typing_extensions import Unpack

from pairsift._base.checks import check_tensors
from pairsift.losses.engine import Comparison, Processes, Rows, info_nce, row_losses
from pairsift.losses.treated import Options, TemperedLoss, check_views, unit, view_ids
from pairsift.pairs import Selector
from pairsift.treatments import EXCLUDED, Treatment

Form = Literal["outside", "inside"]
# Rows that meet the keys of their classes at once: few, so that they are of few classes.
_CLASS_ROWS = 64


class MixedContrastiveLoss(TemperedLoss):
    """Self-supervised and supervised contrastive loss in one (arXiv 2503.08203): `alpha` NT-Xent, the rest SupCon.

    Anchor i with other view i' loses ``log sum_(k != i) exp(s_ik / tau) - alpha s_ii' / tau - (1 - alpha) A_i``, where
    A_i is the mean of ``s_ik / tau`` over the other views of its class ("outside", SupCon of arXiv 2004.11362), or the
    logarithm of the mean of their exponentials ("inside"). alpha = 1 is `NTXentLoss`; with alpha small, all images of a
    class fall on one point. Rows without label are anchors of NT-Xent, so labels may be partial. A treatment acts on
    denominators and on the own view as in `NTXentLoss`; A_i is never treated.

    Args:
        alpha: weight of the self-supervised part, in [0, 1].
        temperature: tau, > 0.
        selector: which pairs are difficult, a `RankBand` or any other; None selects nothing.
        treatment: what happens to them; None treats nothing.
        form: "outside" or "inside", where the mean over positives stands.
        own_view: whether the own view is among the positives of the supervised part. The paper's code leaves it out:
            False. With n images of each class in the batch, a weight a with it is then
            ``alpha = a + (1 - a) / (2n - 1)`` without it ("outside").
        **options: see `losses.treated.Options`. Gathering, labels must mean
            the same on every process.

    Raises:
        TypeError: an unknown option.
        ValueError: a setting out of range, or a treatment without a selector.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> z0, z1 = torch.randn(2, 64, 16)
        >>> labels = torch.arange(64) % 10
        >>> labels[50:] = -1  # not known
        >>> ps.losses.MixedContrastiveLoss(0.5, temperature=0.1)(z0, z1, labels).shape
        torch.Size([])
    """

    def __init__(
        self,
        alpha: float = 0.5,
        temperature: float = 0.5,
        selector: Selector | None = None,
        treatment: Treatment | None = None,
        form: Form = "outside",
        own_view: bool = True,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(selector, treatment, temperature, **options)
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1] (0 supervised, 1 self-supervised), got {alpha}")
        if form not in get_args(Form):
            raise ValueError(f"form must be 'outside' or 'inside', got {form!r}")
        self.alpha, self.form, self.own_view = alpha, form, own_view

    def select(
        self, h0: Tensor, h1: Tensor, *, rows: Tensor | None = None, key_rows: Tensor | None = None,
        selector: Selector | None = None,
    ) -> Tensor:  # fmt: skip
        """Flag the difficult pairs of a batch, as `forward` does: see `NTXentLoss.select`.

        Args:
            h0, h1: (N, D) features of the first and the second views.
            rows, key_rows, selector: see `forward`.

        Returns:
            (2N, 2N) bool over the views, first views first.

        Raises:
            ValueError: the loss has no selector, or see `select_pairs`.
        """
        plan = self._select_plan(selector)
        h = torch.cat([h0, h1])
        return self._select(Rows(h, h, view_ids(plan, rows, key_rows, h)), None, plan)

    def forward(
        self, z0: Tensor, z1: Tensor, labels: Tensor | None = None, h0: Tensor | None = None, h1: Tensor | None = None,
        *, rows: Tensor | None = None, key_rows: Tensor | None = None, pairs: Tensor | None = None,
        treated: bool = True, selector: Selector | None = None, treatment: Treatment | None = None,
    ) -> Tensor:  # fmt: skip
        """Loss of a batch of N images in two views each.

        Args:
            z0, z1: (N, d) projections of the first and the second views.
            labels: (N,) classes, whole numbers; -1 where unknown. None knows none: `NTXentLoss`.
            h0, h1: (N, D) encoder features of the same views, on which pairs are selected; without them the
                projections are used, with a warning. Pairs carry no gradient.
            rows: (N,) ids of the examples that the first views are of, for selectors that go by them.
            key_rows: (N,) ids of those that the second views are of; None takes `rows`.
            pairs: a selection already made, of the shape that `select` gives; overrides h0 and h1.
            treated: False treats nothing in this call, as before a warm-up has ended.
            selector, treatment: of this call; None takes those of the loss.

        Returns:
            Scalar, the mean over the views of all processes; float32, or float64 for float64 projections.

        Raises:
            ValueError: shapes that do not fit, or non-finite features to select on.
        """
        check_views(z0, z1, h0, h1)
        known = _classes(labels, z0)
        with torch.autocast(z0.device.type, enabled=False):
            z = unit(torch.cat([z0, z1]))
            h = None if h0 is None or h1 is None else torch.cat([h0, h1])
            own = torch.arange(len(z), device=z.device).roll(len(z0))
            plan = self._plan(selector, treatment, treated)
            ids = view_ids(plan, rows, key_rows, z)
            comparison = self._compare(Rows(z, h, ids), None, plan, pairs=pairs)
            comparison = comparison.with_positives(own, record=self.alpha < 1)
            weight = comparison.processes.weight("z")
            loss = info_nce(z, self.temperature, comparison, weight=weight)
            if self.alpha < 1:
                loss = loss + (1 - self.alpha) * weight * self._pull(z, known.repeat(2), comparison)
            return comparison.processes.mean(loss)

    def _pull(self, z: Tensor, labels: Tensor, comparison: Comparison) -> Tensor:
        """Sum over the views with positives of what makes the own view's logit their positives' mean."""
        assert comparison.positives is not None
        own = comparison.positives - comparison.first
        own_logits = (z * z[own]).sum(dim=1) / self.temperature
        classes = _Classes(labels, comparison, own_logits, self.own_view)
        edit, recorded = comparison.edit(self.temperature), comparison.recorded
        if recorded is not None and edit is not None and edit.edits_selected and not edit.excludes:
            own_logits = edit.apply(own_logits, recorded.at_positives)
        scaled = z / self.temperature
        pull = classes.means(scaled) if self.form == "outside" else classes.log_means(scaled)
        return own_logits[classes.counts > 0].sum() - pull

    def _own_settings(self) -> str:
        return f"alpha={self.alpha}, {super()._own_settings()}, form={self.form!r}, own_view={self.own_view}"


class _Classes:
    """The positives that labels give to this process's views, and what they pull with, summed over the views."""

    def __init__(self, labels: Tensor, comparison: Comparison, own_logits: Tensor, own_view: bool) -> None:
        self._comparison, self._own_logits, self._own_view = comparison, own_logits, own_view
        key_labels = Processes(comparison.processes.size > 1, labels=labels).gather("labels", labels)
        self._groups, self._group = torch.unique(key_labels, return_inverse=True)
        self._mine = self._group[comparison.first : comparison.first + len(labels)]
        members = torch.bincount(self._group, minlength=len(self._groups))
        self.counts = (members[self._mine] - (1 if own_view else 2)).masked_fill(labels < 0, 0)

    def means(self, scaled: Tensor) -> Tensor:
        """Sum over views of the mean logit of the positives: products with sums of classes, no matrix."""
        keys = self._comparison.keys
        sums = keys.new_zeros(len(self._groups), keys.shape[1]).index_add(0, self._group, keys)
        themselves = keys[self._comparison.first : self._comparison.first + len(scaled)]
        totals = (scaled * (sums[self._mine] - themselves)).sum(dim=1)
        if not self._own_view:
            totals = totals - self._own_logits
        return torch.where(self.counts > 0, totals / self.counts.clamp_min(1), 0).sum()

    def log_means(self, scaled: Tensor) -> Tensor:
        """Sum over views of the logarithm of the mean of the positives' exponentials.

        Sorted by class, a few rows meet the keys of their classes only: B^2 / classes products instead of B^2.
        """
        comparison = self._comparison
        assert comparison.positives is not None
        order = self._group.argsort()
        groups, keys = self._group[order], comparison.keys[order]
        rows = order[(order >= comparison.first) & (order < comparison.first + len(scaled))] - comparison.first
        rows = rows[self.counts[rows] > 0]
        mine, total = self._mine[rows], scaled.new_zeros(())
        starts = range(0, len(rows), _CLASS_ROWS)
        ends = mine.new_tensor([[start, min(start + _CLASS_ROWS, len(rows)) - 1] for start in starts]).view(-1, 2)
        first = torch.searchsorted(groups, mine[ends[:, 0]])
        last = torch.searchsorted(groups, mine[ends[:, 1]], right=True)
        for start, low, high in zip(starts, first.tolist(), last.tolist(), strict=True):
            few = rows[start : start + _CLASS_ROWS]
            among = self._mine[few, None] == groups[low:high]
            among &= (few + comparison.first)[:, None] != order[low:high]
            if not self._own_view:
                among &= comparison.positives[few, None] != order[low:high]
            total = total + row_losses(scaled[few], keys[low:high], _log_sums(among), comparison.tile)
        return total - self.counts.clamp_min(1).to(scaled.dtype).log().sum()


def _log_sums(among: Tensor) -> Callable[[Tensor, slice], Tensor]:
    return lambda x, part: x.masked_fill(~among[part], EXCLUDED).logsumexp(dim=1)


def _classes(labels: Tensor | None, z: Tensor) -> Tensor:
    """Checked labels (N,) as int64 beside the projections; all -1 where there are none."""
    if labels is None:
        return torch.full((len(z),), -1, dtype=torch.int64, device=z.device)
    check_tensors({"labels": labels})
    if labels.shape != (len(z),):
        raise ValueError(f"labels must be ({len(z)},), one for each image, got {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be whole numbers, -1 where unknown, got {labels.dtype}: cast with .long()")
    return labels.to(z.device, torch.int64)
