"""Rows of features as selectors compare them: unit rows, and how many at a time."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Precision = Literal["fp32", "bf16"]

# Fewer rows make the products slower, more rows nothing faster (measured on 1,024 to 16,384 keys).
_MOST_ROWS = 256
# Entries of a tile of similarities, of which a few are held at a time: 64 MB each.
_TILE_ENTRIES = 2**24


def check_precision(precision: Precision) -> Precision:
    """Refuse an unknown precision."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be 'fp32' or 'bf16', got {precision!r}")
    return precision


def tile_rows(keys: int) -> int:
    """Rows of a tile against so many keys: 64 to 256."""
    return min(_MOST_ROWS, max(64, _TILE_ENTRIES // keys))


def unit_rows(features: Tensor, name: str) -> Tensor:
    """Rows scaled to unit length in float32; all-zero rows stay zero.

    Raises:
        TypeError: not floating point.
        ValueError: no (rows, dimensions) matrix, or not finite: cosine similarity cannot rank that.
    """
    if not features.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {features.dtype}")
    if features.dim() != 2 or 0 in features.shape:
        raise ValueError(f"{name} must be a non-empty (rows, dimensions) matrix, got shape {tuple(features.shape)}")
    if features.dtype in (torch.float16, torch.bfloat16):
        features = features.float()
    # Cosine is scale-free: dividing by the largest entry first keeps huge and tiny rows inside float32.
    peak = features.abs().amax(dim=1, keepdim=True)
    finite = peak.isfinite()
    if not bool(finite.all()):
        rows = (~finite).flatten().nonzero().flatten().tolist()
        raise ValueError(
            f"{name} row {rows[0]} is not finite ({len(rows)} of {len(features)} rows hold nan or inf); "
            "similarities cannot be ranked: look for a diverged encoder or an overflow in half precision"
        )
    scaled = features / peak.clamp_min(torch.finfo(features.dtype).tiny)
    return F.normalize(scaled.float(), dim=1)
