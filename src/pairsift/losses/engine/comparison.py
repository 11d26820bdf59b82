"""`compare`: what the objectives do alike before their formulas differ."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from pairsift.losses.engine.processes import Processes
from pairsift.losses.engine.settings import Engine
from pairsift.pairs import GivenMasks, PairMasks, Selector
from pairsift.treatments import Edit, Treatment


class Rows(NamedTuple):
    """One side of a comparison.

    Attributes:
        z: (B, d) what is compared.
        h: (B, D) features that pairs are selected on; None where none are selected.
        ids: (B,) or (B, M) int64, which examples these are, as the selector identifies them; None where unknown.
    """

    z: Tensor
    h: Tensor | None = None
    ids: Tensor | None = None


class Recorded(NamedTuple):
    """What the masks of a walk over all rows held.

    Attributes:
        at_positives: (B,) how far each row's positive is treated.
        others: (B,) int64, how many other pairs of each row are selected.
    """

    at_positives: Tensor
    others: Tensor


@dataclass(frozen=True)
class Comparison:
    """How B rows meet K keys.

    Attributes:
        keys: (K, d) keys, of all processes where they are gathered.
        processes: who shares the batch.
        tile: rows that are compared at once; None for whole matrices and autograd.
        masks: the selected pairs; None treats nothing.
        treatment: what happens to them; None treats nothing.
        first: where among the keys those of this process begin.
        itself: whether rows are compared among themselves; row i is then key `first + i`, and left out.
        positives: (B,) where among the keys each row's positive stands; None where it is given apart.
        treat_positives: whether a selected positive is treated like any pair; excluding never takes it.
        recorded: filled by `mask`, tile by tile; None keeps nothing.
    """

    keys: Tensor
    processes: Processes
    tile: int | None
    masks: PairMasks | None = None
    treatment: Treatment | None = None
    first: int = 0
    itself: bool = False
    positives: Tensor | None = None
    treat_positives: bool = True
    recorded: Recorded | None = field(default=None, compare=False)

    @property
    def diagonal(self) -> int | None:
        """The diagonal of the (B, K) matrix that compares rows with themselves, if any; see `Tensor.diagonal`."""
        return self.first if self.itself else None

    def with_positives(self, columns: Tensor, treated: bool = True, record: bool = False) -> Comparison:
        """This comparison with each row's positive.

        Args:
            columns: (B,) which of this process's own keys it is.
            treated: see `treat_positives`.
            record: whether the masks that are asked for are to be recorded.
        """
        kept = None
        if record and self.masks is not None:
            counts = torch.zeros(len(columns), dtype=torch.int64, device=columns.device)
            kept = Recorded(torch.zeros(len(columns), dtype=self.keys.dtype, device=columns.device), counts)
        return replace(self, positives=columns + self.first, treat_positives=treated, recorded=kept)

    def edit(self, temperature: float | Tensor) -> Edit | None:
        """What happens to plain logits `s / temperature` of selected pairs; None where nothing does."""
        if self.masks is None or self.treatment is None or self.masks.empty:
            return None
        return self.treatment.edit(temperature)

    def mask(self, part: slice, edit: Edit | None, dtype: torch.dtype) -> Tensor | None:
        """How far the pairs of some rows are treated, (R, K) numbers in [0, 1]; None where nothing is."""
        if edit is None or self.masks is None or not edit.edits_selected:
            return None
        mask = self.masks.tile(part.start, part.stop).to(dtype)
        if self.positives is None:
            return mask
        where = self.positives[part, None]
        if edit.excludes:
            mask.scatter_(1, where, 0.0)
        if self.recorded is not None:
            at = mask.gather(1, where)
            self.recorded.at_positives[part] = at.squeeze(1)
            self.recorded.others[part] = (mask.sum(dim=1) - at.squeeze(1)).long()
        if not self.treat_positives:
            mask.scatter_(1, where, 0.0)
        return mask

    def log_weights(self, part: slice, edit: Edit | None, dtype: torch.dtype) -> Tensor | None:
        """Logarithms of what the pairs of some rows weigh in the denominator (R, K); None where they weigh alike."""
        if edit is None or self.masks is None or not edit.same_class_weight:
            return None
        weights = self.masks.log_weights(part.start, part.stop)
        if weights is None:
            return None
        weights = weights.to(dtype) * edit.same_class_weight
        if self.positives is not None:
            weights.scatter_(1, self.positives[part, None], 0.0)
        return weights


def compare(
    rows: Rows, keys: Rows | None, selector: Selector | None, treatment: Treatment | None, engine: Engine, *,
    pairs: Tensor | None = None, gathered: bool = True,
) -> Comparison:  # fmt: skip
    """Let rows meet keys: gather the keys of all processes, and select the pairs to treat.

    Args:
        rows: the rows of this process.
        keys: what they are compared with; None compares the rows among themselves.
        selector: which pairs are selected; needed where there is a treatment and no `pairs`.
        treatment: what happens to them; None selects nothing.
        engine: how it is done.
        pairs: (B, K) bool, a selection already made.
        gathered: whether the keys of all processes count; False for keys that are alike on all.

    Raises:
        ValueError: processes that hold different things, pairs of another shape, or see the selector.
    """
    itself, keys = keys is None, rows if keys is None else keys
    processes = Processes(engine.gather_distributed, z=rows.z, keys=keys.z, h=keys.h, rows=keys.ids)
    z, h, ids, first = keys.z, keys.h, keys.ids, 0
    if gathered:
        z, first = processes.gather("keys", z), processes.before("keys")
        h = None if h is None else processes.gather("h", h.detach())
        ids = None if ids is None else processes.gather("rows", ids)
    masks: PairMasks | None = None
    if pairs is not None:
        _check_pairs(pairs, (len(rows.z), len(z)))
        masks = GivenMasks(pairs)
    elif treatment is not None and selector is not None and rows.h is not None:
        alone = itself and processes.size == 1
        masks = selector.masks(
            rows.h, None if alone else h, first if itself and not alone else None, rows=rows.ids,
            key_rows=None if alone else ids, precision=engine.precision,
        )  # fmt: skip
    tile = engine.tile_rows(len(z), z.device) if len(z) else None
    return Comparison(z, processes, tile, masks, treatment, first, itself)


def _check_pairs(pairs: Tensor, shape: tuple[int, int]) -> None:
    if pairs.shape != shape or pairs.dtype != torch.bool:
        raise ValueError(f"pairs must be bool of shape {shape}, got {pairs.dtype} {tuple(pairs.shape)}")
