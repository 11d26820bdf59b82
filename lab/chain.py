"""Markov chains whose neighbours in time are positive pairs (arXiv 2312.00966): their graph and its estimate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from pairsift.temporal.pairs import check_lags, steps_left
from pairsift.theory import population
from pairsift.theory.bounds import Bound, check_bound_arguments
from pairsift.theory.graph import BoolArray, FloatArray, IntArray

# Eigenvalues of a dense solver that are no larger than this are 0.
_ROUNDING = 1e-10
# A sequence longer than a fiftieth of all frames is cut into blocks of at least 100 frames, which count as independent.
_BLOCKS, _LEAST = 50, 100


class Transitions(NamedTuple):
    """M transitions that were observed in sequences of states.

    Attributes:
        anchors, positives: (M,) states, the second ones `lag` steps after the first ones.
        weights: (M,) weights of the transitions, which sum to 1.
        clusters: (M,) number of the sequence, or of the block of a long sequence, that holds each transition.
    """

    anchors: IntArray
    positives: IntArray
    weights: FloatArray
    clusters: IntArray


class ChainGraph:
    """A graph with states as vertices and joint probabilities of (state, next state) as weights.

    The spectral loss with positives one step apart is `||A_bar - F F^T||^2 - ||A_bar||^2`. A_bar is the normalised
    adjacency of `W = (J + J^T) / 2` for the joint law J, whose degrees are the weights pi of the states. The paper
    assumes a reversible chain and uniform pi, and neither is needed. Unlike an augmentation graph, a chain may have
    negative eigenvalues. `F F^T` cannot fit them, so at most `usable_dimensions` features have an effect.

    Args:
        weights: (N, N) counts or probabilities of (state, next state), >= 0, an array or a scipy sparse matrix, which
            stays sparse. They need not be symmetric.

    Attributes:
        joint: (N, N) joint law J.
        stationary: (N,) pi, the mean of the two marginals of J.
        observed: the transitions that the chain was estimated from, or None.

    Raises:
        ValueError: weights that are not square, negative or not finite, or a state that is never visited.

    Example:
        >>> import numpy as np
        >>> from lab.chain import ChainGraph
        >>> chain = ChainGraph(np.kron(np.eye(2), np.full((2, 2), 0.4)) + 0.05)
        >>> chain.eigenvalues(3).round(5).tolist()
        [1.0, 0.8, 0.0]
        >>> labels = np.array([0, 0, 1, 1])
        >>> round(float(chain.bound(labels, k=2)), 4), chain.probe_error(labels, k=2)
        (0.2, 0.0)
    """

    def __init__(self, weights: Any) -> None:
        held: Any = sparse.csr_array(weights, dtype=float) if sparse.issparse(weights) else np.array(weights, float)
        entries: Any = held.data if sparse.issparse(held) else held
        if held.ndim != 2 or held.shape[0] != held.shape[1] or not ((entries >= 0) & (entries < np.inf)).all():
            raise ValueError(f"weights must be a square matrix of finite numbers >= 0, got shape {held.shape}")
        degrees = np.asarray(held.sum(axis=0) + held.sum(axis=1)).ravel()
        if not degrees.all():
            raise ValueError(f"state {int((degrees == 0).argmax())} is never visited: leave it out")
        self.joint = held / held.sum()
        self._symmetric = (self.joint + self.joint.T) / 2
        self.stationary = np.asarray(self._symmetric.sum(axis=1)).ravel()
        self.observed: Transitions | None = None

    @classmethod
    def from_sequences(
        cls, sequences: Sequence[Any], lags: int | Sequence[int] = 1, weights: Sequence[float] | None = None, *,
        n_states: int | None = None,
    ) -> ChainGraph:  # fmt: skip
        """Estimate the chain from sequences of states; `estimation_errors` gives standard errors.

        Time and memory grow with the number of transitions and of distinct pairs of states, not with N^2.

        Args:
            sequences: arrays (T,) of state numbers from 0. No transition crosses from one sequence to the next.
            lags: steps between anchor and positive. The laws of several lags are mixed.
            weights: shares of the lags. None gives all lags the same share.
            n_states: N. None takes one more than the largest state in the sequences.

        Raises:
            ValueError: no transition at a lag, bad lags or weights, or a state that is never visited.
        """
        seen = _transitions(sequences, lags, weights)
        n = int(max(seen.anchors.max(), seen.positives.max())) + 1 if n_states is None else n_states
        chain = cls(sparse.coo_array((seen.weights, (seen.anchors, seen.positives)), shape=(n, n)).tocsr())
        chain.observed = seen
        return chain

    def __len__(self) -> int:
        return len(self.stationary)

    def adjacency(self) -> FloatArray:
        """W, dense (N, N), symmetric with row sums pi: the adjacency that `theory.population` takes."""
        matrix: FloatArray = self._symmetric.toarray() if sparse.issparse(self._symmetric) else self._symmetric
        return matrix

    def eigenvalues(self, k: int | None = None) -> FloatArray:
        """The k largest eigenvalues of A_bar, descending. None returns all of them in O(N^3)."""
        return self.eigenfunctions(len(self) if k is None else k)[0]

    @property
    def usable_dimensions(self) -> int:
        """k+, the number of positive eigenvalues. Further features of the spectral loss stay 0."""
        return int((self.eigenvalues() > _ROUNDING).sum())

    @property
    def asymmetry(self) -> float:
        """`sum |J - J^T| / 2` of the joint law, in [0, 1]. It is 0 for a reversible chain."""
        return float(abs(self.joint - self.joint.T).sum() / 2)

    def eigenfunctions(self, k: int) -> tuple[FloatArray, FloatArray]:
        """The k largest eigenvalues, descending, and their eigenfunctions, (N, k), orthonormal under pi.

        Raises:
            ValueError: k outside [1, N].
        """
        scale = 1 / np.sqrt(self.stationary)
        if population.solved_whole(len(self), k):
            matrix: Any = self.adjacency() * scale[:, None] * scale
        else:
            diagonal = sparse.diags_array(scale)
            matrix = diagonal @ sparse.csr_array(self._symmetric) @ diagonal
        values, vectors = population.leading_eigenpairs(matrix, k)
        return values, vectors * scale[:, None]

    def optimal_features(self, k: int) -> FloatArray:
        """The minimiser of the spectral loss, (N, k): leading eigenfunctions times the roots of their eigenvalues.

        Columns of eigenvalues that are not positive are 0. The minimiser is unique up to a rotation where
        lambda_k > lambda_{k+1}.
        """
        values, functions = self.eigenfunctions(k)
        return functions * np.sqrt(np.maximum(values, 0))

    def label_change(self, labels: Any) -> float:
        """phi, the probability that one step changes the label. It is twice `population.labelling_error`.

        Args:
            labels: (N,) class of every state.
        """
        return float(self.stationary @ self.bridging(labels))

    def bridging(self, labels: Any) -> FloatArray:
        """Probability for every state that a neighbour in time, before or after, has another label: (N,)."""
        numbers = self._numbers(labels)
        towards = self._symmetric @ np.eye(numbers.max() + 1)[numbers]
        differs: FloatArray = np.clip(1 - towards[np.arange(len(self)), numbers] / self.stationary, 0, 1)
        return differs

    def bound(self, labels: Any, k: int) -> Bound:
        """`2 phi / (1 - lambda_{k'+1})`, a bound on the error of the best linear probe on `optimal_features(k)`.

        k' = min(k, k+) is the number of features with an effect. With delta = phi / 2 this is the usual
        `4 delta / (1 - lambda) + 8 delta` without the second term, because labels belong to vertices here. Half of it
        bounds the squared error of the probe. The bound is derived here and not printed in arXiv 2312.00966.

        Args:
            labels: (N,) class of every state.
            k: feature dimension, 1 <= k < N.

        Raises:
            ValueError: the labels are not one per state, or k is out of range.
        """
        phi = self.label_change(labels)
        check_bound_arguments(len(self), phi, k)
        values = self.eigenvalues(k + 1)
        used = min(k, int((values > _ROUNDING).sum()))
        holds = bool(values[used] < 1 - _ROUNDING)
        value = 2 * phi / (1 - float(values[used])) if holds else math.inf
        words = f"lambda_{used + 1} = {values[used]:.4g} < 1 with k' = {used} of k = {k}"
        return Bound("STCL", float(values[used]), value, holds, words + ("; vacuous, >= 1" if value >= 1 else ""))

    def probe_error(self, labels: Any, k: int) -> float:
        """The exact error of the least-squares probe on `optimal_features(k)`; see `population.linear_probe_error`."""
        return population.linear_probe_error(self.adjacency(), self.optimal_features(k), self._numbers(labels))

    def _numbers(self, labels: Any) -> IntArray:
        given = np.asarray(labels)
        if given.shape != (len(self),):
            raise ValueError(f"labels must be ({len(self)},), one for each state, got shape {given.shape}")
        return np.unique(given, return_inverse=True)[1].astype(np.int64)


def estimation_errors(chain: ChainGraph, k: int, labels: Any = None) -> tuple[FloatArray, float | None]:
    """Standard errors of the k leading eigenvalues, (k,), and of the label change (None without labels).

    They follow by the delta method, clustered by sequence: transitions of one sequence are dependent, and those of two
    sequences are not. They do not hold inside a group of equal eigenvalues, which any error splits. With few
    transitions for many states they omit a bias, which raises the leading eigenvalues.

    Args:
        chain: from `ChainGraph.from_sequences`.
        k: number of leading eigenvalues, from 1 to N.
        labels: (N,) class of every state.

    Raises:
        ValueError: the chain was not estimated, or k is out of range.

    Example:
        >>> import numpy as np
        >>> from lab.chain import ChainGraph, estimation_errors
        >>> rng = np.random.default_rng(0)
        >>> walks = [np.abs(rng.integers(-1, 2, 50).cumsum()) % 5 for _ in range(100)]
        >>> errors, _ = estimation_errors(ChainGraph.from_sequences(walks), k=3)
        >>> bool(0 < errors[1] < 0.05)
        True
    """
    seen = chain.observed
    if seen is None:
        raise ValueError("this chain is known, not estimated: only ChainGraph.from_sequences has errors")
    values, functions = chain.eigenfunctions(k)
    before, after = functions[seen.anchors], functions[seen.positives]
    # d lambda = u' dW u - lambda u' dD u is a mean over transitions.
    errors = _standard_error(seen, before * after - values * (before**2 + after**2) / 2)
    if labels is None:
        return errors, None
    given = np.asarray(labels)
    differs = (given[seen.anchors] != given[seen.positives]).astype(float)
    return errors, float(_standard_error(seen, differs[:, None])[0])


def _standard_error(seen: Transitions, values: FloatArray) -> FloatArray:
    """Standard errors, (Q,), of the weighted means of (M, Q) values; nan with fewer than two clusters."""
    influence, count = values - seen.weights @ values, int(seen.clusters.max()) + 1
    if count < 2:
        return np.full(influence.shape[1], np.nan)
    belongs = sparse.coo_array((seen.weights, (seen.clusters, np.arange(len(seen.weights)))))
    errors: FloatArray = np.sqrt(count / (count - 1) * ((belongs.tocsr() @ influence) ** 2).sum(axis=0))
    return errors


def _transitions(sequences: Sequence[Any], lags: int | Sequence[int], weights: Sequence[float] | None) -> Transitions:
    steps, shares = check_lags(lags, weights)
    lengths = np.array([len(each) for each in sequences], dtype=np.int64)
    states, total = np.concatenate(sequences), int(lengths.sum())
    left, number = steps_left(lengths), np.repeat(np.arange(len(lengths)), lengths)
    most = max(_LEAST, total // _BLOCKS)
    place = np.arange(total) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    blocks = number * (total // most + 1) + place // most
    starts = [np.flatnonzero(left >= lag) for lag in steps]
    if not all(map(len, starts)):
        raise ValueError(f"a lag of {steps} is longer than any sequence: the longest has {lengths.max()} states")
    start = np.concatenate(starts)
    return Transitions(
        states[start], np.concatenate([states[at + lag] for at, lag in zip(starts, steps, strict=True)]),
        np.concatenate([np.full(len(at), share / len(at)) for at, share in zip(starts, shares.tolist(), strict=True)]),
        np.unique(blocks[start], return_inverse=True)[1].astype(np.int64),
    )  # fmt: skip


@dataclass(frozen=True)
class BridgedChain:
    """A chain of classes of states of which only bridging states, the difficult ones, leave their class.

    With probability 1 - eps a step draws a state of the class. With probability eps an easy state stays, and a bridging
    state goes to its namesake in another class drawn at random. Bridging raises the change of labels,
    `eps bridging / states`, and lowers the class modes to the next eigenvalue, which stays eps. The joint law is
    symmetric and the stationary distribution uniform.

    Attributes:
        classes: C >= 2.
        states: m of a class, >= 1.
        bridging: b of them, from 0 to m; the last of each class.
        eps: in [0, 1).

    Example:
        >>> from lab.chain import BridgedChain
        >>> BridgedChain(classes=4, states=8, bridging=2, eps=0.2).spectrum()[:5].round(5).tolist()
        [1.0, 0.94741, 0.94741, 0.94741, 0.2]
    """

    classes: int
    states: int
    bridging: int
    eps: float

    def __len__(self) -> int:
        return self.classes * self.states

    def labels(self) -> IntArray:
        """Class of every state, (N,)."""
        return np.repeat(np.arange(self.classes, dtype=np.int64), self.states)

    def difficult(self) -> BoolArray:
        """Which states are bridging, (N,)."""
        return np.tile(np.arange(self.states) >= self.states - self.bridging, self.classes)

    def transition(self) -> FloatArray:
        """P, (N, N), symmetric."""
        same = self.labels()[:, None] == self.labels()
        hard, index = self.difficult(), np.tile(np.arange(self.states), self.classes)
        hop = ~same & (index[:, None] == index) & hard
        matrix: FloatArray = same * (1 - self.eps) / self.states + hop * self.eps / (self.classes - 1)
        matrix[~hard, ~hard] += self.eps
        return matrix

    def spectrum(self) -> FloatArray:
        """All eigenvalues in closed form, descending, (N,)."""
        c, m, b, eps = self.classes, self.states, self.bridging, self.eps
        x = -1 / (c - 1)
        if b == 0:
            modes = [(1.0, c), (eps, c * (m - 1))]
        elif b == m:
            modes = [(1.0, 1), (1 - eps + eps * x, c - 1), (eps, m - 1), (eps * x, (c - 1) * (m - 1))]
        else:  # class contrasts, constant on the easy and on the bridging states of a class: two by two
            trace, determinant = 1 - eps + eps * (1 + x), (1 - eps) * eps * ((m - b) * x + b) / m + eps**2 * x
            half = math.sqrt(trace**2 / 4 - determinant)
            large = trace / 2 + half
            small = determinant / large if large else trace / 2 - half
            modes = [(1.0, 1), (large, c - 1), (small, c - 1), (eps, c * (m - b - 1) + b), (eps * x, (c - 1) * (b - 1))]
        values, counts = zip(*modes, strict=True)
        return np.sort(np.repeat(values, counts))[::-1]
