"""Positive pairs of frames that are a given number of steps apart in one sequence (arXiv 2312.00966)."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairsift.data.errors import DataError

IntArray = NDArray[np.int64]
# Times may differ from their grid by this share of a step.
_OFF_GRID = 1e-3


@dataclass(frozen=True)
class TemporalPairs:
    """Positive pairs of N frames.

    Attributes:
        anchors: (M,) rows.
        positives: (M,) rows, later in the same sequence than their anchors.
        lags: (M,) steps from anchor to positive.
        weights: (M,) probabilities of the pairs, which sum to 1. The share of a lag is spread evenly over its pairs.
        sequences: (N,) number of the sequence of each row.
        times: (N,) step of each row in its sequence.
        short: name and number of frames of each sequence without a pair.
    """

    anchors: IntArray
    positives: IntArray
    lags: IntArray
    weights: NDArray[np.float64]
    sequences: IntArray = field(repr=False)
    times: IntArray = field(repr=False)
    short: dict[Any, int] = field(repr=False)

    def __len__(self) -> int:
        return len(self.anchors)


def temporal_pairs(
    sequences: Any, lags: int | Sequence[int] = 1, weights: Sequence[float] | None = None, *,
    times: Any = None, unit: float = 1.0, keep: Any = None,
) -> TemporalPairs:  # fmt: skip
    """Pair frames of one sequence that are one of the given numbers of steps apart.

    A frame that is missing or left out breaks its sequence in two, and no pair crosses the gap. A pair of the two
    neighbours of a difficult frame would keep most of the harm that the frame does.

    Args:
        sequences: (N,) number or name of the sequence of every row, in any order. Or a list of sequences, whose frames
            are numbered one sequence after the other.
        lags: steps from anchor to positive, one or several.
        weights: shares of the lags among the pairs. None gives all lags the same share.
        times: (N,) times of the rows. None takes the order of the rows in a sequence.
        unit: time of one step. Times must lie on a grid of this width, to a thousandth of a step.
        keep: (N,) bool, False for rows to leave out.

    Raises:
        TypeError: a lag is not a whole number.
        DataError: no rows, sequences or times of another shape or kind, two rows of one sequence at the same time, or a
            lag that is longer than any unbroken sequence.
        ValueError: lags below 1, or weights that do not match the lags.

    Warns:
        UserWarning: sequences without a pair.

    Example:
        >>> from pairsift.temporal import temporal_pairs
        >>> pairs = temporal_pairs(["a", "a", "a", "a", "b", "b", "b"], lags=2)
        >>> pairs.anchors.tolist(), pairs.positives.tolist()
        ([0, 1, 4], [2, 3, 6])
        >>> temporal_pairs([0, 0, 0, 0, 0, 0], keep=[True, True, True, False, True, True]).anchors.tolist()
        [0, 1, 4]
    """
    steps, shares = check_lags(lags, weights)
    names, numbers = _sequences(sequences)
    order, place = _in_order(names, numbers, times, unit)
    kept = order if keep is None else order[_mask(keep, len(numbers))[order]]
    number, when = numbers[kept], place[kept]
    broken = np.flatnonzero((np.diff(number) != 0) | (np.diff(when) != 1)) + 1
    lengths = np.diff(np.concatenate([[0], broken, [len(kept)]])).astype(np.int64)
    left = steps_left(lengths)
    starts = [np.flatnonzero(left >= lag) for lag in steps]
    for lag, start in zip(steps, starts, strict=True):
        if not len(start):
            first = int(lengths.argmax())
            where = names[number[int(lengths[:first].sum())]] if len(kept) else "none"
            raise DataError(
                f"lag {lag} is longer than any unbroken sequence: the longest, in {where!r}, has {lengths[first]} "
                f"frames, and lag {lag} needs {lag + 1}"
            )
    paired = np.zeros(len(names), bool)
    paired[number[np.concatenate(starts)]] = True
    frames = np.bincount(number, minlength=len(names))
    short = {names[i]: int(frames[i]) for i in np.flatnonzero(~paired)}
    if short:
        warnings.warn(
            f"{len(short)} of {len(names)} sequences give no pair, {next(iter(short))!r} the first of them: at lag "
            f"{min(steps)} a sequence needs {min(steps) + 1} frames in a row (all are in .short)",
            stacklevel=2,
        )
    return TemporalPairs(
        kept[np.concatenate(starts)], kept[np.concatenate([at + lag for at, lag in zip(starts, steps, strict=True)])],
        np.repeat(steps, [len(at) for at in starts]),
        np.concatenate([np.full(len(at), share / len(at)) for at, share in zip(starts, shares, strict=True)]),
        numbers, place, short,
    )  # fmt: skip


def _sequences(given: Any) -> tuple[list[Any], IntArray]:
    """Names of the sequences, and the number of the sequence of every row, (N,)."""
    if isinstance(given, (list, tuple)) and given and all(np.ndim(each) > 0 for each in given):
        lengths = [len(each) for each in given]
        return list(range(len(given))), np.repeat(np.arange(len(given)), lengths).astype(np.int64)
    ids = np.asarray(given)
    if ids.ndim != 1 or not len(ids):
        raise DataError(f"sequences must be (N,), the sequence of every row, or a list of sequences, got {ids.shape}")
    if ids.dtype.kind not in "iubU" and not (ids.dtype.kind == "O" and all(isinstance(each, str) for each in ids)):
        raise DataError(f"sequences must be whole numbers or names, got {ids.dtype}")
    names, numbers = np.unique(ids, return_inverse=True)
    return names.tolist(), numbers.astype(np.int64)


def _in_order(names: list[Any], numbers: IntArray, times: Any, unit: float) -> tuple[IntArray, IntArray]:
    """Rows sorted by sequence and time, and the step of every row in its sequence."""
    if times is None:
        order = np.argsort(numbers, kind="stable")
        counts = np.bincount(numbers, minlength=len(names))
        place = np.empty(len(numbers), np.int64)
        place[order] = np.arange(len(numbers)) - np.repeat(np.cumsum(counts) - counts, counts)
        return order, place
    when = np.asarray(times)
    if when.shape != numbers.shape or when.dtype.kind not in "iuf":
        raise DataError(f"times must be ({len(numbers)},) numbers, one for each row, got {when.dtype} {when.shape}")
    if not (np.isfinite(unit) and unit > 0):
        raise DataError(f"unit, the time of a step, must be finite and > 0, got {unit}")
    if not np.isfinite(when).all():
        raise DataError(f"row {int(np.argmin(np.isfinite(when)))} has a time that is not finite: leave such rows out")
    first = np.full(len(names), np.inf)
    np.minimum.at(first, numbers, when.astype(np.float64))
    exact = (when - first[numbers]) / unit
    place = np.rint(exact).astype(np.int64)
    off = np.abs(exact - place)
    if off.max() > _OFF_GRID:
        row = int(off.argmax())
        raise DataError(
            f"row {row} is {exact[row]:.6g} steps of unit={unit} after the first of its sequence: times must lie on a "
            "grid, so give the time of one step as unit, or resample"
        )
    order = np.lexsort((place, numbers))
    twice = np.flatnonzero((np.diff(numbers[order]) == 0) & (np.diff(place[order]) == 0))
    if len(twice):
        a, b = order[twice[0]], order[twice[0] + 1]
        raise DataError(f"rows {a} and {b} of sequence {names[numbers[a]]!r} have one time, {when[a]}: leave one out")
    return order, place


def _mask(keep: Any, n: int) -> NDArray[np.bool_]:
    mask = np.asarray(keep)
    if mask.shape != (n,) or mask.dtype != bool:
        raise DataError(f"keep must be ({n},) bool, one for each row, got {mask.dtype} {mask.shape}")
    if not mask.any():
        raise DataError(f"keep leaves none of {n} rows")
    return mask


def check_lags(
    lags: int | Sequence[int], weights: Sequence[float] | None = None
) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Check lags, and return them as a tuple with their shares, which sum to 1.

    Args:
        lags: one or several different numbers of steps, each >= 1.
        weights: weights of the lags, >= 0 and not all 0. None gives all lags the same share.

    Raises:
        TypeError: a lag is not a whole number.
        ValueError: no lag, a lag that is below 1 or given twice, or weights that do not match.
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
    """Number of frames that follow each frame in its sequence, (N,); frame i has a positive at lag h where it is >= h.

    Args:
        lengths: (S,) frames of every sequence, one sequence after the other.
    """
    ends = np.cumsum(lengths)
    left: NDArray[np.int64] = np.repeat(ends, lengths) - 1 - np.arange(int(lengths.sum()))
    return left
