"""Confidence intervals over seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats


def t_interval(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Mean of the values and half-width of its 95 % Student t interval.

    For runs that are paired by seed, give the differences of each pair.

    Args:
        values: (N,) one value per seed.

    Returns:
        ``(mean, half_width)``; the half-width of a single value is nan.

    Example:
        >>> mean, half = t_interval([1.0, 2.0, 3.0])
        >>> f"{mean:.2f} ± {half:.2f}"
        '2.00 ± 2.48'
    """
    sample = np.asarray(values, dtype=np.float64)
    count = len(sample)
    half = stats.t.ppf(0.975, count - 1) * sample.std(ddof=1) / math.sqrt(count) if count > 1 else math.nan
    return float(sample.mean()), float(half)
