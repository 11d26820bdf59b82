"""A weighted sum of NT-Xent and the supervised contrastive loss, in which classes keep their inner variance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from typing_extensions import Unpack

from pairsift._base.checks import check_tensors
from pairsift.losses.engine import Comparison, Processes, info_nce, row_losses
from pairsift.losses.ntxent import TwoViewLoss
from pairsift.losses.treated import Options, check_views
from pairsift.pairs import Selector
from pairsift.treatments import EXCLUDED, Treatment

Form = Literal["outside", "inside"]
# Rows that are compared at once with the keys of their classes; few rows have few classes.
_CLASS_ROWS = 64


class MixedContrastiveLoss(TwoViewLoss):
    """`alpha` NT-Xent plus `1 - alpha` of the supervised contrastive loss (arXiv 2503.08203).

    The loss of anchor i with other view i' is
    ``log sum_(k != i) exp(s_ik / tau) - alpha s_ii' / tau - (1 - alpha) A_i``, where A_i is the mean of ``s_ik / tau``
    over the other views of its class ("outside", SupCon of arXiv 2004.11362), or the logarithm of the mean of their
    exponentials ("inside"). alpha = 1 is `NTXentLoss`; with small alpha all images of a class fall on one point. Labels
    may be partial: rows without one are anchors of NT-Xent. A treatment acts on denominators and on the own view as in
    `NTXentLoss`, and never on A_i.

    Args:
        alpha: weight of the self-supervised part, in [0, 1].
        temperature: tau, > 0.
        selector, treatment, **options: see `TreatedLoss`. With `gather_distributed` labels must mean the same on every
            process.
        form: "outside" or "inside", where the mean over positives stands.
        own_view: whether the own view is among the positives of the supervised part; the paper's code leaves it out.
            With n images of each class in the batch, the loss with it and weight a equals the loss without it and
            weight ``a + (1 - a) / (2n - 1)`` ("outside").

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

    _shown = ("alpha", "form", "own_view")

    def __init__(
        self, alpha: float = 0.5, temperature: float = 0.5, selector: Selector | None = None,
        treatment: Treatment | None = None, form: Form = "outside", own_view: bool = True, **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(selector, treatment, temperature, **options)
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be in [0, 1] (0 supervised, 1 self-supervised), got {alpha}")
        if form not in get_args(Form):
            raise ValueError(f"form must be 'outside' or 'inside', got {form!r}")
        self.alpha, self.form, self.own_view = alpha, form, own_view

    def forward(
        self, z0: Tensor, z1: Tensor, labels: Tensor | None = None, h0: Tensor | None = None, h1: Tensor | None = None,
        *, rows: Tensor | None = None, key_rows: Tensor | None = None, pairs: Tensor | None = None,
        treated: bool = True, selector: Selector | None = None, treatment: Treatment | None = None,
    ) -> Tensor:  # fmt: skip
        """Loss of a batch of N images in two views each.

        Args:
            z0, z1: (N, d) projections of the first and the second views.
            labels: (N,) classes, whole numbers; -1 where unknown. None is `NTXentLoss`.
            h0, h1: (N, D) encoder features of the same views.
            rows, key_rows, pairs, treated, selector, treatment: see `TreatedLoss`.

        Returns:
            Scalar, the mean over the views of all processes.

        Raises:
            ValueError: shapes that do not fit, or features that are not finite.
        """
        check_views(z0, z1, h0, h1)
        known = _classes(labels, z0)
        with torch.autocast(z0.device.type, enabled=False):
            plan = self._plan(selector, treatment, treated)
            views = self._views(plan, z0, z1, h0, h1, rows, key_rows)
            comparison = self._compare(views, None, plan, pairs=pairs)
            comparison = self._paired(comparison, views.z, record=self.alpha < 1)
            weight = comparison.processes.weight("z")
            loss = info_nce(views.z, self.temperature, comparison, weight=weight)
            if self.alpha < 1:
                loss = loss + (1 - self.alpha) * weight * self._pull(views.z, known.repeat(2), comparison)
            return comparison.processes.mean(loss)

    def _pull(self, z: Tensor, labels: Tensor, comparison: Comparison) -> Tensor:
        """Sum over the views with positives of own logit minus A_i, which turns NT-Xent into SupCon."""
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


class _Classes:
    """The positives of this process's views by labels, and the sums of A_i over the views."""

    def __init__(self, labels: Tensor, comparison: Comparison, own_logits: Tensor, own_view: bool) -> None:
        self._comparison, self._own_logits, self._own_view = comparison, own_logits, own_view
        key_labels = Processes(comparison.processes.size > 1, labels=labels).gather("labels", labels)
        self._groups, self._group = torch.unique(key_labels, return_inverse=True)
        self._mine = self._group[comparison.first : comparison.first + len(labels)]
        members = torch.bincount(self._group, minlength=len(self._groups))
        self.counts = (members[self._mine] - (1 if own_view else 2)).masked_fill(labels < 0, 0)

    def means(self, scaled: Tensor) -> Tensor:
        """Sum over views of the mean logit of the positives, by products with the sums of classes."""
        keys = self._comparison.keys
        sums = keys.new_zeros(len(self._groups), keys.shape[1]).index_add(0, self._group, keys)
        themselves = keys[self._comparison.first : self._comparison.first + len(scaled)]
        totals = (scaled * (sums[self._mine] - themselves)).sum(dim=1)
        if not self._own_view:
            totals = totals - self._own_logits
        return torch.where(self.counts > 0, totals / self.counts.clamp_min(1), 0).sum()

    def log_means(self, scaled: Tensor) -> Tensor:
        """Sum over views of the logarithm of the mean of the positives' exponentials.

        Rows are sorted by class and compared with the keys of their classes only: B^2 / classes products, not B^2.
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
    """Checked labels (N,) as int64 on the device of z; all -1 where there are none."""
    if labels is None:
        return torch.full((len(z),), -1, dtype=torch.int64, device=z.device)
    check_tensors({"labels": labels})
    if labels.shape != (len(z),):
        raise ValueError(f"labels must be ({len(z)},), one for each image, got {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise ValueError(f"labels must be whole numbers, -1 where unknown, got {labels.dtype}: cast with .long()")
    return labels.to(z.device, torch.int64)
