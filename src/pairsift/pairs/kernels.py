"""Selection by rank as a Triton kernel; imported only where it runs, see `selector.runs_kernels`.

The steps between matrix products are Triton kernels on a GPU, and PyTorch functions elsewhere or without Triton
(`selector.kth_largest`). A tile fits into the GPU's second-level cache, so a kernel may read its row several times.
With `TRITON_INTERPRET=1` Triton's interpreter runs the kernels on the CPU, slowly.
"""

# mypy: disable-error-code="no-untyped-def,no-untyped-call,untyped-decorator"
# (Triton takes no annotations but constexpr.)

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

WARPS = 8
_BLOCK = 2048


def block_size(keys: int) -> int:
    """Entries of a row that a kernel reads at once."""
    return min(_BLOCK, max(16, 1 << (keys - 1).bit_length()))


def mask_band(similarities: Tensor, edge_high: int, edge_low: int) -> Tensor:
    """Overwrite similarities with 1 where they lie in the band of their row (Eq. 12), else with 0.

    Args:
        similarities: (R, K) float32, contiguous, without nan.
        edge_high, edge_low: ranks of the band's edges, 1 = most similar.
    """
    rows, keys = similarities.shape
    _band_kernel[(rows,)](similarities, keys, edge_high, edge_low, BLOCK=block_size(keys), num_warps=WARPS)
    return similarities


@triton.jit
def _ordered(values):
    """Unsigned integers in the order of the floats."""
    bits = values.to(tl.uint32, bitcast=True)
    return tl.where(bits >> 31 == 1, bits ^ 0xFFFFFFFF, bits | 0x80000000)


@triton.jit
def _disordered(number):
    """The float of an integer from `_ordered`."""
    bits = tl.where(number >> 31 == 1, number & 0x7FFFFFFF, number ^ 0xFFFFFFFF)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _digit(count1, count2, count3, rank):
    """The largest base-4 digit at which at least `rank` values remain."""
    digit = tl.where(tl.sum(count1) >= rank, 1, 0)
    digit = tl.where(tl.sum(count2) >= rank, 2, digit)
    return tl.where(tl.sum(count3) >= rank, 3, digit).to(tl.uint32)


@triton.jit
def _band_kernel(similarities, keys, edge_high, edge_low, BLOCK: tl.constexpr):  # noqa: N803
    """Radix selection of both edges of one row, two bits a pass, and then the mask."""
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
