"""Edits of a chain's joint law: other lags, staying, states left out, transitions weighed down."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import numpy as np
from scipy import sparse

from pairsift.temporal.pairs import check_lags
from pairsift.theory.arrays import BoolArray, FloatArray
from pairsift.theory.chain_law import Matrix, dense, scaled_rows

Gap = Literal["break", "close"]


def lagged(joint: Matrix, transition: Matrix, lags: int | Sequence[int], weights: Sequence[float] | None) -> Matrix:
    """The joint law of states so many steps apart, lags mixed by their weights; see `ChainGraph.lagged`."""
    steps, shares = check_lags(lags, weights)
    power, done, mixed = joint, 1, None
    for lag, share in sorted(zip(steps, shares.tolist(), strict=True)):
        for _ in range(lag - done):
            power = power @ transition
        done, part = lag, power * share
        mixed = part if mixed is None else mixed + part
    return mixed


def lazy(joint: Matrix, pi: FloatArray, stay: float) -> Matrix:
    """The law of a chain that stays with some probability; see `ChainGraph.lazy`."""
    if not 0 <= stay < 1:
        raise ValueError(f"stay is a probability in [0, 1), got {stay}")
    held = sparse.diags_array(pi, format="csr") if sparse.issparse(joint) else np.diag(pi)
    return joint * (1 - stay) + held * stay


def dropped(joint: Matrix, transition: Callable[[], Matrix], states: Any, gap: Gap) -> Matrix:
    """The law without some states; see `ChainGraph.drop`."""
    if gap not in get_args(Gap):
        raise ValueError(f"gap must be 'break' or 'close', got {gap!r}")
    gone = _mask(states, joint.shape[0])
    kept = np.flatnonzero(~gone)
    if gap == "break" or not gone.any():
        return joint[kept][:, kept]
    probabilities, out = dense(transition()), np.flatnonzero(gone)
    back = np.linalg.solve(np.eye(len(out)) - probabilities[np.ix_(out, out)], probabilities[np.ix_(out, kept)])
    closed = probabilities[np.ix_(kept, kept)] + probabilities[np.ix_(kept, out)] @ back
    return scaled_rows(closed, np.asarray(joint.sum(axis=1)).ravel()[kept])


def edited(joint: Matrix, factors: Any) -> Matrix:
    """The law with every transition's weight times a factor; see `ChainGraph.edited`."""
    if np.shape(factors) != joint.shape:
        raise ValueError(f"factors must be {joint.shape}, one for each transition, got {np.shape(factors)}")
    return joint.multiply(factors) if sparse.issparse(joint) else joint * dense(factors)


def _mask(states: Any, n: int) -> BoolArray:
    given = np.asarray(states)
    if given.dtype == bool and given.shape != (n,):
        raise ValueError(f"states to drop must be ({n},) bool or state numbers, got shape {given.shape}")
    mask = np.zeros(n, bool)
    try:
        mask[given if given.size else given.astype(np.int64)] = True
    except IndexError as error:
        raise ValueError(f"states to drop must be numbers from 0 to {n - 1}: {error}") from error
    if mask.all():
        raise ValueError(f"all {n} states would be dropped: no chain is left")
    return mask
