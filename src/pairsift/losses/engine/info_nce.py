"""InfoNCE of rows against their positives and all other keys, with treated pairs: Eqs. 13 to 16."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pairsift.losses.engine.comparison import Comparison
from pairsift.losses.engine.opaque import opaque
from pairsift.losses.engine.softmax import softmax_rows
from pairsift.losses.engine.walk import by_tiles
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
    scaled, apart = rows / temperature, None if extra is None else extra / temperature
    edit = comparison.edit(temperature)
    if comparison.tile is None:
        losses = _whole(scaled @ comparison.keys.T, comparison, edit, apart)
        return losses if weight is None else losses.sum() * weight
    learned = None if edit is None or not isinstance(edit.offset, Tensor) else edit.offset.to(rows.dtype)

    def step(x: Tensor, part: slice, weights: Tensor | None, d_inputs: Sequence[Tensor]) -> Tensor:
        losses, d_positive, d_offset = softmax_rows(
            x, edit, comparison.mask(part, edit, x.dtype), comparison.log_weights(part, edit, x.dtype),
            diagonal=None if comparison.diagonal is None else comparison.diagonal + part.start,
            positives=None if comparison.positives is None else comparison.positives[part],
            apart=None if apart is None else apart.detach()[part],
            weights=weights, offset_gradient=learned is not None,
        )  # fmt: skip
        if weights is not None and apart is not None:
            d_inputs[0][part] = d_positive
        if weights is not None and learned is not None:
            d_inputs[-1].add_(d_offset)
        return losses

    inputs = [each for each in (apart, learned) if each is not None]
    return by_tiles(scaled, comparison.keys, step, comparison.tile, weight, inputs)


def _whole(logits: Tensor, comparison: Comparison, edit: Edit | None, apart: Tensor | None) -> Tensor:
    """Losses (B,) of plain logits (B, K), by autograd."""
    if edit is not None:
        every = slice(0, len(logits))
        mask, weights = (each(every, edit, logits.dtype) for each in (comparison.mask, comparison.log_weights))
        logits = edit.of(logits, mask, weights)
    if comparison.diagonal is not None:
        themselves = torch.arange(len(logits), device=logits.device) + comparison.diagonal
        logits = logits.scatter(1, themselves[:, None], NOTHING)
    if comparison.positives is not None:
        return logits.logsumexp(dim=1) - logits.gather(1, comparison.positives[:, None]).squeeze(1)
    assert apart is not None
    return torch.cat([apart[:, None], logits], dim=1).logsumexp(dim=1) - apart
