"""Chains and walks on them, for tests."""

from bisect import bisect_left

import numpy as np


def random_transition(n, seed, sparsity=0.0):
    """An irreducible (n, n) transition matrix, neither reversible nor with a uniform stationary distribution."""
    rng = np.random.default_rng(seed)
    matrix = rng.random((n, n)) ** 3 + 1e-3
    matrix[rng.random((n, n)) < sparsity] = 0
    matrix += np.eye(n, k=1) + np.eye(n, k=1 - n)  # one ring through all states
    return matrix / matrix.sum(axis=1, keepdims=True)


def walk(transition, steps, rng, at=0):
    """The states that a chain visits after the one it starts at."""
    # A list and bisect: numpy takes ten times as long for one number of a short row.
    cumulative, states = transition.cumsum(axis=1).tolist(), []
    for draw in rng.random(steps).tolist():
        at = min(bisect_left(cumulative[at], draw), len(cumulative) - 1)
        states.append(at)
    return np.array(states, int)
