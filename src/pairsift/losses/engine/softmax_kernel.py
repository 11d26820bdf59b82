"""`info_nce.softmax_rows` as a Triton kernel; imported only where it runs."""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# (Triton takes no annotations but constexpr.)

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from pairsift.pairs.kernels import WARPS, block_size
from pairsift.treatments import EXCLUDED, Edit


def softmax_rows_by_kernel(
    x: Tensor, edit: Edit | None, mask: Tensor | None, *, diagonal: int | None, positives: Tensor | None,
    apart: Tensor | None, weights: Tensor | None, offset_gradient: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """`softmax_rows` for float32, contiguous tensors; see there."""
    rows, keys = x.shape
    losses, d_positive, d_offsets = (x.new_empty(rows) for _ in range(3))
    factor, offset = (1.0, 0.0) if edit is None else (edit.factor, float(edit.offset))
    learns = offset_gradient and mask is not None and weights is not None
    _softmax_kernel[(rows,)](
        x, x if mask is None else mask, apart if positives is None else positives,
        losses if weights is None else weights, losses, d_positive, d_offsets,
        keys, factor, offset, -1 if diagonal is None else diagonal,
        MASKED=mask is not None, LEAVES_OUT=diagonal is not None, APART=positives is None,
        GRADIENT=weights is not None, OFFSET=learns,
        EXCLUDED=EXCLUDED, BLOCK=block_size(keys), num_warps=WARPS,
    )  # fmt: skip
    return losses, d_positive, d_offsets.sum() if learns else d_offsets


@triton.jit
def _treated(
    row, mask, columns, keys, factor, offset, itself,
    MASKED: tl.constexpr, LEAVES_OUT: tl.constexpr, EXCLUDED: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """Treated logits of some columns, and the factor of each."""
    logit = tl.load(row + columns, mask=columns < keys, other=EXCLUDED)
    scale = tl.full(logit.shape, 1.0, tl.float32)
    if MASKED:
        flag = tl.load(mask + columns, mask=columns < keys, other=0.0)
        scale += flag * (factor - 1)
        logit = logit * scale + flag * offset
    if LEAVES_OUT:
        logit = tl.where(columns == itself, EXCLUDED, logit)
    return logit, scale


@triton.jit
def _softmax_kernel(
    logits, masks, positives, weights, losses, d_positives, d_offsets,
    keys, factor, offset, first_diagonal,
    MASKED: tl.constexpr, LEAVES_OUT: tl.constexpr, APART: tl.constexpr, GRADIENT: tl.constexpr,  # noqa: N803
    OFFSET: tl.constexpr, EXCLUDED: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
):  # fmt: skip
    """The loss of one row; its plain logits are overwritten with their gradients."""
    number = tl.program_id(0)
    row = logits + number.to(tl.int64) * keys
    mask = masks + number.to(tl.int64) * keys
    itself = first_diagonal + number

    # Largest logit and sum of exponentials of every lane, combined at the end of the row.
    peaks = tl.full((BLOCK,), EXCLUDED, tl.float32)
    sums = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, keys, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        logit, _ = _treated(row, mask, columns, keys, factor, offset, itself, MASKED, LEAVES_OUT, EXCLUDED)
        higher = tl.maximum(peaks, logit)
        sums = sums * tl.exp(peaks - higher) + tl.where(columns < keys, tl.exp(logit - higher), 0.0)
        peaks = higher
    peak = tl.max(peaks)
    where = -1
    if APART:
        positive = tl.load(positives + number)
        peak = tl.maximum(peak, positive)
    else:
        where = tl.load(positives + number).to(tl.int32)
        column = where + tl.arange(0, 1)
        found, _ = _treated(row, mask, column, keys, factor, offset, itself, MASKED, LEAVES_OUT, EXCLUDED)
        positive = tl.sum(found)
    total = tl.sum(sums * tl.exp(peaks - peak))
    if APART:
        total += tl.exp(positive - peak)
    tl.store(losses + number, tl.log(total) + peak - positive)

    if GRADIENT:
        weight = tl.load(weights + number)
        d_positive = weight * (tl.exp(positive - peak) / total - 1)
        tl.store(d_positives + number, d_positive)
        products = tl.zeros((BLOCK,), tl.float32)
        for start in range(0, keys, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            logit, scale = _treated(row, mask, columns, keys, factor, offset, itself, MASKED, LEAVES_OUT, EXCLUDED)
            gradient = tl.exp(logit - peak) * (weight / total)
            if not APART:
                gradient = tl.where(columns == where, d_positive, gradient)
            if OFFSET:
                flag = tl.load(mask + columns, mask=columns < keys, other=0.0)
                products += flag * gradient
            tl.store(row + columns, gradient * scale, mask=columns < keys)
        if OFFSET:
            tl.store(d_offsets + number, tl.sum(products))
