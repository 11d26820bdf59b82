"""The state graph of a Markov chain: what contrastive learning on neighbours in time factorises (arXiv 2312.00966)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from pairsift.theory import chain_edits, population
from pairsift.theory.arrays import FloatArray, IntArray
from pairsift.theory.bounds.statements import Bound
from pairsift.theory.chain_counts import Transitions, transitions
from pairsift.theory.chain_law import as_joint, as_transition, dense, scaled_rows, stationary_of, symmetric
from pairsift.theory.chain_spectrum import ROUNDING, TimeMode, decay_time, grouped, leading, mixing_time, normalized
from pairsift.theory.graph import SimilarityGraph
from pairsift.theory.probe_bound import check


class ChainGraph:
    """States as vertices, joint probabilities of (state, next state) as weights.

    The spectral loss with positives one step apart is `||A_bar - F F^T||^2 - ||A_bar||^2` for the normalised adjacency
    of `W = (diag(pi) P + its transpose) / 2`, whose degrees are the stationary distribution pi. The paper takes P
    reversible and pi uniform, where A_bar = P; neither is needed: the loss sees the symmetric part only, and pi weighs.
    A chain, unlike an augmentation graph, may have negative eigenvalues. `F F^T` cannot fit them, so no more than
    `usable_dimensions` features are ever of use; an even lag, or a lazy chain, mends that.

    Args:
        transition: (N, N) P, rows sum to 1; an array or a scipy sparse matrix, which stays sparse.
        stationary: (N,) pi; None takes the uniform one where P keeps it, and solves for it otherwise.

    Attributes:
        joint: (N, N) probabilities of (state, next state), not symmetric where the chain is not reversible; sparse
            where P is.
        floor: what smoothing adds to every entry of `joint`.
        stationary: (N,) pi.
        observed: the transitions that an estimate was made from, or None.

    Raises:
        ValueError: P is not square, negative, not finite, or has a row that does not sum to 1 (which is named); pi is
            not kept by P, or there is no single one with every state in it.

    Example:
        >>> from pairsift.theory import BridgedChain
        >>> family = BridgedChain(classes=4, states=8, bridging=2, eps=0.2)
        >>> chain = family.chain()
        >>> chain.eigenvalues(5).round(5).tolist()
        [1.0, 0.94741, 0.94741, 0.94741, 0.2]
        >>> round(float(chain.bound(family.labels(), k=4)), 4), chain.probe_error(family.labels(), k=4)
        (0.125, 0.0)
    """

    def __init__(self, transition: Any, stationary: Any = None) -> None:
        matrix = as_transition(transition)
        self.stationary = stationary_of(matrix, stationary)
        self.joint, self.floor = scaled_rows(matrix, self.stationary), 0.0
        self.observed: Transitions | None = None

    @classmethod
    def from_joint(cls, weights: Any) -> ChainGraph:
        """The chain of weights of (state, next state): counts, or a joint law; pi is the mean of its two marginals.

        Args:
            weights: (N, N), >= 0, dense or scipy sparse; it need not be symmetric.

        Raises:
            ValueError: not square, negative, not finite, or a state that is never visited.
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
        """The chain estimated from sequences of states; `estimation_errors` says how well it is known.

        Sparse: time and memory grow with the transitions and the pairs of states seen, not with N^2.

        Args:
            sequences: arrays (T,) of state numbers from 0; no transition crosses from one to the next.
            lags: steps between anchor and positive, one or several, whose laws are mixed.
            weights: shares of the lags; None weighs them alike.
            smoothing: transitions that are added to each state, evenly to all states; 0 leaves the counts alone. It
                connects what was never seen to be connected, and lowers all eigenvalues but the first.
            n_states: N; None takes the largest state that was seen.

        Raises:
            TypeError: states that are not whole numbers.
            ValueError: no sequences, states out of range or never visited (without smoothing), lags < 1 or longer than
                any sequence, weights that do not match the lags, or smoothing that is negative.
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
        """A similarity graph as a chain, `P = D^-1 A`: reversible, pi proportional to degrees, with the same spectrum.

        Raises:
            ValueError: a similarity that is negative.
        """
        return cls.from_joint(graph.adjacency())

    def __len__(self) -> int:
        return len(self.stationary)

    def transition(self) -> Any:
        """P, (N, N): the joint law with rows scaled to sum to 1; sparse where the chain is and was not smoothed.

        Raises:
            ValueError: a state that was seen last in its sequence only, from which nothing is known to follow.
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
        """W, dense (N, N), symmetric with row sums pi: what `theory.population` takes."""
        return dense(symmetric(self.joint)) + self.floor

    def normalized_adjacency(self) -> FloatArray:
        """A_bar = D^-1/2 W D^-1/2, dense (N, N)."""
        matrix: FloatArray = normalized(self.adjacency(), self.stationary)
        return matrix

    def eigenvalues(self, k: int | None = None) -> FloatArray:
        """The k largest eigenvalues of A_bar, descending; all for None, which takes O(N^3).

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
        """All eigenvalues as (values, multiplicities), values descending; those within 1e-10 count as one."""
        return grouped(self.eigenvalues())

    @property
    def usable_dimensions(self) -> int:
        """k+, the number of positive eigenvalues: further features of the spectral loss stay 0."""
        return int((self.eigenvalues() > ROUNDING).sum())

    @property
    def asymmetry(self) -> float:
        """`sum |W - W^T| / 2` of the joint law, in [0, 1]: 0 for a reversible chain."""
        return float(abs(self.joint - self.joint.T).sum() / 2)

    def mixing_time(self, distance: float = 0.25) -> float:
        """Steps of P after which every start is within a total variation distance of pi; infinite if none are enough.

        Dense, O(N^3 log t).

        Raises:
            ValueError: a distance outside (0, 1), or see `transition`.
        """
        if not 0 < distance < 1:
            raise ValueError(f"a total variation distance to reach lies between 0 and 1, got {distance}")
        return mixing_time(self.transition(), self.stationary, distance)

    def eigenfunctions(self, k: int) -> tuple[FloatArray, FloatArray]:
        """The k largest eigenvalues, descending, and their functions of the states, (N, k).

        Functions are orthonormal under the stationary distribution: eigenvectors of A_bar over the roots of pi.

        Raises:
            ValueError: k outside [1, N].
        """
        values, vectors = self._leading(k)
        return values, vectors / np.sqrt(self.stationary)[:, None]

    def slow_modes(self, k: int) -> list[TimeMode]:
        """The k modes after the constant one that the (symmetrised) chain forgets last, by descending eigenvalue.

        Raises:
            ValueError: k outside [1, N - 1].
        """
        values, functions = self.eigenfunctions(k + 1)
        return [TimeMode(float(values[i]), decay_time(values[i]), functions[:, i]) for i in range(1, k + 1)]

    def optimal_features(self, k: int) -> FloatArray:
        """The minimiser of the spectral loss, (N, k): leading eigenfunctions times the roots of their eigenvalues.

        Columns of eigenvalues that are not positive are 0. Unique up to a rotation where lambda_k > lambda_{k+1}.

        Raises:
            ValueError: k outside [1, N].
        """
        values, functions = self.eigenfunctions(k)
        return functions * np.sqrt(np.maximum(values, 0))

    def label_change(self, labels: Any) -> float:
        """phi, the probability that one step changes the label: twice `population.labelling_error`.

        Args:
            labels: (N,) class of every state.

        Raises:
            ValueError: not one label a state.
        """
        return float(self.stationary @ self.bridging(labels))

    def bridging(self, labels: Any) -> FloatArray:
        """Of every state the probability that a neighbour in time, before or after, has another label: (N,).

        Raises:
            ValueError: not one label a state.
        """
        numbers = self._numbers(labels)
        onehot = np.eye(numbers.max() + 1)[numbers]
        towards = symmetric(self.joint) @ onehot + self.floor * onehot.sum(axis=0)
        differs: FloatArray = np.clip(1 - towards[np.arange(len(self)), numbers] / self.stationary, 0, 1)
        return differs

    def bound(self, labels: Any, k: int) -> Bound:
        """`2 phi / (1 - lambda_{k'+1})`, a bound on the error of the best linear probe on `optimal_features(k)`.

        k' = min(k, k+) counts the features that are of use. With delta = phi / 2 this is the library's usual
        `4 delta / (1 - lambda) + 8 delta` without its second term, because labels belong to vertices here; half of it
        bounds the probe's squared error. Derived, not printed in arXiv 2312.00966.

        Args:
            labels: (N,) class of every state.
            k: feature dimension, 1 <= k < N.

        Raises:
            ValueError: not one label a state, or k out of range.
        """
        phi = self.label_change(labels)
        check(len(self), phi, k)
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
        """Positives so many steps apart, or a mixture of lags: of P^lag, symmetrised after.

        Eigenvalues of a reversible chain become `lambda^lag`. A lag that shares a factor with a period of the chain
        disconnects its graph. Where sequences are at hand, estimate from them at that lag instead: a chain of clustered
        states is rarely Markov.

        Args:
            lags: steps, one or several different ones, >= 1.
            weights: shares of the lags; None weighs them alike.

        Raises:
            TypeError, ValueError: lags or weights that do not fit, or see `transition`.
        """
        return self.from_joint(chain_edits.lagged(self._whole(), self.transition(), lags, weights))

    def lazy(self, stay: float = 0.5) -> ChainGraph:
        """The chain that stays with probability `stay`: eigenvalues `stay + (1 - stay) lambda`, none negative from 1/2.

        Raises:
            ValueError: stay outside [0, 1).
        """
        return self.from_joint(chain_edits.lazy(self._whole(), self.stationary, stay))

    def drop(self, states: Any, gap: chain_edits.Gap = "break") -> ChainGraph:
        """The chain without some states.

        Args:
            states: (N,) bool, or their numbers.
            gap: "break" leaves out transitions that touch them, as `temporal.temporal_pairs` does with dropped frames;
                "close" makes neighbours over the gap the new positives, by which most changes of label survive: for
                comparison only.

        Returns:
            The chain of the states kept, in their order.

        Raises:
            ValueError: no states would be left, unknown ones, or a state kept that nothing leads to.
        """
        return self.from_joint(chain_edits.dropped(self._whole(), self.transition, states, gap))

    def edited(self, factors: Any) -> ChainGraph:
        """A treatment: the weight of every transition times a factor, 0 to remove it.

        Args:
            factors: (N, N), >= 0. `np.where(hard[:, None] & hard, 0.5, 1)` halves what leads from one difficult state
                to another.

        Raises:
            ValueError: another shape, negative factors, or a state that nothing leads to any more.
        """
        return self.from_joint(chain_edits.edited(self._whole(), factors))

    def _whole(self) -> Any:
        """The joint law with its floor; dense where there is one."""
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
