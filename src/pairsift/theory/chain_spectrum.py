"""Eigenpairs of a chain's normalised adjacency: dense, or by Lanczos iterations that never make the matrix dense."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from scipy.sparse.linalg import LinearOperator

from pairsift.theory.arrays import FloatArray, IntArray
from pairsift.theory.chain_law import Matrix, dense, scaled_rows
from pairsift.theory.population import leading_eigenpairs, solved_whole

# Eigenvalues of a dense solver closer than this are one value, and those no larger are 0.
ROUNDING = 1e-10


class TimeMode(NamedTuple):
    """A mode of a chain: what it forgets at one rate.

    Attributes:
        value: eigenvalue lambda.
        time: steps in which it decays to 1/e, `-1 / log |lambda|`; infinite for lambda = 1 or -1, 0 for 0.
        function: (N,) its value in every state, of mean 0 (but for the first mode) and variance 1 under the stationary
            distribution.
    """

    value: float
    time: float
    function: FloatArray


def normalized(weights: Matrix, pi: FloatArray) -> Matrix:
    """D^-1/2 W D^-1/2 of symmetric weights W with degrees pi."""
    scale = 1 / np.sqrt(pi)
    return scaled_rows(scaled_rows(weights, scale).T, scale)


def leading(weights: Matrix, floor: float, pi: FloatArray, k: int) -> tuple[FloatArray, FloatArray]:
    """The k largest eigenvalues, descending, and eigenvectors (N, k), of the normalised adjacency.

    Args:
        weights: (N, N) symmetric joint law, without the floor.
        floor: what is added to every entry of it.
        pi: (N,) its row sums, the floor included.
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
    """Descending values with their multiplicities, those equal to rounding as one."""
    starts = np.concatenate([[True], np.abs(np.diff(values)) > ROUNDING])
    group = np.cumsum(starts) - 1
    counts = np.bincount(group)
    return np.bincount(group, values) / counts, counts.astype(np.int64)


def decay_time(value: float) -> float:
    """Steps to 1/e of a mode; see `TimeMode`."""
    size = abs(value)
    if size >= 1 - 1e-14:
        return math.inf
    return -1 / math.log(size) if size > ROUNDING else 0.0


def mixing_time(transition: Matrix, pi: FloatArray, distance: float) -> float:
    """The first t at which every row of P^t is within a total variation distance of pi; infinite if none is."""
    power, powers = dense(transition), []
    while _farthest(power, pi) > distance:
        powers.append(power)
        if len(powers) > 40:  # 2^40 steps: periodic, or in parts that never meet
            return math.inf
        power = power @ power
        power /= power.sum(axis=1, keepdims=True)
    if not powers:
        return 1
    # t lies in (2^(p-1), 2^p]: take the largest steps that do not arrive.
    reached, steps = powers[-1], 1 << (len(powers) - 1)
    for exponent in range(len(powers) - 2, -1, -1):
        further = reached @ powers[exponent]
        if _farthest(further, pi) > distance:
            reached, steps = further, steps + (1 << exponent)
    return steps + 1


def _farthest(rows: FloatArray, pi: FloatArray) -> float:
    return float(np.abs(rows - pi).sum(axis=1).max()) / 2
