"""The edges of a rank band: values at two ranks of every row."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def band_edges(similarities: Tensor, edge_high: int, edge_low: int) -> tuple[Tensor, Tensor]:
    """Values at two descending ranks of every row.

    Args:
        similarities: (R, K) float32.
        edge_high, edge_low: ranks, 1 = most similar, the first the smaller.

    Returns:
        (R, 1) each.
    """
    by = _by_quickselect if similarities.device.type == "cpu" else _by_kthvalue
    return by(similarities, edge_high, edge_low)


def _by_kthvalue(similarities: Tensor, edge_high: int, edge_low: int) -> tuple[Tensor, Tensor]:
    """Radix selection on accelerators."""
    size = similarities.shape[1]
    high = similarities.kthvalue(size - edge_high + 1, dim=1, keepdim=True).values
    low = similarities.kthvalue(size - edge_low + 1, dim=1, keepdim=True).values
    return high, low


def _by_quickselect(similarities: Tensor, edge_high: int, edge_low: int) -> tuple[Tensor, Tensor]:
    """numpy's vectorised quickselect, 10 to 20 times faster than torch's `kthvalue` on CPUs.

    One selection splits the row at the lower edge; the upper edge is then sought only among what lies above it.
    """
    cut = similarities.shape[1] - edge_low
    top = np.partition(similarities.numpy(), cut, axis=1)[:, cut:]
    low = top[:, :1].copy()
    cut = edge_low - edge_high
    high = np.partition(top, cut, axis=1)[:, cut : cut + 1]
    return torch.from_numpy(high), torch.from_numpy(low)
