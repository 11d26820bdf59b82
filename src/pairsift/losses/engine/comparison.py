"""`compare` gathers keys and selects pairs; the losses then apply their formulas to the `Comparison`."""

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
        z: (B, d) projections.
        h: (B, D) features on which pairs are selected; None where none are selected.
        ids: (B,) or (B, M) int64 ids of the examples from `Selector.identify`; None where unknown.
    """

    z: Tensor
    h: Tensor | None = None
    ids: Tensor | None = None


class Recorded(NamedTuple):
    """What the masks of all rows contained.

    Attributes:
        at_positives: (B,) mask of each row's positive.
        others: (B,) int64 number of other selected pairs of each row.
    """

    at_positives: Tensor
    others: Tensor


@dataclass(frozen=True)
class Comparison:
    """How B rows are compared with K keys.

    Attributes:
        keys: (K, d), of all processes where they are gathered.
        processes: the processes that share the batch.
        tile: rows that are compared at once; None for whole matrices and autograd.
        masks: the selected pairs; None treats nothing.
        treatment: of the selected pairs; None treats nothing.
        first: column of this process's first key.
        itself: whether rows are compared among themselves; row i is then key `first + i`, and left out.
        positives: (B,) column of each row's positive; None where positives are not among the keys.
        treat_positives: whether a selected positive is treated like any pair; it is never excluded.
        recorded: filled by `mask`, tile by tile; None records nothing.
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
        """Offset of the diagonal on which rows are compared with themselves; see `Tensor.diagonal`."""
        return self.first if self.itself else None

    def with_positives(self, columns: Tensor, treated: bool = True, record: bool = False) -> Comparison:
        """This comparison with positives.

        Args:
            columns: (B,) number of each row's positive among this process's keys.
            treated: see `treat_positives`.
            record: whether `mask` fills `recorded`.
        """
        kept = None
        if record and self.masks is not None:
            counts = torch.zeros(len(columns), dtype=torch.int64, device=columns.device)
            kept = Recorded(torch.zeros(len(columns), dtype=self.keys.dtype, device=columns.device), counts)
        return replace(self, positives=columns + self.first, treat_positives=treated, recorded=kept)

    def edit(self, temperature: float | Tensor) -> Edit | None:
        """The edit of plain logits `s / temperature`; None where nothing is treated."""
        if self.masks is None or self.treatment is None or self.masks.empty:
            return None
        return self.treatment.edit(temperature)

    def mask(self, part: slice, edit: Edit | None, dtype: torch.dtype) -> Tensor | None:
        """Masks (R, K) of some rows, in [0, 1]; None where nothing is treated."""
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
        """Logarithms (R, K) of the weights of pairs in the denominators of some rows; None where all weigh alike."""
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
    """Gather the keys of all processes, and select the pairs to treat.

    Args:
        rows: of this process.
        keys: of this process; None compares the rows among themselves.
        selector: needed where there is a treatment and no `pairs`.
        treatment: of the selected pairs; None selects nothing.
        engine: the settings.
        pairs: (B, K) bool, a selection made before.
        gathered: whether the keys of all processes count; False for keys that are equal on all.

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
        shape = (len(rows.z), len(z))
        if pairs.shape != shape or pairs.dtype != torch.bool:
            raise ValueError(f"pairs must be bool of shape {shape}, got {pairs.dtype} {tuple(pairs.shape)}")
        masks = GivenMasks(pairs)
    elif treatment is not None and selector is not None and rows.h is not None:
        alone = itself and processes.size == 1
        masks = selector.masks(
            rows.h, None if alone else h, first if itself and not alone else None, rows=rows.ids,
            key_rows=None if alone else ids, precision=engine.precision,
        )  # fmt: skip
    tile = engine.tile_rows(len(z), z.device) if len(z) else None
    return Comparison(z, processes, tile, masks, treatment, first, itself)
