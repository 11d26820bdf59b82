"""Positives from time: sequences of frames, pairs a few steps apart, and a selector that leaves out close frames."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pairsift.temporal.pairs import TemporalPairs, temporal_pairs
    from pairsift.temporal.sequences import FrameSet, by_row, load_sequences
    from pairsift.temporal.window import TemporalWindow, WindowMasks

__all__ = [
    "FrameSet", "TemporalPairs", "TemporalWindow", "WindowMasks", "by_row", "load_sequences", "temporal_pairs",
]  # fmt: skip

# Each name loads its own module: the window needs PyTorch alone, the sequences need the extra `data`.
_HOMES = {
    "FrameSet": "sequences", "TemporalPairs": "pairs", "TemporalWindow": "window", "WindowMasks": "window",
    "by_row": "sequences", "load_sequences": "sequences", "temporal_pairs": "pairs",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'pairsift.temporal' has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(f"pairsift.temporal.{_HOMES[name]}"), name)
    return value
