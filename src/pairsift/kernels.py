"""Triton kernels for what is done to a tile between its products: selection, treatment, softmax, gradient.

The products themselves are the GPU library's. A tile is small enough for the GPU's second-level cache, so a kernel may
read its row several times. Elsewhere, or without Triton, the callers do the same by torch operations. With
`TRITON_INTERPRET=1` Triton's interpreter runs the kernels on the CPU, slowly.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# (Triton takes no annotations but constexpr.)

from __future__ import annotations

import importlib.util
import os

import torch
from torch import Tensor

_NOTHING = -1e30  # as in the engine: leaves a log-sum-exp, and can be multiplied by 0
_BLOCK, _WARPS = 2048, 8
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

if importlib.util.find_spec("triton") is not None:
    import triton
    import triton.language as tl
else:
    triton = None


def runs_kernels(x: Tensor) -> bool:
    """Whether the kernels take this tensor: float32, on a GPU or under Triton's interpreter."""
    return triton is not None and x.dtype == torch.float32 and (x.is_cuda or _INTERPRETED)


def mask_band(similarities: Tensor, edge_high: int, edge_low: int) -> Tensor:
    """Overwrite similarities by 1 where they lie in the band of their row (Eq. 12), else 0.

    Args:
        similarities: (R, K) float32, contiguous, without nan.
        edge_high, edge_low: ranks of the band's edges, 1 = most similar.
    """
    rows, keys = similarities.shape
    _band_kernel[(rows,)](similarities, keys, edge_high, edge_low, BLOCK=_block(keys), num_warps=_WARPS)
    return similarities


