"""InfoNCE of rows against their positives and all other keys, with treated pairs: Eqs. 13 to 16."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from pairsift.losses.engine.comparison import Comparison
from pairsift.losses.engine.softmax import softmax_rows
from pairsift.losses.engine.walk import by_tiles, opaque
from pairsift.treatments import NOTHING, Edit


@opaque
def info_nce(
    rows: Tensor, temperature: float | Tensor, comparison: Comparison, extra: Tensor | None = None,
    weight: float | None = None,
) -> Tensor:  # fmt: skip
    """InfoNCE of every row.

    Args:
        rows: (B, d) unit rows.
        temperature: tau; a scalar tensor takes part in the gradient.
        comparison: the unit keys, and how rows are compared with them.
        extra: (B,) cosine similarities to positives that are not among the keys; such positives are never treated.
        weight: of every row in the sum that is returned, 1 / B for the mean; None returns the losses one by one.

    Returns:
        Scalar, or (B,) without a weight.

    Raises:
        RuntimeError: in a second differentiation, by tiles.
    """
    scaled = rows / temperature
    apart = None if extra is None else extra / temperature
    edit = comparison.edit(temperature)
    if comparison.tile is not None:
        step = _Step(comparison, edit, apart, rows)
        return by_tiles(scaled, comparison.keys, step, comparison.tile, weight)
    losses = _whole(scaled @ comparison.keys.T, comparison, edit, apart)
    return losses if weight is None else losses.sum() * weight


def _whole(logits: Tensor, comparison: Comparison, edit: Edit | None, apart: Tensor | None) -> Tensor:
    """Losses (B,) of plain logits (B, K), by autograd."""
    n = len(logits)
    mask = comparison.mask(0, n, edit, logits.dtype)
    if edit is not None and mask is not None:
        logits = edit.of(logits, mask)
    if comparison.diagonal is not None:
        themselves = torch.arange(n, device=logits.device) + comparison.diagonal
        logits = logits.scatter(1, themselves[:, None], NOTHING)
    if comparison.positives is not None:
        return logits.logsumexp(dim=1) - logits.gather(1, comparison.positives[:, None]).squeeze(1)
    assert apart is not None
    return torch.cat([apart[:, None], logits], dim=1).logsumexp(dim=1) - apart


class _Step:
    """The `TileStep` of InfoNCE: its inputs are the positives' logits that come apart, and the edit's offset."""

    def __init__(self, comparison: Comparison, edit: Edit | None, apart: Tensor | None, rows: Tensor) -> None:
        self._comparison = comparison
        offset = rows.new_zeros(()) if edit is None else torch.as_tensor(edit.offset, dtype=rows.dtype).to(rows.device)
        self._learns_offset = offset.requires_grad
        self.inputs = (offset,) if apart is None else (offset, apart)
        self._apart = None if apart is None else apart.detach()
        self._edit = None if edit is None else replace(edit, offset=float(offset))

    def start(self) -> list[Tensor]:
        return [torch.zeros_like(each) for each in self.inputs]

    def __call__(self, x: Tensor, rows: slice, weights: Tensor | None, gradients: list[Tensor]) -> Tensor:
        comparison = self._comparison
        mask = comparison.mask(rows.start, rows.stop, self._edit, x.dtype)
        losses, d_positive, d_offset = softmax_rows(
            x, mask, self._edit,
            diagonal=None if comparison.diagonal is None else comparison.diagonal + rows.start,
            positives=None if comparison.positives is None else comparison.positives[rows],
            apart=None if self._apart is None else self._apart[rows],
            weights=weights, offset_gradient=self._learns_offset,
        )  # fmt: skip
        if weights is not None:
            if self._learns_offset:
                gradients[0] += d_offset
            if self._apart is not None:
                gradients[1][rows] = d_positive
        return losses
