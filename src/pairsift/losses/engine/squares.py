"""Squared products of rows with all keys but their positives, treated as in Eqs. 31 and 40."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from pairsift.losses.engine.comparison import Comparison
from pairsift.losses.engine.walk import by_tiles, opaque


@opaque
def squares(rows: Tensor, mu: float, comparison: Comparison) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of the squares, by tiles.

    Args:
        rows: (B, d).
        mu: what the treatment's margin is measured in.
        comparison: the keys, and how rows are compared with them; `positives` are left out.

    Returns:
        Sum of the squares (scalar), how many there are (scalar), and the difficulty of each row's positive (B,).

    Raises:
        RuntimeError: in a second differentiation.
    """
    assert comparison.tile is not None
    step = _Step(comparison, mu, rows)
    total = by_tiles(rows, comparison.keys, step, comparison.tile, 1.0)
    return total, step.count, step.difficult


class _Step:
    """The `TileStep` of squares, which also counts them and looks at the positives."""

    inputs: Sequence[Tensor] = ()

    def __init__(self, comparison: Comparison, mu: float, rows: Tensor) -> None:
        self._comparison = comparison
        self._plain = comparison.edit(1 / mu)
        # An excluded product counts nothing: it becomes 0.
        excludes = self._plain is not None and self._plain.excludes
        self._edit = replace(self._plain, factor=0.0, offset=0.0) if self._plain and excludes else self._plain
        self.count = torch.tensor(len(rows) * (len(comparison.keys) - 1), device=rows.device)
        self.difficult = rows.new_zeros(len(rows))

    def start(self) -> list[Tensor]:
        return []

    def __call__(self, x: Tensor, rows: slice, weights: Tensor | None, gradients: list[Tensor]) -> Tensor:
        comparison, edit = self._comparison, self._edit
        assert comparison.positives is not None
        where = comparison.positives[rows, None]
        mask = comparison.mask(rows.start, rows.stop, self._plain, x.dtype)
        if mask is not None and edit is not None:
            self.difficult[rows] = mask.gather(1, where).squeeze(1)
            mask.scatter_(1, where, 0.0)
            edit.apply_(x, mask)
            if edit.excludes:
                self.count -= mask.sum().long()
        x.scatter_(1, where, 0.0)
        losses = torch.linalg.vecdot(x, x)
        if weights is not None:
            x.mul_(2 * weights[:, None])
            if mask is not None and edit is not None:
                edit.chain_(x, mask)
        return losses
