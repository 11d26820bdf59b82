"""The similarity graph of arXiv 2501.01317, Section 3, with its exact spectrum at any size.

The vertices are augmented examples and the weights are similarities: 1 of an example to itself, alpha inside a class,
beta between classes, and gamma between *difficult* examples of different classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]
Pairing = Literal["block", "matched"]

# Eigenvalues closer than this (relative) count as one value, so that rounding does not split a multiplicity.
_SAME = 1e-13


class SlowMode(NamedTuple):
    """An eigenvalue that difficult examples lift above the floor `(1 - alpha) / c2` of the graph without them.

    Attributes:
        value: the eigenvalue.
        multiplicity: how many of them come after the r + 1 largest eigenvalues.
        lift: distance from the floor.
    """

    value: float
    multiplicity: int
    lift: float


@dataclass(frozen=True)
class SimilarityGraph:
    """The similarity graph of r + 1 classes with n augmented examples each, n_d of them difficult.

    Vertices are ordered by class, and inside a class the easy examples come first. The paper uses two graphs without
    distinguishing them (docs/theory-errata.md). In the "block" graph (Eq. 21 and all degrees of the paper) a difficult
    vertex is gamma-similar to all n_d difficult vertices of every other class. In the "matched" graph (the Kronecker
    form of Eq. 24) it is gamma-similar to one vertex of every other class, the one with its own index.

    Attributes:
        n: examples of a class, >= 1.
        r: classes minus one, >= 1.
        n_d: difficult examples of a class, 0 <= n_d <= n.
        alpha: similarity inside a class, <= 1.
        beta: similarity between classes, <= gamma. It may be negative while all degrees stay positive.
        gamma: similarity between difficult examples of different classes, beta <= gamma < alpha.
        pairing: "block" or "matched".

    Raises:
        TypeError: a count is not a whole number, or a level is not a number.
        ValueError: a count or a level is out of range, or a degree is not positive.

    Example:
        >>> from pairsift.theory import SimilarityGraph
        >>> graph = SimilarityGraph(n=40, r=3, n_d=8, alpha=0.5, beta=0.1, gamma=0.3, pairing="block")
        >>> round(graph.eigenvalue(5), 5), round(graph.without_difficult().eigenvalue(5), 5)
        (0.11675, 0.01538)
    """

    n: int
    r: int
    n_d: int
    alpha: float
    beta: float
    gamma: float
    pairing: Pairing = "block"

    def __post_init__(self) -> None:
        self._check_types()
        self._check_ranges()

    def __len__(self) -> int:
        return self.n * (self.r + 1)

    @property
    def n_classes(self) -> int:
        """Number of classes, r + 1."""
        return self.r + 1

    @property
    def excess(self) -> float:
        """Degree that a difficult vertex gains per other class: n_d (gamma - beta), or gamma - beta if matched."""
        partners = 0 if self.n_d == 0 else self.n_d if self.pairing == "block" else 1
        return partners * (self.gamma - self.beta)

    @property
    def easy_degree(self) -> float:
        """c2 = (1 - alpha) + n alpha + n r beta, also the degree of every vertex without difficult examples."""
        return (1 - self.alpha) + self.n * (self.alpha + self.r * self.beta)

    @property
    def difficult_degree(self) -> float:
        """c1 = c2 + r n_d (gamma - beta) in the block graph, c2 + r (gamma - beta) in the matched one."""
        return self.easy_degree + self.r * self.excess

    @property
    def volume(self) -> float:
        """Sum of all degrees. Weights divided by it are probabilities."""
        return self.n_classes * ((self.n - self.n_d) * self.easy_degree + self.n_d * self.difficult_degree)

    @property
    def floor(self) -> float:
        """(1 - alpha) / c2, the smallest eigenvalue of the graph without difficult examples (Thm 3.3)."""
        return (1 - self.alpha) / self.easy_degree

    def labels(self) -> IntArray:
        """Class of every vertex, (n (r + 1),)."""
        return np.repeat(np.arange(self.n_classes, dtype=np.int64), self.n)

    def difficult(self) -> BoolArray:
        """Mask of the difficult vertices, (n (r + 1),)."""
        return np.tile(np.arange(self.n) >= self.n - self.n_d, self.n_classes)

    def degrees(self) -> FloatArray:
        """Degree of every vertex, (n (r + 1),)."""
        return np.where(self.difficult(), self.difficult_degree, self.easy_degree)

    def difficult_pairs(self) -> BoolArray:
        """Mask of the pairs with similarity gamma, (n (r + 1), n (r + 1))."""
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
        """A_bar = D^-1/2 A D^-1/2, (n (r + 1), n (r + 1))."""
        scale = 1 / np.sqrt(self.degrees())
        return self.adjacency() * (scale[:, None] * scale)

    def spectrum(self) -> tuple[FloatArray, IntArray]:
        """Eigenvalues of A_bar in closed form, in O(1): (values, multiplicities), values descending.

        Multiplicities sum to n (r + 1). The values are exact to rounding. Small eigenvalues come from determinants that
        are written without cancellation, so they keep their digits even at 10^-9 of the large ones.
        """
        values: list[float] = []
        counts: list[int] = []
        for value, count in sorted(_modes(self), reverse=True):
            if values and math.isclose(value, values[-1], rel_tol=_SAME, abs_tol=1e-18):
                counts[-1] += count
            else:
                values.append(value)
                counts.append(count)
        return np.array(values), np.array(counts, dtype=np.int64)

    def eigenvalue(self, i: int) -> float:
        """The i-th largest eigenvalue of A_bar, counted from 1.

        Raises:
            ValueError: i outside [1, n (r + 1)].
        """
        if not 1 <= i <= len(self):
            raise ValueError(f"eigenvalues are numbered 1 to n (r + 1) = {len(self)}, got {i}")
        values, counts = self.spectrum()
        return float(values[np.searchsorted(np.cumsum(counts), i)])

    def slow_modes(self) -> list[SlowMode]:
        """The eigenvalues after the r + 1 largest that difficult examples lift above the floor.

        The block graph has one and the matched graph n_d. There are none without difficult examples or where
        gamma = beta.
        """
        floor, rank, modes = self.floor, 0, []
        for value, count in zip(*(array.tolist() for array in self.spectrum()), strict=True):
            after = count - max(0, min(count, self.n_classes - rank))
            rank += count
            if after and value > floor and not math.isclose(value, floor, rel_tol=_SAME):
                modes.append(SlowMode(value, after, value - floor))
        return modes

    def without_difficult(self) -> SimilarityGraph:
        """The graph of the same size with easy examples only. Thms 4.3 and 4.5 restore it."""
        return replace(self, n_d=0)

    def remove_difficult(self) -> SimilarityGraph:
        """The smaller graph that is left when the difficult examples are removed (Cor 4.1).

        Raises:
            ValueError: no example would be left.
        """
        if self.n_d == self.n:
            raise ValueError(f"all n={self.n} examples of a class are difficult: removing them leaves no graph")
        return replace(self, n=self.n - self.n_d, n_d=0)

    def _check_types(self) -> None:
        for name in ("n", "r", "n_d"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
                raise TypeError(f"{name} must be a whole number, got {value!r}")
            object.__setattr__(self, name, int(value))  # sums of numpy integers overflow silently, Python's do not
        for name in ("alpha", "beta", "gamma"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float, np.floating)):
                raise TypeError(f"{name} must be a number, got {value!r}")
            if not math.isfinite(value):
                raise ValueError(f"{name} must be finite, got {value}")
            object.__setattr__(self, name, float(value))

    def _check_ranges(self) -> None:
        if self.n < 1 or self.r < 1:
            raise ValueError(
                f"a graph needs n >= 1 examples a class and r >= 1 (two classes), got n={self.n}, r={self.r}"
            )
        if not 0 <= self.n_d <= self.n:
            raise ValueError(f"n_d must lie in [0, n = {self.n}], got n_d={self.n_d}")
        if not self.beta <= self.gamma < self.alpha <= 1:
            raise ValueError(
                f"levels must satisfy beta <= gamma < alpha <= 1, got alpha={self.alpha:.6g}, beta={self.beta:.6g}, "
                f"gamma={self.gamma:.6g}"
            )
        if self.pairing not in get_args(Pairing):
            raise ValueError(f"pairing must be 'block' or 'matched', got {self.pairing!r}")
        if not (self.easy_degree > 0 and self.difficult_degree > 0):
            raise ValueError(
                f"every degree must be positive, got {self.easy_degree:.6g} (easy) and {self.difficult_degree:.6g} "
                f"(difficult): beta={self.beta} is too negative for n={self.n}, r={self.r}"
            )


def _modes(graph: SimilarityGraph) -> list[tuple[float, int]]:
    """Eigenvalues with their multiplicities, in no order.

    The partition into (easy, difficult) cells is equitable. The spectrum is therefore that of two 2 x 2 matrices, one
    of them repeated, together with the contrasts inside cells. No matrix of the graph's size is needed.
    """
    easy, hard, r = graph.n - graph.n_d, graph.n_d, graph.r
    c1, c2, rest, extra = graph.difficult_degree, graph.easy_degree, 1 - graph.alpha, graph.excess
    same, apart = graph.alpha + r * graph.beta, graph.alpha - graph.beta
    modes = [(rest / c2, (r + 1) * (easy - 1))] if easy else []
    if hard and graph.pairing == "block":
        modes.append((rest / c1, (r + 1) * (hard - 1)))
    elif hard:
        # Contrasts between the indices of difficult examples, equal in all classes or summing to 0 over them.
        modes += [((rest + r * extra) / c1, hard - 1), ((rest - extra) / c1, r * (hard - 1))]
    # Constant on cells, the same in all classes: 1 and the determinant of the 2 x 2 matrix.
    modes.append((1.0, 1))
    if not hard:
        modes.append(((rest + easy * apart) / c2, r))
    elif not easy:
        modes.append(((rest + hard * apart - extra) / c1, r))
    else:
        modes.append(((rest * (rest + graph.n * same + r * extra) + easy * same * r * extra) / (c1 * c2), 1))
        # Constant on cells, summing to 0 over classes.
        first, second = (rest + easy * apart) / c2, (rest + hard * apart - extra) / c1
        determinant = (rest * (rest + graph.n * apart - extra) - easy * apart * extra) / (c1 * c2)
        coupling = easy * apart / c2 * (hard * apart / c1)
        half = math.sqrt(((first - second) / 2) ** 2 + coupling)
        large = (first + second) / 2 + math.copysign(half, first + second)
        modes += [(large, r), (determinant / large, r)] if large else [(0.0, 2 * r)]
    return [(value, count) for value, count in modes if count]
