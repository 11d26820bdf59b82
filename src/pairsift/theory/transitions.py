"""Transitions that are observed in sequences of states, with their weights and clusters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from pairsift.temporal.pairs import check_lags, steps_left
from pairsift.theory.graph import FloatArray, IntArray

# Sequences longer than a fiftieth of all frames are cut into blocks of at least 100 frames, which count as independent.
_BLOCKS, _LEAST = 50, 100


@dataclass(frozen=True)
class Transitions:
    """M observed transitions between N states.

    Attributes:
        anchors: (M,) states.
        positives: (M,) the states `lag` steps later.
        weights: (M,) weights of the transitions, which sum to 1.
        clusters: (M,) number of the sequence, or of the block of a long sequence, that holds each transition. Errors
            are correlated inside a cluster and independent between clusters.
        n_states: N.
    """

    anchors: IntArray
    positives: IntArray
    weights: FloatArray
    clusters: IntArray
    n_states: int

    def __len__(self) -> int:
        return len(self.anchors)

    def joint(self) -> Any:
        """The transitions' weights as a sparse (N, N) matrix that sums to 1."""
        shape = (self.n_states, self.n_states)
        return sparse.coo_array((self.weights, (self.anchors, self.positives)), shape=shape).tocsr()

    def standard_error(self, influence: FloatArray) -> FloatArray:
        """Standard errors of weighted means, from the influence of each transition on them.

        Args:
            influence: (M, Q) contributions whose weighted means are 0.

        Returns:
            (Q,). They are nan with fewer than two clusters.
        """
        count = int(self.clusters.max()) + 1
        if count < 2:
            return np.full(influence.shape[1], np.nan)
        belongs = sparse.coo_array((self.weights, (self.clusters, np.arange(len(self)))), shape=(count, len(self)))
        sums = belongs.tocsr() @ influence
        errors: FloatArray = np.sqrt(count / (count - 1) * (sums**2).sum(axis=0))
        return errors


def transitions(
    sequences: Sequence[Any], lags: int | Sequence[int], weights: Sequence[float] | None, n_states: int | None
) -> Transitions:
    """Collect the transitions of sequences at one or several lags; see `ChainGraph.from_sequences`.

    Raises:
        TypeError: states that are not whole numbers.
        ValueError: no sequences, states out of range, bad lags or weights, or a lag longer than any sequence.
    """
    steps, shares = check_lags(lags, weights)
    states, lengths = _joined(sequences, n_states)
    left, number = steps_left(lengths), np.repeat(np.arange(len(lengths)), lengths)
    anchors, positives, weighs, clusters = [], [], [], []
    for lag, share in zip(steps, shares.tolist(), strict=True):
        start = np.flatnonzero(left >= lag)
        if not len(start):
            longest = int(lengths.argmax())
            raise ValueError(
                f"lag {lag} is longer than any sequence: the longest, number {longest}, has {lengths[longest]} states, "
                f"and lag {lag} needs {lag + 1}"
            )
        anchors.append(states[start])
        positives.append(states[start + lag])
        weighs.append(np.full(len(start), share / len(start)))
        clusters.append(_blocks(number, lengths)[start])
    total = int(states.max()) + 1 if n_states is None else n_states
    clustered = np.unique(np.concatenate(clusters), return_inverse=True)[1]
    return Transitions(
        np.concatenate(anchors), np.concatenate(positives), np.concatenate(weighs), clustered.astype(np.int64), total
    )


def _joined(sequences: Sequence[Any], n_states: int | None) -> tuple[IntArray, IntArray]:
    """States of all sequences, concatenated, and the length of each sequence."""
    arrays = [np.asarray(each) for each in sequences]
    if not arrays:
        raise ValueError("there are no sequences: pass a list of arrays of states")
    for number, each in enumerate(arrays):
        if each.ndim != 1:
            raise ValueError(f"sequence {number} must be a (T,) array of states, got shape {each.shape}")
        if each.size and each.dtype.kind not in "iu":
            raise TypeError(
                f"sequence {number} must hold state numbers, got {each.dtype}: cluster frames to states first"
            )
    lengths = np.array([len(each) for each in arrays], dtype=np.int64)
    states = np.concatenate([each.astype(np.int64) for each in arrays])
    if not len(states):
        raise ValueError(f"all {len(arrays)} sequences are empty")
    if states.min() < 0 or (n_states is not None and states.max() >= n_states):
        wrong = int(np.argmax((states < 0) | (states >= (n_states or np.inf))))
        number = int(np.searchsorted(np.cumsum(lengths), wrong, side="right"))
        limit = "" if n_states is None else f" and below n_states={n_states}"
        raise ValueError(f"sequence {number} has state {states[wrong]}: states are numbered from 0{limit}")
    return states, lengths


def _blocks(number: IntArray, lengths: IntArray) -> IntArray:
    """The cluster of every frame, which is its sequence, or its block of a long sequence."""
    total = int(lengths.sum())
    most = max(_LEAST, total // _BLOCKS)
    place = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    clusters: IntArray = number * (total // most + 1) + place // most
    return clusters
