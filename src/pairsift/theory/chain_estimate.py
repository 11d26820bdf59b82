"""How well an estimated chain is known: standard errors from the transitions it was counted from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from pairsift.theory.arrays import FloatArray
from pairsift.theory.chain import ChainGraph


@dataclass(frozen=True)
class ChainErrors:
    """Standard errors of an estimated chain.

    Attributes:
        eigenvalues: (k,) of the leading eigenvalues, to first order; 0 of the first, which is 1 in any chain. It does
            not hold inside a group of equal eigenvalues, which any error parts, and is not all of the error where there
            are few transitions for many states, which push the leading eigenvalues up.
        label_change: of phi; None without labels.
        transitions: (N, N) sparse, of the entries of P that were seen, as binomial shares of their row.
        clusters: sequences, or blocks of long ones, that were taken as independent.
    """

    eigenvalues: FloatArray
    label_change: float | None
    transitions: Any
    clusters: int


def estimation_errors(chain: ChainGraph, k: int, labels: Any = None) -> ChainErrors:
    """Standard errors of an estimated chain's eigenvalues, change of labels and transition probabilities.

    By the delta method, clustered by sequence: transitions of one sequence depend on each other, those of two do not.
    Sequences longer than a fiftieth of the data are cut into blocks.

    Args:
        chain: from `ChainGraph.from_sequences`.
        k: how many leading eigenvalues, from 1 to N.
        labels: (N,) class of every state, for `label_change`.

    Raises:
        ValueError: a chain that was not estimated, k out of range, or not one label a state.

    Example:
        >>> import numpy as np
        >>> from pairsift.theory import ChainGraph, estimation_errors
        >>> rng = np.random.default_rng(0)
        >>> walks = [np.abs(rng.integers(-1, 2, 50).cumsum()) % 5 for _ in range(100)]
        >>> errors = estimation_errors(ChainGraph.from_sequences(walks), k=3)
        >>> errors.clusters, bool(0 < errors.eigenvalues[1] < 0.05)
        (100, True)
    """
    seen = chain.observed
    if seen is None:
        raise ValueError("this chain is known, not estimated: only ChainGraph.from_sequences has errors")
    values, functions = chain.eigenfunctions(k)
    counted = float(seen.joint().sum()) - chain.floor * len(chain) ** 2  # the share that is not smoothing
    before, after = functions[seen.anchors], functions[seen.positives]
    # d lambda = u' dW u - lambda u' dD u, a mean over transitions.
    influence = before * after - values * (before**2 + after**2) / 2
    influence -= seen.weights @ influence
    change = None
    if labels is not None:
        chain.label_change(labels)  # checks them
        given = np.asarray(labels)
        differs = (given[seen.anchors] != given[seen.positives]).astype(float)[:, None]
        change = float(counted * seen.standard_error(differs - seen.weights @ differs)[0])
    errors = counted * seen.standard_error(influence)
    return ChainErrors(errors, change, _binomial(chain), int(seen.clusters.max()) + 1)


def _binomial(chain: ChainGraph) -> Any:
    seen = chain.observed
    assert seen is not None
    joint = seen.joint()
    total = np.bincount(seen.anchors, seen.weights, seen.n_states)
    squares = np.bincount(seen.anchors, seen.weights**2, seen.n_states)
    entries = sparse.coo_array(joint)
    rows = entries.coords[0]
    share = entries.data / total[rows]
    errors = np.sqrt(np.maximum(share * (1 - share), 0) * squares[rows]) / total[rows]
    return sparse.csr_array((errors, entries.coords), shape=joint.shape)
