"""InfoNCE whose positives are given by labels, any number of them per anchor, with treated pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor
from typing_extensions import Unpack

from pairsift._base.checks import check_tensors
from pairsift.losses.engine import Comparison, Processes, Rows, row_losses
from pairsift.losses.treated import Options, TemperedLoss, check_alike, unit
from pairsift.pairs import Selector
from pairsift.treatments import EXCLUDED, Edit, Treatment

Positives = Literal["each", "summed"]


class LabelledNTXentLoss(TemperedLoss):
    """NT-Xent among rows whose labels say which belong together, as many views per image as there are.

    The negatives of a row are the rows of other labels; with two rows per label this is `NTXentLoss`. Pairs are ranked
    per row among all other rows, or among all reference rows where these are given. Removal "exclude" never takes a
    positive.

    Args:
        temperature: tau, > 0.
        selector, treatment, **options: see `TreatedLoss`. With `gather_distributed` labels must mean the same on every
            process; reference rows are never gathered.
        positives: "each" is the mean over all positive pairs, each against the negatives alone; "summed" is the mean
            over anchors, whose positives are summed inside the logarithm. With two rows per label both are equal.

    Raises:
        ValueError: a setting out of range, or a treatment without a selector.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> z, h, labels = torch.randn(96, 16), torch.randn(96, 32), torch.arange(32).repeat(3)  # three views an image
        >>> loss = ps.losses.LabelledNTXentLoss(0.5, ps.RankBand(0.15, 0.22), ps.Treatment(margin=0.03))
        >>> loss(z, labels, h).shape
        torch.Size([])
    """

    _takes_tensors = False
    _shown = ("positives",)

    def __init__(
        self, temperature: float = 0.5, selector: Selector | None = None, treatment: Treatment | None = None,
        positives: Positives = "each", **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(selector, treatment, temperature, **options)
        if positives not in get_args(Positives):
            raise ValueError(f"positives must be 'each' or 'summed', got {positives!r}")
        self.positives = positives

    def forward(
        self, z: Tensor, labels: Tensor, h: Tensor | None = None, *,
        ref_z: Tensor | None = None, ref_labels: Tensor | None = None, ref_h: Tensor | None = None,
        named: tuple[Tensor, Tensor] | None = None,
        rows: Tensor | None = None, key_rows: Tensor | None = None, treated: bool = True,
        selector: Selector | None = None, treatment: Treatment | None = None,
    ) -> Tensor:  # fmt: skip
        """Loss of B rows among themselves, or against K reference rows.

        Args:
            z: (B, d) projections.
            labels: (B,) whole numbers; rows of one label are each other's positives. -1 is no label: such a row is no
                positive, and a negative of all others.
            h: (B, D) encoder features of the rows.
            ref_z, ref_labels, ref_h: (K, d), (K,) and (K, D), the same of the reference rows.
            named: two (B, K) matrices, bool or int32, how often each pair counts as a positive and as a negative; None
                takes all pairs by their labels. Not with `gather_distributed` in a process group.
            rows, treated, selector, treatment: see `TreatedLoss`.
            key_rows: (K,) ids of the reference rows' examples.

        Returns:
            Scalar; 0 where there are no positives or no negatives.

        Raises:
            ValueError: shapes that do not fit, or features that are not finite.
        """
        _check_rows(z, labels, h, "")
        if ref_z is not None:
            _check_rows(ref_z, ref_labels, ref_h, "ref_")
            if ref_z.shape[1] != z.shape[1] or (h is None) != (ref_h is None):
                raise ValueError(
                    f"rows and reference rows must have one width and both or neither have features, got "
                    f"{tuple(z.shape)} and {tuple(ref_z.shape)}"
                )
            check_alike(z, ref_z, h, ref_h)
        with torch.autocast(z.device.type, enabled=False):
            labels = labels.to(z.device, torch.int64)
            plan = self._plan(selector, treatment, treated)
            anchors, keys = Rows(unit(z), h, plan.ids(rows, z)), None
            if ref_z is not None:
                keys = Rows(unit(ref_z), ref_h, plan.ids(key_rows, ref_z, 0, "key_rows"))
            comparison = self._compare(anchors, keys, plan, gathered=keys is None)
            if ref_labels is not None:
                key_labels = ref_labels.to(z.device, torch.int64)
            else:
                key_labels = Processes(self.engine.gather_distributed, labels=labels).gather("labels", labels)
            # Two rows without a label have none in common, so anchors and keys get different numbers.
            least = torch.iinfo(torch.int64).min
            labels, key_labels = labels.where(labels != -1, least), key_labels.where(key_labels != -1, least + 1)
            pairs = _LabelledPairs(labels, key_labels, comparison, self.positives, named)
            edit = comparison.edit(self.temperature)
            scaled = anchors.z / self.temperature
            total = row_losses(scaled, comparison.keys, lambda x, part: pairs.losses(x, part, edit), comparison.tile)
            processes = comparison.processes
            return processes.mean(total * (processes.size / processes.sum(pairs.count()).clamp_min(1).to(total.dtype)))


@dataclass(frozen=True)
class _LabelledPairs:
    """Positive and negative pairs by labels (B,) and (K,), or by name, and their losses."""

    labels: Tensor
    key_labels: Tensor
    comparison: Comparison
    positives: Positives
    named: tuple[Tensor, Tensor] | None

    def __post_init__(self) -> None:
        shape = len(self.labels), len(self.comparison.keys)
        for each in self.named or ():
            if each.shape != shape or each.dtype not in (torch.bool, torch.int32):
                raise ValueError(
                    f"named pairs must be bool or int32 of shape {shape}, got {each.dtype} {tuple(each.shape)}"
                )

    def losses(self, logits: Tensor, part: slice, edit: Edit | None) -> Tensor:
        """Sums (R,) of the losses of some rows, from their plain logits (R, K)."""
        comparison = self.comparison
        if self.named is None:
            alike = self.labels[part, None] == self.key_labels
            positive = alike.clone()
        else:
            positive, alike = self.named[0][part] > 0, self.named[1][part] == 0
        if comparison.diagonal is not None:
            positive.diagonal(comparison.diagonal + part.start).fill_(False)
            alike.diagonal(comparison.diagonal + part.start).fill_(True)
        mask = comparison.mask(part, edit, logits.dtype)
        weights = comparison.log_weights(part, edit, logits.dtype)
        if edit is not None:
            for each, spares in ((mask, edit.excludes), (weights, True)):
                if each is not None and spares:
                    each.masked_fill_(positive, 0)
            logits = edit.apply(logits, mask, weights)
        repelled = self._counted(logits, 1, part)
        repulsion = repelled.masked_fill(alike, EXCLUDED).clamp_min(EXCLUDED).logsumexp(dim=1, keepdim=True)
        if self.positives == "each":
            rows, attraction = positive.nonzero()[:, 0], logits[positive]
            losses = torch.logaddexp(attraction, repulsion[rows, 0]) - attraction
            if self.named is not None and self.named[0].dtype != torch.bool:
                losses = losses * self.named[0][part][positive]
            return losses.new_zeros(len(logits)).index_add(0, rows, losses)
        attraction = self._counted(logits, 0, part).masked_fill(~positive, EXCLUDED).logsumexp(dim=1, keepdim=True)
        losses = torch.logaddexp(attraction, repulsion) - attraction
        return losses.masked_fill(~positive.any(dim=1, keepdim=True), 0).squeeze(1)

    def _counted(self, logits: Tensor, side: int, part: slice) -> Tensor:
        """Logits of pairs that count several times, as sums of exponentials take them."""
        if self.named is None or self.named[side].dtype == torch.bool:
            return logits
        return logits + self.named[side][part].clamp_min(1).to(logits.dtype).log()

    def count(self) -> Tensor:
        """Number of losses: of positive pairs, or of rows with a positive."""
        if self.named is not None:
            found = self.named[0].sum(dim=1)
            return (found if self.positives == "each" else found > 0).sum()
        groups, members = torch.unique(self.key_labels, return_counts=True)
        place = torch.searchsorted(groups, self.labels).clamp_max(len(groups) - 1)
        found = torch.where(groups[place] == self.labels, members[place], 0) - int(self.comparison.itself)
        found = found.clamp_min(0)  # a row without a label
        return (found if self.positives == "each" else found > 0).sum()


def _check_rows(z: Tensor, labels: Tensor | None, h: Tensor | None, prefix: str) -> None:
    check_tensors({f"{prefix}z": z}, **{f"{prefix}labels": labels, f"{prefix}h": h})
    for name, held in ((f"{prefix}z", z), (f"{prefix}h", h)):
        if held is not None and not held.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {held.dtype}: cast it with .float()")
    if z.dim() != 2 or 0 in z.shape:
        raise ValueError(f"{prefix}z must be a non-empty (rows, d) matrix, got {tuple(z.shape)}")
    if labels is None or labels.shape != (len(z),):
        seen = None if labels is None else tuple(labels.shape)
        raise ValueError(f"{prefix}labels must be ({len(z)},), one for each row, got {seen}")
    if labels.is_complex() or (labels.is_floating_point() and not bool((labels == labels.round()).all())):
        raise ValueError(f"{prefix}labels must be whole numbers, got {labels.dtype} that are not: cast with .long()")
    if h is not None and (h.dim() != 2 or len(h) != len(z)):
        raise ValueError(f"{prefix}h must be ({len(z)}, D), a row for each of {prefix}z, got {tuple(h.shape)}")
