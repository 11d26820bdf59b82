"""Arrays and tensors of any type, shape, stride and content, and things that are none."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st

FLOATS = ("f4", "f8", "f2")
DTYPES = (*FLOATS, *FLOATS, *FLOATS, *FLOATS, ">f4", "g", "i8", "u1", "b1", "c8", "O", "U3", "M8[s]")
CONTENTS = ("normal", "normal", "normal", "integers", "zero", "one", "copies", "tiny", "huge", "mixed")
BAD = (np.nan, np.inf, -np.inf)
LAYOUTS = ("plain", "plain", "fortran", "reversed", "strided", "broadcast", "frozen")
seeds = st.integers(0, 2**32 - 1)
# Whether an input is of a kind that nobody should give.
rarely = st.integers(0, 3).map(lambda x: x == 3)
sizes = st.one_of(st.integers(0, 3), st.integers(4, 40), st.sampled_from([50, 64, 100]))
widths = st.one_of(st.integers(0, 3), st.integers(4, 20))
# Numbers as settings: sensible ones, edges, and what is no number.
numbers = st.one_of(
    st.floats(0, 1), st.integers(-2, 20), st.floats(allow_nan=True), st.sampled_from([0, 1, -1, 1e-300, 1e300, True]),
)  # fmt: skip
junk = st.sampled_from([
    None, "text", b"bytes", (), [], {}, [[1, 2], [3]], [["a"]], object(), datetime.date(2020, 1, 1), 3, 1.5,
    np.float64(1), np.array(5), np.zeros((2, 2, 2)), np.ma.masked_array([1.0, 2.0], [True, False]), "\x00", "",
])  # fmt: skip


def content(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> Any:
    """Float64 values of a kind."""
    values = rng.standard_normal(shape)
    if kind == "integers":
        values = rng.integers(-2, 3, shape).astype(float)
    elif kind in ("zero", "one"):
        values = np.full(shape, float(kind == "one"))
    elif kind == "copies" and len(shape) and shape[0]:
        values[rng.integers(0, shape[0], shape[0] // 2 + 1)] = values[0]
    elif kind in ("tiny", "huge"):
        values *= 1e-41 if kind == "tiny" else 1e37
    elif kind == "mixed" and len(shape) and shape[0]:
        values *= 10.0 ** rng.integers(-30, 30, (shape[0], *([1] * (len(shape) - 1))))
    return values


@st.composite
def arrays(draw: Any, rows: Any = sizes, columns: Any = widths, dtypes: Any = DTYPES, shape: Any = None) -> Any:
    """An array, mostly a matrix, of any dtype, layout and content."""
    if shape is None:
        dims = draw(st.sampled_from((*[2] * 24, 0, 1, 3)))
        shape = (draw(rows), draw(columns), draw(st.integers(0, 3)))[:dims]
    rng = np.random.default_rng(draw(seeds))
    values = content(rng, shape, draw(st.sampled_from(CONTENTS)))
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    if values.size and dtype.kind in "fcO" and draw(st.integers(0, 7)) == 7:
        values.flat[rng.integers(0, values.size)] = draw(st.sampled_from(BAD))
    with np.errstate(all="ignore"):
        array = np.nan_to_num(values).astype("i8").astype(dtype) if dtype.kind in "iubM" else values.astype(dtype)
    return laid_out(array, draw(st.sampled_from(LAYOUTS)))


def laid_out(array: Any, layout: str) -> Any:
    """The same values, or for a broadcast the first row's, in another layout."""
    if array.ndim == 0 or layout == "plain":
        return array
    if layout == "fortran":
        return np.asfortranarray(array)
    if layout == "reversed":
        return array[::-1].copy()[::-1]
    if layout == "strided":
        return np.repeat(array, 2, axis=0)[::2]
    if layout == "broadcast" and len(array):
        return np.broadcast_to(array[:1], array.shape)
    array.flags.writeable = False
    return array


TORCH = (torch.float32, torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64,
         torch.bool, torch.complex64)  # fmt: skip


@st.composite
def tensors(draw: Any, n: int, width: int, strange: bool = True) -> Any:
    """A tensor, mostly (n, width) and finite."""
    odd = strange and draw(st.integers(0, 7)) == 0
    shape: tuple[int, ...] = (n, width)
    if odd:
        shape = draw(st.sampled_from([(n + 1, width), (n, width + 1), (n,), (n, width, 2), (0, width), (n, 0)]))
    dtype = draw(st.sampled_from(TORCH)) if strange and draw(st.integers(0, 3)) == 0 else torch.float32
    rng = np.random.default_rng(draw(seeds))
    values = torch.from_numpy(np.asarray(content(rng, shape, draw(st.sampled_from(CONTENTS)))))
    if values.numel() and strange and draw(st.integers(0, 7)) == 0:
        values.view(-1)[int(rng.integers(0, values.numel()))] = draw(st.sampled_from(BAD))
    if not dtype.is_floating_point and not dtype.is_complex:
        values = values.nan_to_num()
    values = values.to(dtype)
    layout = draw(st.sampled_from(("plain", "plain", "transposed", "strided", "broadcast")))
    if layout == "transposed" and values.dim() == 2:
        return values.T.contiguous().T
    if layout == "strided":
        return values.repeat_interleave(2, dim=0)[::2]
    return values[:1].expand_as(values) if layout == "broadcast" and values.dim() and len(values) else values
