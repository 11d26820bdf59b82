"""The state graph of a Markov chain, which contrastive learning on neighbours in time factorises (arXiv 2312.00966)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from scipy import sparse

from pairsift.temporal.pairs import check_lags
from pairsift.theory import population
from pairsift.theory.bounds import Bound
from pairsift.theory.chain_law import (
    ROUNDING,
    Matrix,
    TimeMode,
    as_joint,
    as_transition,
    decay_time,
    dense,
    grouped,
    leading,
    mixing_time,
    normalized,
    scaled_rows,
    stationary_of,
    symmetric,
)
from pairsift.theory.graph import BoolArray, FloatArray, IntArray, SimilarityGraph, check_bound_arguments
from pairsift.theory.transitions import Transitions, transitions

Gap = Literal["break", "close"]


class ChainGraph:
    """A graph with states as vertices and joint probabilities of (state, next state) as weights.

    The spectral loss with positives one step apart is `||A_bar - F F^T||^2 - ||A_bar||^2`. A_bar is the normalised
    adjacency of `W = (diag(pi) P + its transpose) / 2`, whose degrees are the stationary distribution pi. The paper
    assumes that P is reversible and pi uniform, where A_bar = P. Neither is needed, because the loss depends on the
    symmetric part only and pi is its weight. Unlike an augmentation graph, a chain may have negative eigenvalues.
    `F F^T` cannot fit them, so at most `usable_dimensions` features have an effect. An even lag or a lazy chain has no
    negative eigenvalues.

    Args:
        transition: (N, N) P with rows that sum to 1, an array or a scipy sparse matrix. A sparse matrix stays sparse.
        stationary: (N,) pi. None takes the uniform distribution where it is stationary, and solves for pi otherwise.

    Attributes:
        joint: (N, N) probabilities of (state, next state). It is symmetric only for a reversible chain, and sparse
            where P is.
        floor: value that smoothing adds to every entry of `joint`.
        stationary: (N,) pi.
        observed: the transitions that the chain was estimated from, or None.

    Raises:
        ValueError: P is not square, has an entry that is negative or not finite, or has a row that does not sum to 1;
            pi is not stationary, or the chain has no unique positive stationary distribution.

    Example:
        >>> import numpy as np
        >>> chain = ChainGraph(np.kron(np.eye(2), np.full((2, 2), 0.4)) + 0.05)
        >>> chain.eigenvalues(3).round(5).tolist()
        [1.0, 0.8, 0.0]
        >>> labels = np.array([0, 0, 1, 1])
        >>> round(float(chain.bound(labels, k=2)), 4), chain.probe_error(labels, k=2)
        (0.2, 0.0)
    """

    def __init__(self, transition: Any, stationary: Any = None) -> None:
        matrix = as_transition(transition)
        self.stationary = stationary_of(matrix, stationary)
        self.joint, self.floor = scaled_rows(matrix, self.stationary), 0.0
        self.observed: Transitions | None = None

    @classmethod
    def from_joint(cls, weights: Any) -> ChainGraph:
        """The chain with the given weights of (state, next state). pi is the mean of the two marginals.

        Args:
            weights: (N, N) counts or probabilities, >= 0, dense or scipy sparse. They need not be symmetric.

        Raises:
            ValueError: weights that are not square, negative or not finite, or a state that is never visited.
        """
        chain = cls.__new__(cls)
        chain.joint, chain.floor, chain.observed = as_joint(weights), 0.0, None
        chain.stationary = np.asarray(symmetric(chain.joint).sum(axis=1)).ravel()
        return chain

    @classmethod
    def from_sequences(
        cls, sequences: Sequence[Any], lags: int | Sequence[int] = 1, weights: Sequence[float] | None = None, *,
        smoothing: float = 0.0, n_states: int | None = None,
    ) -> ChainGraph:  # fmt: skip
        """Estimate the chain from sequences of states; `estimation_errors` gives standard errors.

        Time and memory grow with the number of transitions and of distinct pairs of states, not with N^2.

        Args:
            sequences: arrays (T,) of state numbers from 0. No transition crosses from one sequence to the next.
            lags: steps between anchor and positive. The laws of several lags are mixed.
            weights: shares of the lags. None gives all lags the same share.
            smoothing: number of transitions added to each state, spread evenly over all states, >= 0. It connects
                states that were never seen together and lowers all eigenvalues except the first.
            n_states: N. None takes one more than the largest state in the sequences.

        Raises:
            TypeError: states that are not whole numbers.
            ValueError: no sequences, states out of range or (without smoothing) never visited, lags < 1 or longer than
                every sequence, weights that do not match the lags, or negative smoothing.
        """
        if not (np.isfinite(smoothing) and smoothing >= 0):
            raise ValueError(
                f"smoothing must be finite and >= 0, a number of transitions for each state, got {smoothing}"
            )
        seen = transitions(sequences, lags, weights, n_states)
        if not smoothing:
            chain = cls.from_joint(seen.joint())
        else:
            chain, share = cls.__new__(cls), len(seen) / (len(seen) + smoothing * seen.n_states)
            chain.joint, chain.floor = seen.joint() * share, (1 - share) / seen.n_states**2
            degrees = np.asarray(symmetric(chain.joint).sum(axis=1)).ravel()
            chain.stationary = degrees + chain.floor * seen.n_states
        chain.observed = seen
        return chain

    @classmethod
    def from_similarity(cls, graph: SimilarityGraph) -> ChainGraph:
        """The reversible chain `P = D^-1 A` of a similarity graph. It has the same spectrum, and pi is D / sum(D).

        Raises:
            ValueError: a negative similarity.
        """
        return cls.from_joint(graph.adjacency())

    def __len__(self) -> int:
        return len(self.stationary)

    def transition(self) -> Any:
        """P, (N, N): the joint law with rows that sum to 1. It is sparse for a sparse chain without smoothing.

        Raises:
            ValueError: a state without an observed successor, because it only ends sequences.
        """
        joint = self._whole()
        sums = np.asarray(joint.sum(axis=1)).ravel()
        if sums.min() <= 0:
            raise ValueError(
                f"no transition out of state {int(sums.argmin())} was seen: leave it out, or estimate with "
                "smoothing > 0"
            )
        return scaled_rows(joint, 1 / sums)

    def adjacency(self) -> FloatArray:
        """W, dense (N, N), symmetric with row sums pi: the adjacency that `theory.population` takes."""
        return dense(symmetric(self.joint)) + self.floor

    def normalized_adjacency(self) -> FloatArray:
        """A_bar = D^-1/2 W D^-1/2, dense (N, N)."""
        matrix: FloatArray = normalized(self.adjacency(), self.stationary)
        return matrix

    def eigenvalues(self, k: int | None = None) -> FloatArray:
        """The k largest eigenvalues of A_bar, descending. None returns all of them in O(N^3).

        Raises:
            ValueError: k outside [1, N].
        """
        return self._leading(len(self) if k is None else k)[0]

    def eigenvalue(self, i: int) -> float:
        """The i-th largest eigenvalue, counted from 1.

        Raises:
            ValueError: i outside [1, N].
        """
        return float(self.eigenvalues(i)[-1])

    def spectrum(self) -> tuple[FloatArray, IntArray]:
        """All eigenvalues as (values, multiplicities), values descending. Values within 1e-10 are grouped."""
        return grouped(self.eigenvalues())

    @property
    def usable_dimensions(self) -> int:
        """k+, the number of positive eigenvalues. Further features of the spectral loss stay 0."""
        return int((self.eigenvalues() > ROUNDING).sum())

    @property
    def asymmetry(self) -> float:
        """`sum |W - W^T| / 2` of the joint law, in [0, 1]. It is 0 for a reversible chain."""
        return float(abs(self.joint - self.joint.T).sum() / 2)

    def mixing_time(self, distance: float = 0.25) -> float:
        """Number of steps after which every start is within a total variation distance of pi, or infinity.

        The computation is dense, O(N^3 log t).

        Raises:
            ValueError: a distance outside (0, 1), or see `transition`.
        """
        if not 0 < distance < 1:
            raise ValueError(f"a total variation distance to reach lies between 0 and 1, got {distance}")
        return mixing_time(self.transition(), self.stationary, distance)

    def eigenfunctions(self, k: int) -> tuple[FloatArray, FloatArray]:
        """The k largest eigenvalues, descending, and their eigenfunctions, (N, k).

        The functions are orthonormal under the stationary distribution. They are the eigenvectors of A_bar divided by
        sqrt(pi).

        Raises:
            ValueError: k outside [1, N].
        """
        values, vectors = self._leading(k)
        return values, vectors / np.sqrt(self.stationary)[:, None]

    def slow_modes(self, k: int) -> list[TimeMode]:
        """The k slowest modes of the symmetrised chain after the constant one, by descending eigenvalue.

        Raises:
            ValueError: k outside [1, N - 1].
        """
        values, functions = self.eigenfunctions(k + 1)
        return [TimeMode(float(values[i]), decay_time(values[i]), functions[:, i]) for i in range(1, k + 1)]

    def optimal_features(self, k: int) -> FloatArray:
        """The minimiser of the spectral loss, (N, k): leading eigenfunctions times the roots of their eigenvalues.

        Columns of eigenvalues that are not positive are 0. The minimiser is unique up to a rotation where
        lambda_k > lambda_{k+1}.

        Raises:
            ValueError: k outside [1, N].
        """
        values, functions = self.eigenfunctions(k)
        return functions * np.sqrt(np.maximum(values, 0))

    def label_change(self, labels: Any) -> float:
        """phi, the probability that one step changes the label. It is twice `population.labelling_error`.

        Args:
            labels: (N,) class of every state.

        Raises:
            ValueError: the labels are not one per state.
        """
        return float(self.stationary @ self.bridging(labels))

    def bridging(self, labels: Any) -> FloatArray:
        """Probability for every state that a neighbour in time, before or after, has another label: (N,).

        Raises:
            ValueError: the labels are not one per state.
        """
        numbers = self._numbers(labels)
        onehot = np.eye(numbers.max() + 1)[numbers]
        towards = symmetric(self.joint) @ onehot + self.floor * onehot.sum(axis=0)
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
        used = min(k, int((values > ROUNDING).sum()))
        holds = bool(values[used] < 1 - ROUNDING)
        value = 2 * phi / (1 - float(values[used])) if holds else float("inf")
        words = f"lambda_{used + 1} = {values[used]:.4g} < 1 with k' = {used} of k = {k}"
        return Bound("STCL", float(values[used]), value, holds, words + ("; vacuous, >= 1" if value >= 1 else ""))

    def probe_error(self, labels: Any, k: int) -> float:
        """The exact error of the least-squares probe on `optimal_features(k)`; see `population.linear_probe_error`."""
        return population.linear_probe_error(self.adjacency(), self.optimal_features(k), self._numbers(labels))

    def lagged(self, lags: int | Sequence[int], weights: Sequence[float] | None = None) -> ChainGraph:
        """The chain of positives at another lag, or at a mixture of lags: P^lag, symmetrised afterwards.

        Eigenvalues of a reversible chain become `lambda^lag`. A lag that shares a factor with a period of the chain
        disconnects its graph. With sequences, estimate at that lag instead, because a chain of clustered states is
        rarely Markov.

        Args:
            lags: one or several different numbers of steps, >= 1.
            weights: shares of the lags. None gives all lags the same share.

        Raises:
            TypeError, ValueError: lags or weights that do not fit, or see `transition`.
        """
        return self.from_joint(_lagged(self._whole(), self.transition(), lags, weights))

    def lazy(self, stay: float = 0.5) -> ChainGraph:
        """The chain that stays with probability `stay`, with eigenvalues `stay + (1 - stay) lambda`.

        No eigenvalue is negative from stay = 1/2 on.

        Raises:
            ValueError: stay outside [0, 1).
        """
        return self.from_joint(_lazy(self._whole(), self.stationary, stay))

    def drop(self, states: Any, gap: Gap = "break") -> ChainGraph:
        """The chain without some states.

        Args:
            states: (N,) bool, or state numbers.
            gap: "break" removes transitions that touch the states, as `temporal.temporal_pairs` does for dropped
                frames. "close" makes the neighbours across the gap new positives. Most label changes survive that, so
                it serves comparisons only.

        Returns:
            The chain of the remaining states, in their order.

        Raises:
            ValueError: no state would remain, a state is unknown, or a remaining state is never visited.
        """
        return self.from_joint(_dropped(self._whole(), self.transition, states, gap))

    def edited(self, factors: Any) -> ChainGraph:
        """The chain with the weight of every transition multiplied by a factor. Factor 0 removes it.

        Args:
            factors: (N, N), >= 0. `np.where(hard[:, None] & hard, 0.5, 1)` halves the transitions between difficult
                states.

        Raises:
            ValueError: another shape, negative factors, or a state that is no longer visited.
        """
        return self.from_joint(_edited(self._whole(), factors))

    def _whole(self) -> Any:
        """The joint law with its floor, dense where the floor is not 0."""
        return dense(self.joint) + self.floor if self.floor else self.joint

    def _leading(self, k: int) -> tuple[FloatArray, FloatArray]:
        if not 1 <= k <= len(self):
            raise ValueError(f"a chain of {len(self)} states has eigenvalues 1 to {len(self)}, asked for {k}")
        return leading(symmetric(self.joint), self.floor, self.stationary, k)

    def _numbers(self, labels: Any) -> IntArray:
        given = np.asarray(labels)
        if given.shape != (len(self),):
            raise ValueError(f"labels must be ({len(self)},), one for each state, got shape {given.shape}")
        return np.unique(given, return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True)
class ChainErrors:
    """Standard errors of an estimated chain.

    Attributes:
        eigenvalues: (k,) for the leading eigenvalues, to first order. The first is 0, because every chain has the
            eigenvalue 1. The values do not hold inside a group of equal eigenvalues, which any error splits. With few
            transitions for many states they omit a bias, which raises the leading eigenvalues.
        label_change: for phi; None without labels.
        transitions: (N, N) sparse, for the observed entries of P, as binomial shares of their row.
        clusters: number of sequences, or blocks of long sequences, that count as independent.
    """

    eigenvalues: FloatArray
    label_change: float | None
    transitions: Any
    clusters: int


def estimation_errors(chain: ChainGraph, k: int, labels: Any = None) -> ChainErrors:
    """Standard errors of the eigenvalues, label change and transition probabilities of an estimated chain.

    They follow by the delta method, clustered by sequence: transitions of one sequence are dependent, and those of two
    sequences are not. Sequences longer than a fiftieth of the data are cut into blocks.

    Args:
        chain: from `ChainGraph.from_sequences`.
        k: number of leading eigenvalues, from 1 to N.
        labels: (N,) class of every state, for `label_change`.

    Raises:
        ValueError: the chain was not estimated, k is out of range, or the labels are not one per state.

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
    counted = float(seen.joint().sum()) - chain.floor * len(chain) ** 2  # the share without smoothing
    before, after = functions[seen.anchors], functions[seen.positives]
    # d lambda = u' dW u - lambda u' dD u is a mean over transitions.
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


