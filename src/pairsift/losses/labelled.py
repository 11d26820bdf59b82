"""InfoNCE whose positives are given by labels, any number of them per anchor, with treated difficult pairs."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from pairsift.losses.distributed import Processes
from pairsift.losses.treated import Selection, TreatedLoss, check_alike
from pairsift.pairs import RankBand
from pairsift.treatments import Treatment

Positives = Literal["each", "summed"]

# Takes an entry out of a log-sum-exp; unlike -inf it leaves a usable gradient where a whole row is taken out.
_NOTHING = -1e30


class LabelledNTXentLoss(TreatedLoss):
    """NT-Xent among rows whose labels say which belong together (as many views per image as there are).

    A row's negatives are the rows of other labels; with two rows per label it is `NTXentLoss`. Pairs are ranked per row
    among all other rows, or among all reference rows where these are given. Removal "exclude" never takes a positive.

    Args:
        temperature: tau, > 0.
        band: which ranks are difficult; None selects nothing.
        treatment: what happens to them; None treats nothing.
        positives: "each" is the mean over all positive pairs, each against the negatives alone; "summed" is the mean
            over anchors, their positives summed inside of the logarithm. The same for two rows per label.
        select: "band", or "random" to flag the same number of pairs per row at random (the control experiment).
        seed: seed of the random selection.
        gather: see `NTXentLoss`; labels must then mean the same on every process. Reference rows are never gathered.

    Raises:
        ValueError: a setting out of range, or a treatment without a band to apply it to.
    """

    def __init__(
        self,
        temperature: float = 0.5,
        band: RankBand | None = None,
        treatment: Treatment | None = None,
        positives: Positives = "each",
        select: Selection = "band",
        seed: int = 0,
        gather: bool = True,
    ) -> None:
        super().__init__(band, treatment, select, seed, gather=gather)
        if not (math.isfinite(temperature) and temperature > 0):
            raise ValueError(f"temperature must be finite and > 0, got {temperature}")
        if positives not in get_args(Positives):
            raise ValueError(f"positives must be 'each' or 'summed', got {positives!r}")
        self.temperature = temperature
        self.positives = positives

    def forward(
        self, z: Tensor, labels: Tensor, h: Tensor | None = None, *,
        ref_z: Tensor | None = None, ref_labels: Tensor | None = None, ref_h: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Loss of B rows among themselves, or against K reference rows.

        Args:
            z: (B, d) projections.
            labels: (B,) rows of one label are each other's positives.
            h: (B, D) encoder features of the rows, on which pairs are selected; without them the projections are used,
                with a warning. Pairs carry no gradient.
            ref_z, ref_labels, ref_h: the same of the reference rows, (K, d), (K,) and (K, D).

        Returns:
            Scalar, the mean over all processes of a process group; float32, or float64 for float64 projections. 0 where
            there are no positives or no negatives.

        Raises:
            ValueError: shapes that do not fit, or non-finite features to select on.
        """
        itself = ref_z is None
        keys, key_labels, key_h = (z, labels, h) if ref_z is None else (ref_z, ref_labels, ref_h)
        _check_rows(z, labels, h, "")
        if not itself:
            _check_rows(keys, key_labels, key_h, "ref_")
            if keys.shape[1] != z.shape[1] or (h is None) != (key_h is None):
                raise ValueError(
                    f"rows and reference rows must have one width and both or neither have features, got "
                    f"{tuple(z.shape)} and {tuple(keys.shape)}"
                )
        check_alike(z, keys, h, key_h)
        assert key_labels is not None
        treatment = self._active
        with torch.autocast(z.device.type, enabled=False):
            features = key_features = None
            if treatment is not None:
                features, key_features = self._selection_features(z, keys, h, key_h)
            labels, key_labels = (x.to(z.device, torch.int64) for x in (labels, key_labels))
            processes = Processes(self.gather and itself, z=z, labels=labels, h=features)
            unit, unit_keys = (F.normalize(x if x.dtype == torch.float64 else x.float(), dim=1) for x in (z, keys))
            if itself:
                unit_keys = processes.gather("z", unit)
                key_labels = processes.gather("labels", labels)
            similarities = unit @ unit_keys.T
            alike = labels[:, None] == key_labels
            positive = alike.clone()
            if itself:
                positive.diagonal(processes.before("z")).fill_(False)
            logits = similarities / self.temperature
            if treatment is not None and features is not None:
                masks = self._gathered_masks(processes, features) if itself else self._masks(features, key_features)
                pairs = masks.whole()
                if treatment.removal == "exclude":
                    pairs = pairs & ~positive
                logits = treatment.logits(similarities, pairs, self.temperature)
            total, count = self._reduced(logits, positive, ~alike)
            return processes.mean(total * (processes.size / processes.sum(count).clamp_min(1).to(total.dtype)))

    def _reduced(self, logits: Tensor, positive: Tensor, negative: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of the losses, and how many there are."""
        repulsion = logits.masked_fill(~negative, _NOTHING).clamp_min(_NOTHING).logsumexp(dim=1)
        if self.positives == "each":
            rows = positive.nonzero()[:, 0]
            attraction, repulsion = logits[positive], repulsion[rows]
        else:
            rows = positive.any(dim=1).nonzero().flatten()
            attraction = logits.masked_fill(~positive, _NOTHING).logsumexp(dim=1)[rows]
            repulsion = repulsion[rows]
        total = (torch.logaddexp(attraction, repulsion) - attraction).sum()
        return total, torch.tensor(len(rows), device=logits.device)

    def extra_repr(self) -> str:
        return (
            f"temperature={self.temperature}, band={self.band}, treatment={self.treatment}, "
            f"positives={self.positives!r}, select={self.selection!r}"
        )


def _check_rows(z: Tensor, labels: Tensor | None, h: Tensor | None, prefix: str) -> None:
    if z.dim() != 2 or 0 in z.shape:
        raise ValueError(f"{prefix}z must be a non-empty (rows, d) matrix, got {tuple(z.shape)}")
    if labels is None or labels.shape != (len(z),):
        seen = None if labels is None else tuple(labels.shape)
        raise ValueError(f"{prefix}labels must be ({len(z)},), one for each row, got {seen}")
    if h is not None and (h.dim() != 2 or len(h) != len(z)):
        raise ValueError(f"{prefix}h must be ({len(z)}, D), a row for each of {prefix}z, got {tuple(h.shape)}")
