"""What a chain's joint law of (state, next state) is made of: checked matrices, and the stationary distribution."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import spsolve

from pairsift.theory.arrays import FloatArray

Matrix: TypeAlias = Any
"""A dense float64 array or a scipy CSR array, (N, N)."""

# Rows of P, and a given stationary distribution, must fit to this; what is left is normalised away.
_SLACK = 1e-8


def as_matrix(given: Any, what: str) -> Matrix:
    """A square matrix of finite numbers that are not negative, as float64: dense, or CSR where it is sparse.

    Raises:
        ValueError: another shape, or the first entry that is negative or not finite.
    """
    matrix: Matrix = sparse.csr_array(given, dtype=np.float64) if sparse.issparse(given) else np.array(given, float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.shape[0] == 0:
        raise ValueError(f"{what} must be a square matrix that is not empty, got shape {matrix.shape}")
    entries = matrix.data if sparse.issparse(matrix) else matrix
    for wrong, words in ((~np.isfinite(entries), "not finite"), (entries < 0, "negative")):
        if wrong.any():
            row, column, value = _first(matrix, wrong)
            raise ValueError(f"{what} from state {row} to state {column} is {words}: {value}")
    return matrix


def as_transition(given: Any) -> Matrix:
    """A transition matrix whose rows sum to 1 to rounding.

    Raises:
        ValueError: see `as_matrix`; rows that do not sum to 1, the first one by its number.
    """
    matrix = as_matrix(given, "the transition probability")
    sums = np.asarray(matrix.sum(axis=1)).ravel()
    wrong = np.flatnonzero(np.abs(sums - 1) > _SLACK)
    if len(wrong):
        raise ValueError(
            f"row {wrong[0]} of the transition matrix sums to {sums[wrong[0]]:.6g}, not 1 ({len(wrong)} such rows): "
            "pass counts or weights to ChainGraph.from_joint"
        )
    return scaled_rows(matrix, 1 / sums)


def stationary_of(transition: Matrix, given: Any = None) -> FloatArray:
    """The stationary distribution, (N,), positive: the given one if it is one, the uniform one if it is, or solved for.

    Raises:
        ValueError: the given one is none, or there is no single one with every state in it.
    """
    n = transition.shape[0]
    if given is not None:
        pi: FloatArray = np.array(given, dtype=np.float64)
        if pi.shape != (n,) or not np.isfinite(pi).all() or pi.min() <= 0 or abs(pi.sum() - 1) > _SLACK:
            raise ValueError(
                f"stationary must be ({n},) positive probabilities that sum to 1: leave out states with probability 0"
            )
        off = np.abs(transition.T @ pi - pi).max()
        if off > _SLACK:
            raise ValueError(f"stationary is not kept by the transitions: pi P differs from pi by {off:.3g}")
        pi /= pi.sum()
        return pi
    if np.abs(np.asarray(transition.sum(axis=0)).ravel() - 1).max() <= 1e-12:
        return np.full(n, 1 / n)
    _refuse_reducible(transition)
    # pi P = pi with pi_0 = 1: the other equations determine the rest of an irreducible chain.
    if sparse.issparse(transition):
        matrix = sparse.eye_array(n - 1, format="csc") - sparse.csc_array(transition.T)[1:, 1:]
        rest = spsolve(matrix, transition[[0], 1:].toarray().ravel())
    else:
        rest = np.linalg.solve(np.eye(n - 1) - transition.T[1:, 1:], transition[0, 1:])
    pi = np.concatenate([[1.0], np.atleast_1d(rest)])
    if not (np.isfinite(pi).all() and pi.min() > 0):
        raise ValueError("the stationary distribution cannot be told from rounding: pass stationary")
    pi /= pi.sum()
    return pi


def as_joint(given: Any) -> Matrix:
    """Weights of (state, next state) as a joint law that sums to 1.

    Raises:
        ValueError: see `as_matrix`; states that no transition enters or leaves, the first one by its number.
    """
    matrix = as_matrix(given, "the weight of transitions")
    degrees = np.asarray(matrix.sum(axis=0) + matrix.sum(axis=1)).ravel()
    never = np.flatnonzero(degrees == 0)
    if len(never):
        raise ValueError(
            f"state {never[0]} is never visited ({len(never)} such states of {len(degrees)}): leave them out and "
            "number the others anew, or estimate with smoothing > 0"
        )
    return matrix / matrix.sum()


def symmetric(joint: Matrix) -> Matrix:
    """(W + W^T) / 2, what the loss sees of a joint law."""
    halves = (joint + joint.T) / 2
    return sparse.csr_array(halves) if sparse.issparse(halves) else halves


def scaled_rows(matrix: Matrix, factors: FloatArray) -> Matrix:
    """diag(factors) times a matrix."""
    if sparse.issparse(matrix):
        return sparse.csr_array(sparse.diags_array(factors) @ matrix)
    return factors[:, None] * matrix


def dense(matrix: Matrix) -> FloatArray:
    """A matrix as an array."""
    array: FloatArray = matrix.toarray() if sparse.issparse(matrix) else matrix
    return array


def _refuse_reducible(transition: Matrix) -> None:
    count, component = connected_components(sparse.csr_array(transition), directed=True, connection="strong")
    if count == 1:
        return
    rows, columns = sparse.coo_array(transition).coords
    leaving = np.unique(component[rows[component[rows] != component[columns]]])
    closed = np.setdiff1d(np.arange(count), leaving)
    if len(closed) > 1:
        raise ValueError(
            f"the chain falls into {len(closed)} sets of states that it never leaves, so it has no single stationary "
            "distribution: pass stationary"
        )
    lost = np.flatnonzero(component != closed[0])
    raise ValueError(
        f"state {lost[0]} is left for good ({len(lost)} such states of {len(component)}), so its stationary "
        "probability is 0: leave them out"
    )


def _first(matrix: Matrix, wrong: NDArray[np.bool_]) -> tuple[int, int, float]:
    """Row, column and value of the first entry that is wrong."""
    if not sparse.issparse(matrix):
        row, column = np.argwhere(wrong)[0].tolist()
        return row, column, float(matrix[row, column])
    entries = sparse.coo_array(matrix)
    first = int(np.argmax(wrong))
    return int(entries.coords[0][first]), int(entries.coords[1][first]), float(matrix.data[first])