def _lagged(joint: Matrix, transition: Matrix, lags: int | Sequence[int], weights: Sequence[float] | None) -> Matrix:
    """The joint law of states at the given lags, mixed by their weights; see `ChainGraph.lagged`."""
    steps, shares = check_lags(lags, weights)
    power, done, mixed = joint, 1, None
    for lag, share in sorted(zip(steps, shares.tolist(), strict=True)):
        for _ in range(lag - done):
            power = power @ transition
        done, part = lag, power * share
        mixed = part if mixed is None else mixed + part
    return mixed


def _lazy(joint: Matrix, pi: FloatArray, stay: float) -> Matrix:
    """The joint law of the lazy chain; see `ChainGraph.lazy`."""
    if not 0 <= stay < 1:
        raise ValueError(f"stay is a probability in [0, 1), got {stay}")
    held = sparse.diags_array(pi, format="csr") if sparse.issparse(joint) else np.diag(pi)
    return joint * (1 - stay) + held * stay


def _dropped(joint: Matrix, transition: Callable[[], Matrix], states: Any, gap: Gap) -> Matrix:
    """The joint law without some states; see `ChainGraph.drop`."""
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


def _edited(joint: Matrix, factors: Any) -> Matrix:
    """The joint law with weighted transitions; see `ChainGraph.edited`."""
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
