"""Which frames of sequences are so many steps apart: the positives of temporal contrastive learning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def check_lags(
    lags: int | Sequence[int], weights: Sequence[float] | None = None
) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Lags as a tuple, and the share of the positives that each of them gets, summing to 1.

    Args:
        lags: steps between anchor and positive, each >= 1; a single one or several different ones.
        weights: of the lags, >= 0, not all 0; None weighs them alike.

    Raises:
        TypeError: a lag that is not a whole number.
        ValueError: no lag, one below 1 or given twice, or weights that do not match.
    """
    given: list[Any] = list(lags) if isinstance(lags, Iterable) else [lags]
    for lag in given:
        if isinstance(lag, bool) or not isinstance(lag, (int, np.integer)):
            raise TypeError(f"a lag is a whole number of steps, got {lag!r}")
    wrong = [lag for lag in given if lag < 1]
    if not given or wrong or len(set(given)) < len(given):
        raise ValueError(
            f"lags must be different whole numbers of steps, each >= 1, got {', '.join(map(str, given)) or 'none'}"
        )
    shares = np.ones(len(given)) if weights is None else np.asarray(weights, dtype=np.float64)
    if shares.shape != (len(given),):
        raise ValueError(f"{len(given)} lags need as many weights, got {shares.size}: one for each lag")
    if not (np.isfinite(shares).all() and (shares >= 0).all() and shares.sum() > 0):
        raise ValueError(f"weights of lags must be finite, >= 0 and not all 0, got {shares.tolist()}")
    return tuple(int(lag) for lag in given), shares / shares.sum()


def steps_left(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many frames follow each frame in its sequence.

    Args:
        lengths: (S,) frames of every sequence, one sequence after the other.

    Returns:
        (N,) for the N frames of all sequences; frame i has a positive at lag h where this is at least h: frame i + h.
    """
    ends = np.cumsum(lengths)
    left: NDArray[np.int64] = np.repeat(ends, lengths) - 1 - np.arange(int(lengths.sum()))
    return left
