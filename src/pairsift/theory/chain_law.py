"""Joint laws of (state, next state) of a Markov chain: checks, the stationary distribution, and eigenpairs.

Eigenpairs of large sparse chains come from Lanczos iterations, which never make the matrix dense.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import LinearOperator, spsolve

from pairsift.theory.graph import FloatArray, IntArray
from pairsift.theory.population import leading_eigenpairs, solved_whole

Matrix: TypeAlias = Any
"""A dense float64 array or a scipy CSR array, (N, N)."""

# Rows of P and a given stationary distribution must be exact to this tolerance. The remaining error is normalised away.
_SLACK = 1e-8
# Eigenvalues of a dense solver that differ by less are equal, and those that are no larger are 0.
ROUNDING = 1e-10


class TimeMode(NamedTuple):
    """A mode of a chain, which decays at one rate.

    Attributes:
        value: eigenvalue lambda.
        time: number of steps in which it decays to 1/e, `-1 / log |lambda|`. It is infinite for lambda = 1 or -1, and 0
            for lambda = 0.
        function: (N,), its value in every state. Under the stationary distribution its variance is 1 and its mean is 0,
            except for the constant first mode.
    """

    value: float
    time: float
    function: FloatArray


def as_matrix(given: Any, what: str) -> Matrix:
    """Check a square matrix of finite, non-negative numbers and convert it to float64, dense or CSR.

    Raises:
        ValueError: another shape, or an entry that is negative or not finite. The first one is named.
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
    """Check a transition matrix and scale its rows to sum to 1 exactly.

    Raises:
        ValueError: see `as_matrix`, or rows that do not sum to 1. The first one is named.
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
    """The positive stationary distribution, (N,): the given one, the uniform one where it is stationary, or a solution.

    Raises:
        ValueError: the given distribution is not stationary, or the chain has no unique positive one.
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
    # Fix pi_0 = 1. The other equations of pi P = pi determine the rest of an irreducible chain.
    if sparse.issparse(transition):
        matrix = sparse.eye_array(n - 1, format="csc") - sparse.csc_array(transition.T)[1:, 1:]
        rest = spsolve(matrix, transition[[0], 1:].toarray().ravel())
    else:
        rest = np.linalg.solve(np.eye(n - 1) - transition.T[1:, 1:], transition[0, 1:])
    pi = np.concatenate([[1.0], np.atleast_1d(rest)])
    if not (np.isfinite(pi).all() and pi.min() > 0):
        raise ValueError("the stationary distribution is lost to rounding: pass stationary")
    pi /= pi.sum()
    return pi


def as_joint(given: Any) -> Matrix:
    """Check weights of (state, next state) and scale them to a joint law that sums to 1.

    Raises:
        ValueError: see `as_matrix`, or states that no transition enters or leaves. The first one is named.
    """
    matrix = as_matrix(given, "the weight of transitions")
    degrees = np.asarray(matrix.sum(axis=0) + matrix.sum(axis=1)).ravel()
    never = np.flatnonzero(degrees == 0)
    if len(never):
        raise ValueError(
            f"state {never[0]} is never visited ({len(never)} such states of {len(degrees)}): leave them out and "
            "renumber the others, or estimate with smoothing > 0"
        )
    return matrix / matrix.sum()


def symmetric(joint: Matrix) -> Matrix:
    """(W + W^T) / 2, the part of a joint law that the loss depends on."""
    halves = (joint + joint.T) / 2
    return sparse.csr_array(halves) if sparse.issparse(halves) else halves


def scaled_rows(matrix: Matrix, factors: FloatArray) -> Matrix:
    """diag(factors) @ matrix."""
    if sparse.issparse(matrix):
        return sparse.csr_array(sparse.diags_array(factors) @ matrix)
    return factors[:, None] * matrix


def dense(matrix: Matrix) -> FloatArray:
    """The matrix as a dense array."""
    array: FloatArray = matrix.toarray() if sparse.issparse(matrix) else matrix
    return array


def normalized(weights: Matrix, pi: FloatArray) -> Matrix:
    """D^-1/2 W D^-1/2 of symmetric weights W with degrees pi."""
    scale = 1 / np.sqrt(pi)
    return scaled_rows(scaled_rows(weights, scale).T, scale)


def leading(weights: Matrix, floor: float, pi: FloatArray, k: int) -> tuple[FloatArray, FloatArray]:
    """The k largest eigenvalues, descending, and eigenvectors (N, k), of the normalised adjacency.

    Args:
        weights: (N, N) symmetric joint law, without the floor.
        floor: value that is added to every entry.
        pi: (N,) row sums, with the floor.
        k: from 1 to N.
    """
    n = len(pi)
    matrix, root = normalized(weights, pi), np.sqrt(floor / pi)
    if solved_whole(n, k):
        return leading_eigenpairs(dense(matrix) + np.outer(root, root), k)

    def times(vector: FloatArray) -> FloatArray:
        flat = vector.ravel()
        product: FloatArray = matrix @ flat + root * (root @ flat)
        return product

    return leading_eigenpairs(matrix if not floor else LinearOperator((n, n), matvec=times, dtype=np.float64), k)


def grouped(values: FloatArray) -> tuple[FloatArray, IntArray]:
    """Group descending values that are equal up to rounding: (values, multiplicities)."""
    starts = np.concatenate([[True], np.abs(np.diff(values)) > ROUNDING])
    group = np.cumsum(starts) - 1
    counts = np.bincount(group)
    return np.bincount(group, values) / counts, counts.astype(np.int64)


def decay_time(value: float) -> float:
    """Number of steps in which a mode decays to 1/e; see `TimeMode`."""
    size = abs(value)
    if size >= 1 - 1e-14:
        return math.inf
    return -1 / math.log(size) if size > ROUNDING else 0.0


def mixing_time(transition: Matrix, pi: FloatArray, distance: float) -> float:
    """The first t at which every row of P^t is within a total variation distance of pi, or infinity."""
    power, powers = dense(transition), []
    while _farthest(power, pi) > distance:
        powers.append(power)
        if len(powers) > 40:  # after 2^40 steps the chain is periodic or disconnected
            return math.inf
        power = power @ power
        power /= power.sum(axis=1, keepdims=True)
    if not powers:
        return 1
    # t lies in (2^(p-1), 2^p]. Add the largest powers that stay farther away than the distance.
    reached, steps = powers[-1], 1 << (len(powers) - 1)
    for exponent in range(len(powers) - 2, -1, -1):
        further = reached @ powers[exponent]
        if _farthest(further, pi) > distance:
            reached, steps = further, steps + (1 << exponent)
    return steps + 1


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
    """Row, column and value of the first wrong entry."""
    if not sparse.issparse(matrix):
        row, column = np.argwhere(wrong)[0].tolist()
        return row, column, float(matrix[row, column])
    entries = sparse.coo_array(matrix)
    first = int(np.argmax(wrong))
    return int(entries.coords[0][first]), int(entries.coords[1][first]), float(matrix.data[first])


def _farthest(rows: FloatArray, pi: FloatArray) -> float:
    return float(np.abs(rows - pi).sum(axis=1).max()) / 2
