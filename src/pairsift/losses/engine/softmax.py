"""The step of InfoNCE on one tile: treated logits, their softmax, the gradient by plain logits."""

from __future__ import annotations

import torch
from torch import Tensor

from pairsift.pairs.selector import runs_kernels
from pairsift.treatments import NOTHING, Edit


def softmax_rows(
    x: Tensor, edit: Edit | None, mask: Tensor | None, log_weights: Tensor | None, *, diagonal: int | None,
    positives: Tensor | None, apart: Tensor | None, weights: Tensor | None, offset_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Losses of a tile of rows; plain logits (R, K) are overwritten by their gradients.

    Args:
        x: (R, K) plain logits; leaves as d(weighted loss) / d(plain logit), or as scratch without weights.
        edit: what happens to pairs; None where nothing does.
        mask, log_weights: see `Edit.of`.
        diagonal: column of the first row itself, the others following, to be left out; None leaves none out.
        positives: (R,) columns of the positives; None where their logits come apart, in `apart` (R,).
        weights: (R,) weights of the rows; None wants no gradient.
        offset_gradient: whether the third result is wanted.

    Returns:
        Losses (R,); the derivatives by the positives' logits (R,); that by the edit's offset, a scalar. The last two
        mean nothing where they were not asked for.
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
        x.diagonal(diagonal).fill_(NOTHING)
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
        edit.chain_(x, mask)
    return losses.squeeze(1), d_positive.squeeze(1), d_offset
