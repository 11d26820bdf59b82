"""Intervals over seeds or draws."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats


def t_interval(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Mean and half-width of its 95 % t interval, nan for a single value."""
    sample = np.asarray(values, dtype=np.float64)
    count = len(sample)
    half = stats.t.ppf(0.975, count - 1) * sample.std(ddof=1) / math.sqrt(count) if count > 1 else math.nan
    return float(sample.mean()), float(half)


def rounded_interval(values: Sequence[float]) -> dict[str, float]:
    """`t_interval` to two digits, as results are written."""
    mean, half = t_interval(values)
    return {"mean": round(mean, 2), "half_width": round(half, 2)}
