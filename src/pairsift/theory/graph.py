"""The similarity graph of arXiv 2501.01317, Section 3, and its exact spectrum at any size.

Augmented examples are vertices, similarities are weights: 1 to itself, alpha in the class, beta between classes, gamma
between *difficult* examples of different classes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from pairsift.theory import closed_form, probe_bound
from pairsift.theory.arrays import BoolArray, FloatArray, IntArray
from pairsift.theory.cells import Cells
from pairsift.theory.closed_form import SlowMode


@dataclass(frozen=True)
class SimilarityGraph(Cells):
    """The similarity graph of r + 1 classes with n augmented examples each, n_d of them difficult.

    Vertices are ordered by class, inside a class the easy ones first. The paper uses two graphs without saying so
    (docs/theory-errata.md): in the "block" graph (Eq. 21 and all of its degrees) a difficult vertex is gamma-similar to
    all n_d difficult vertices of every other class; in the "matched" graph (the Kronecker form of Eq. 24) only to the
    one with its own index in every other class.

    Attributes:
        n: examples of a class, >= 1.
        r: classes minus one, >= 1.
        n_d: difficult examples of a class, 0 <= n_d <= n.
        alpha: similarity inside a class, <= 1.
        beta: similarity between classes, <= gamma; may be negative while all degrees stay positive.
        gamma: similarity between difficult examples of different classes, beta <= gamma < alpha.
        pairing: "block" or "matched".

    Raises:
        TypeError: a count is not a whole number or a level not a number.
        ValueError: a count or a level out of range, or a degree that is not positive.

    Example:
        >>> from pairsift.theory import SimilarityGraph
        >>> graph = SimilarityGraph(n=40, r=3, n_d=8, alpha=0.5, beta=0.1, gamma=0.3, pairing="block")
        >>> round(graph.eigenvalue(5), 5), round(graph.without_difficult().eigenvalue(5), 5)
        (0.11675, 0.01538)
    """

    def labels(self) -> IntArray:
        """Class of every vertex, (n (r + 1),)."""
        return np.repeat(np.arange(self.n_classes, dtype=np.int64), self.n)

    def difficult(self) -> BoolArray:
        """Which vertices are difficult, (n (r + 1),)."""
        return np.tile(np.arange(self.n) >= self.n - self.n_d, self.n_classes)

    def degrees(self) -> FloatArray:
        """Degree of every vertex, (n (r + 1),)."""
        return np.where(self.difficult(), self.difficult_degree, self.easy_degree)

    def difficult_pairs(self) -> BoolArray:
        """Which pairs have similarity gamma, (n (r + 1), n (r + 1))."""
        inside = np.zeros((self.n, self.n), bool)
        hard = slice(self.n - self.n_d, self.n)
        inside[hard, hard] = np.eye(self.n_d, dtype=bool) if self.pairing == "matched" else True
        pairs = np.tile(inside, (self.n_classes, self.n_classes))
        labels = self.labels()
        apart: BoolArray = pairs & (labels[:, None] != labels)
        return apart

    def adjacency(self) -> FloatArray:
        """A, (n (r + 1), n (r + 1)): Eq. 21 for the block graph, Eq. 24 for the matched one."""
        labels = self.labels()
        matrix = np.where(labels[:, None] == labels, self.alpha, self.beta)
        matrix[self.difficult_pairs()] = self.gamma
        np.fill_diagonal(matrix, 1.0)
        return matrix

    def normalized_adjacency(self) -> FloatArray:
        """A_bar = D^-1/2 A D^-1/2."""
        scale = 1 / np.sqrt(self.degrees())
        return self.adjacency() * (scale[:, None] * scale)

    def spectrum(self) -> tuple[FloatArray, IntArray]:
        """Eigenvalues of A_bar in closed form, in O(1): (values, multiplicities), values descending.

        Multiplicities sum to n (r + 1). Exact to rounding: the small eigenvalues come from determinants written
        without cancellation, so that they are right also where they are 10^-9 of the large ones.
        """
        return closed_form.spectrum(self)

    def eigenvalue(self, i: int) -> float:
        """The i-th largest eigenvalue of A_bar, counted from 1.

        Raises:
            ValueError: i outside [1, n (r + 1)].
        """
        if not 1 <= i <= len(self):
            raise ValueError(f"eigenvalues are numbered 1 to n (r + 1) = {len(self)}, got {i}")
        values, counts = self.spectrum()
        return float(values[np.searchsorted(np.cumsum(counts), i)])

    def bound(self, delta: float, k: int) -> float:
        """The exact `4 delta / (1 - lambda_{k+1}) + 8 delta`, a bound on the linear-probe error.

        Args:
            delta: labelling error, in [0, 1].
            k: feature dimension, 1 <= k < n (r + 1).

        Raises:
            ValueError: delta or k out of range.
        """
        probe_bound.check(len(self), delta, k)
        return probe_bound.from_eigenvalue(self.eigenvalue(k + 1), delta)

    def slow_modes(self) -> list[SlowMode]:
        """The eigenvalues after the r + 1 largest that difficult examples lift above the floor, and by how much.

        One in the block graph, n_d in the matched graph, none without difficult examples or with gamma = beta.
        """
        return closed_form.slow_modes(self)

    def without_difficult(self) -> SimilarityGraph:
        """The graph of the same size whose examples are all easy: what Thms 4.3 and 4.5 restore."""
        return replace(self, n_d=0)

    def remove_difficult(self) -> SimilarityGraph:
        """The smaller graph whose difficult examples were taken out (Cor 4.1).

        Raises:
            ValueError: no example would be left.
        """
        if self.n_d == self.n:
            raise ValueError(f"all n={self.n} examples of a class are difficult: removing them leaves no graph")
        return replace(self, n=self.n - self.n_d, n_d=0)
