"""InfoNCE with treated pairs (Eqs. 13 to 16 of arXiv 2501.01317), and its gradient by tiles."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pairsift.losses.engine.comparison import Comparison
from pairsift.losses.engine.processes import opaque
from pairsift.losses.engine.walk import by_tiles
from pairsift.pairs.selector import runs_kernels
from pairsift.treatments import EXCLUDED, Edit


@opaque
def info_nce(
    rows: Tensor, temperature: float | Tensor, comparison: Comparison, extra: Tensor | None = None,
    weight: float | None = None,
) -> Tensor:  # fmt: skip
    """InfoNCE of every row.

    Args:
        rows: (B, d) unit rows.
        temperature: tau; a scalar tensor carries a gradient.
        comparison: the unit keys, and how rows are compared with them.
        extra: (B,) cosine similarities to positives that are not among the keys; these are never treated.
        weight: of every row in the returned sum, 1 / B for the mean; None returns the loss of each row.

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
    """Losses (B,) from plain logits (B, K), by autograd."""
    if edit is not None:
        every = slice(0, len(logits))
        mask, weights = (each(every, edit, logits.dtype) for each in (comparison.mask, comparison.log_weights))
        logits = edit.apply(logits, mask, weights)
    if comparison.diagonal is not None:
        themselves = torch.arange(len(logits), device=logits.device) + comparison.diagonal
        logits = logits.scatter(1, themselves[:, None], EXCLUDED)
    if comparison.positives is not None:
        return logits.logsumexp(dim=1) - logits.gather(1, comparison.positives[:, None]).squeeze(1)
    assert apart is not None
    return torch.cat([apart[:, None], logits], dim=1).logsumexp(dim=1) - apart


def softmax_rows(
    x: Tensor, edit: Edit | None, mask: Tensor | None, log_weights: Tensor | None, *, diagonal: int | None,
    positives: Tensor | None, apart: Tensor | None, weights: Tensor | None, offset_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Losses of a tile of rows; plain logits (R, K) are overwritten with their gradients.

    Args:
        x: (R, K) plain logits; overwritten with d(weighted loss) / d(plain logit), or without weights with anything.
        edit: of the logits; None changes none.
        mask, log_weights: see `Edit.apply`.
        diagonal: column of the first row itself, followed by the other rows; these logits are left out. None leaves
            none out.
        positives: (R,) columns of the positives; None takes their logits from `apart`.
        apart: (R,) logits of positives that are not among the keys.
        weights: (R,) weights of the rows; None computes no gradient.
        offset_gradient: whether the third result is computed.

    Returns:
        Losses (R,), their derivatives (R,) by the positives' logits, and their scalar derivative by the edit's offset.
        The last two mean nothing where they were not asked for.
    """
    if runs_kernels(x) and log_weights is None:
        from pairsift.losses.engine.softmax_kernel import softmax_rows_by_kernel

        return softmax_rows_by_kernel(
            x, edit, mask, diagonal=diagonal, positives=positives, apart=apart, weights=weights,
            offset_gradient=offset_gradient,
        )  # fmt: skip
    if edit is not None:
        edit.apply_(x, mask, log_weights)
    if diagonal is not None:
        x.diagonal(diagonal).fill_(EXCLUDED)
    peak = x.amax(dim=1, keepdim=True)
    if positives is not None:
        positive = x.gather(1, positives[:, None])
    else:
        assert apart is not None
        positive = apart[:, None]
        peak = torch.maximum(peak, positive)
    x.sub_(peak).exp_()
    total = x.sum(dim=1, keepdim=True)
    if positives is None:
        total += (positive - peak).exp()
    losses = total.log() + peak - positive
    if weights is None:
        return losses.squeeze(1), losses, losses
    # d loss_i / d logit_ik = softmax_ik - [k is the positive of i]
    weight = weights[:, None]
    x.mul_(weight / total)
    d_positive = weight * ((positive - peak).exp() / total - 1)
    if positives is not None:
        x.scatter_(1, positives[:, None], d_positive)
    d_offset = losses
    if mask is not None and offset_gradient:
        d_offset = torch.dot(x.view(-1), mask.view(-1))
    if edit is not None:
        edit.backward_(x, mask)
    return losses.squeeze(1), d_positive.squeeze(1), d_offset