def softmax_rows(
    x: Tensor, mask: Tensor | None, factor: float, offset: float, *,
    own: int | None, positives: Tensor | None, extra: Tensor | None, weights: Tensor | None, d_temperature: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The step of the tiled engine of the same name (losses/tiled.py), for float32, contiguous tensors."""
    rows, keys = x.shape
    losses, d_positive, colder = (x.new_empty(rows) for _ in range(3))
    _softmax_kernel[(rows,)](
        x, x if mask is None else mask, extra if positives is None else positives,
        losses if weights is None else weights, losses, d_positive, colder,
        keys, factor, offset, -1 if own is None else own,
        MASKED=mask is not None, OWN=own is not None, APART=positives is None, GRADIENT=weights is not None,
        COLDER=d_temperature, NOTHING=_NOTHING, BLOCK=_block(keys), num_warps=_WARPS,
    )  # fmt: skip
    return losses, d_positive, colder.sum() if d_temperature else colder


def _block(keys: int) -> int:
    """Entries of a row that are looked at at once."""
    return min(_BLOCK, max(16, 1 << (keys - 1).bit_length()))


if triton is not None:

    @triton.jit
    def _ordered(values):
        """Floats as unsigned numbers of the same order."""
        bits = values.to(tl.uint32, bitcast=True)
        return tl.where(bits >> 31 == 1, bits ^ 0xFFFFFFFF, bits | 0x80000000)

    @triton.jit
    def _disordered(number):
        """The float of an ordered number."""
        bits = tl.where(number >> 31 == 1, number & 0x7FFFFFFF, number ^ 0xFFFFFFFF)
        return bits.to(tl.float32, bitcast=True)

    @triton.jit
    def _digit(count1, count2, count3, rank):
        """The largest digit at which there are still as many values as the rank asks for."""
        digit = tl.where(tl.sum(count1) >= rank, 1, 0)
        digit = tl.where(tl.sum(count2) >= rank, 2, digit)
        return tl.where(tl.sum(count3) >= rank, 3, digit).to(tl.uint32)

    @triton.jit
    def _band_kernel(similarities, keys, edge_high, edge_low, BLOCK: tl.constexpr):  # noqa: N803
        """One row: both edges by radix selection, two bits a pass, then the mask."""
        row = similarities + tl.program_id(0).to(tl.int64) * keys
        high = tl.full((), 0, tl.uint32)
        low = tl.full((), 0, tl.uint32)
        unit = tl.full((), 1 << 30, tl.uint32)
        for _ in range(16):
            high1 = tl.zeros((BLOCK,), tl.int32)
            high2 = tl.zeros((BLOCK,), tl.int32)
            high3 = tl.zeros((BLOCK,), tl.int32)
            low1 = tl.zeros((BLOCK,), tl.int32)
            low2 = tl.zeros((BLOCK,), tl.int32)
            low3 = tl.zeros((BLOCK,), tl.int32)
            for start in range(0, keys, BLOCK):
                columns = start + tl.arange(0, BLOCK)
                value = tl.load(row + columns, mask=columns < keys, other=-float("inf"))
                # Beyond the row nothing is counted: every threshold below exceeds 0.
                number = tl.where(columns < keys, _ordered(value), 0)
                high1 += (number >= high + unit).to(tl.int32)
                high2 += (number >= high + 2 * unit).to(tl.int32)
                high3 += (number >= high + 3 * unit).to(tl.int32)
                low1 += (number >= low + unit).to(tl.int32)
                low2 += (number >= low + 2 * unit).to(tl.int32)
                low3 += (number >= low + 3 * unit).to(tl.int32)
            high += _digit(high1, high2, high3, edge_high) * unit
            low += _digit(low1, low2, low3, edge_low) * unit
            unit = unit >> 2
        upper, lower = _disordered(high), _disordered(low)
        for start in range(0, keys, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            value = tl.load(row + columns, mask=columns < keys, other=0.0)
            inside = (value >= lower) & (value < upper)
            tl.store(row + columns, inside.to(tl.float32), mask=columns < keys)

    @triton.jit
    def _treated(
        row, mask, columns, keys, factor, offset, own,
        MASKED: tl.constexpr, OWN: tl.constexpr, NOTHING: tl.constexpr,  # noqa: N803
    ):  # fmt: skip
        """Logits of some columns after treatment, and the factor of each."""
        logit = tl.load(row + columns, mask=columns < keys, other=NOTHING)
        scale = tl.full(logit.shape, 1.0, tl.float32)
        if MASKED:
            flag = tl.load(mask + columns, mask=columns < keys, other=0.0)
            scale += flag * (factor - 1)
            logit = logit * scale + flag * offset
        if OWN:
            logit = tl.where(columns == own, NOTHING, logit)
        return logit, scale

    @triton.jit
    def _softmax_kernel(
        logits, masks, positives, weights, losses, d_positives, colder,
        keys, factor, offset, first_own,
        MASKED: tl.constexpr, OWN: tl.constexpr, APART: tl.constexpr, GRADIENT: tl.constexpr,  # noqa: N803
        COLDER: tl.constexpr, NOTHING: tl.constexpr, BLOCK: tl.constexpr,  # noqa: N803
    ):  # fmt: skip
        """One row: its loss, and its plain logits overwritten by their gradients."""
        number = tl.program_id(0)
        row = logits + number.to(tl.int64) * keys
        mask = masks + number.to(tl.int64) * keys
        own = first_own + number

        # Largest logit and sum of exponentials of every lane, put together at the end of the row.
        peaks = tl.full((BLOCK,), NOTHING, tl.float32)
        sums = tl.zeros((BLOCK,), tl.float32)
        for start in range(0, keys, BLOCK):
            columns = start + tl.arange(0, BLOCK)
            logit, _ = _treated(row, mask, columns, keys, factor, offset, own, MASKED, OWN, NOTHING)
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
            found, _ = _treated(row, mask, column, keys, factor, offset, own, MASKED, OWN, NOTHING)
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
                logit, scale = _treated(row, mask, columns, keys, factor, offset, own, MASKED, OWN, NOTHING)
                gradient = tl.exp(logit - peak) * (weight / total)
                if not APART:
                    gradient = tl.where(columns == where, d_positive, gradient)
                if COLDER:
                    products += tl.where(columns < keys, gradient * logit, 0.0)
                tl.store(row + columns, gradient * scale, mask=columns < keys)
            if COLDER:
                product = tl.sum(products)
                if APART:
                    product += d_positive * positive
                tl.store(colder + number, product)
