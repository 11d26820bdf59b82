"""Whether and how Triton kernels run here.

On a GPU the steps between the products are Triton kernels, each in a file beside its torch twin; the products
themselves are the GPU library's. A tile is small enough for the GPU's second-level cache, so a kernel may read its row
several times. Elsewhere, or without Triton, the twins run. With `TRITON_INTERPRET=1` Triton's interpreter runs the
kernels on the CPU, slowly.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

import torch
from torch import Tensor

WARPS = 8
_BLOCK = 2048
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

_FOUND = importlib.util.find_spec("triton") is not None
triton: Any = importlib.import_module("triton") if _FOUND else None
tl: Any = importlib.import_module("triton.language") if _FOUND else None


def runs_kernels(x: Tensor) -> bool:
    """Whether the kernels take this tensor: float32, on a GPU or under Triton's interpreter."""
    return triton is not None and x.dtype == torch.float32 and (x.is_cuda or _INTERPRETED)


def block_size(keys: int) -> int:
    """Entries of a row that are looked at at once."""
    return min(_BLOCK, max(16, 1 << (keys - 1).bit_length()))
