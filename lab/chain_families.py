"""Families of chains whose spectrum is known in closed form, at any size.

The joint law of every one is symmetric and the stationary distribution uniform, as in arXiv 2312.00966, so that
A_bar = P. The spectra are derived, and held against dense solvers in the tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pairsift.theory.chain import ChainGraph
from pairsift.theory.chain_law import grouped
from pairsift.theory.graph import BoolArray, FloatArray, IntArray


class ChainFamily:
    """A chain that its parameters determine: what the families share."""

    def __len__(self) -> int:
        raise NotImplementedError

    def transition(self) -> FloatArray:
        """P, (N, N), symmetric."""
        raise NotImplementedError

    def modes(self) -> list[tuple[float, int]]:
        """Eigenvalues with their multiplicities in closed form, in no order."""
        raise NotImplementedError

    def spectrum(self) -> tuple[FloatArray, IntArray]:
        """Eigenvalues in closed form as (values, multiplicities), values descending; multiplicities sum to N."""
        ordered = sorted(((value, count) for value, count in self.modes() if count), reverse=True)
        values, starts = grouped(np.array([value for value, _ in ordered]))
        counts = np.add.reduceat([count for _, count in ordered], np.cumsum(starts) - starts)
        return values, counts.astype(np.int64)

    def eigenvalue(self, i: int) -> float:
        """The i-th largest eigenvalue, counted from 1.

        Raises:
            ValueError: i outside [1, N].
        """
        if not 1 <= i <= len(self):
            raise ValueError(f"eigenvalues are numbered 1 to {len(self)}, got {i}")
        values, counts = self.spectrum()
        return float(values[np.searchsorted(np.cumsum(counts), i)])

    def chain(self) -> ChainGraph:
        """The chain itself, its matrices of size N."""
        return ChainGraph(self.transition())


@dataclass(frozen=True)
class BlockChain(ChainFamily):
    """Classes of states: a step draws a state of the class, or with probability eps a state of another class.

    Eigenvalues: 1, `1 - eps C / (C - 1)` (C - 1 times), 0.

    Attributes:
        classes: C >= 2.
        states: of a class, >= 1.
        eps: probability of leaving the class, in [0, 1].

    Raises:
        ValueError: a number out of range.

    Example:
        >>> from lab.chain_families import BlockChain
        >>> round(BlockChain(classes=4, states=5, eps=0.12).eigenvalue(2), 12)
        0.84
    """

    classes: int
    states: int
    eps: float

    def __post_init__(self) -> None:
        _at_least(classes=(self.classes, 2), states=(self.states, 1))
        _share("eps", self.eps)

    def __len__(self) -> int:
        return self.classes * self.states

    def labels(self) -> IntArray:
        """Class of every state, (N,)."""
        return np.repeat(np.arange(self.classes, dtype=np.int64), self.states)

    def transition(self) -> FloatArray:
        same = self.labels()[:, None] == self.labels()
        return np.where(same, 1 - self.eps, self.eps / (self.classes - 1)) / self.states

    def modes(self) -> list[tuple[float, int]]:
        contrast = 1 - self.eps * self.classes / (self.classes - 1)
        return [(1.0, 1), (contrast, self.classes - 1), (0.0, self.classes * (self.states - 1))]


@dataclass(frozen=True)
class BridgedChain(ChainFamily):
    """Classes of states of which some are bridging, the difficult ones: only these ever leave their class.

    With probability 1 - eps a step draws a state of the class. With probability eps an easy state stays, and a bridging
    state goes to its namesake in another class drawn at random. Bridging does not raise the eigenvalue after the first
    C, as a slow mode does: that stays eps. It raises the change of labels, `eps bridging / states`, and lowers the
    class modes, so that the gap between the two closes.

    Attributes:
        classes: C >= 2.
        states: m of a class, >= 1.
        bridging: b of them, from 0 to m; the last of each class.
        eps: in [0, 1).

    Raises:
        ValueError: a number out of range.

    Example:
        >>> from lab.chain_families import BridgedChain
        >>> family = BridgedChain(classes=4, states=8, bridging=2, eps=0.2)
        >>> round(family.eigenvalue(2), 5), round(family.eigenvalue(5), 5)
        (0.94741, 0.2)
    """

    classes: int
    states: int
    bridging: int
    eps: float

    def __post_init__(self) -> None:
        _at_least(classes=(self.classes, 2), states=(self.states, 1), bridging=(self.bridging, 0))
        _share("eps", self.eps)
        if self.bridging > self.states or self.eps == 1:
            raise ValueError(
                f"bridging={self.bridging} must not exceed states={self.states}, and eps={self.eps} must be below 1"
            )

    def __len__(self) -> int:
        return self.classes * self.states

    def labels(self) -> IntArray:
        """Class of every state, (N,)."""
        return np.repeat(np.arange(self.classes, dtype=np.int64), self.states)

    def difficult(self) -> BoolArray:
        """Which states are bridging, (N,)."""
        return np.tile(np.arange(self.states) >= self.states - self.bridging, self.classes)

    def transition(self) -> FloatArray:
        same = self.labels()[:, None] == self.labels()
        hard, index = self.difficult(), np.tile(np.arange(self.states), self.classes)
        hop = ~same & (index[:, None] == index) & hard
        matrix: FloatArray = same * (1 - self.eps) / self.states + hop * self.eps / (self.classes - 1)
        matrix[~hard, ~hard] += self.eps
        return matrix

    def modes(self) -> list[tuple[float, int]]:
        c, m, b, eps = self.classes, self.states, self.bridging, self.eps
        x = -1 / (c - 1)
        if b == 0:
            return [(1.0, c), (eps, c * (m - 1))]
        if b == m:
            return [(1.0, 1), (1 - eps + eps * x, c - 1), (eps, m - 1), (eps * x, (c - 1) * (m - 1))]
        # Class contrasts, constant on the easy and on the bridging states of a class: two by two.
        trace, determinant = 1 - eps + eps * (1 + x), (1 - eps) * eps * ((m - b) * x + b) / m + eps**2 * x
        half = math.sqrt(trace**2 / 4 - determinant)
        large = trace / 2 + half
        small = determinant / large if large else trace / 2 - half
        return [(1.0, 1), (large, c - 1), (small, c - 1), (eps, c * (m - b - 1) + b), (eps * x, (c - 1) * (b - 1))]


@dataclass(frozen=True)
class CycleChain(ChainFamily):
    """A ring of states: stay, or step to either neighbour. Eigenvalues `stay + (1 - stay) cos(2 pi j / n)`.

    Attributes:
        states: n >= 3.
        stay: probability of staying, in [0, 1]; half the eigenvalues are negative at 0, none from 1/2 on.

    Raises:
        ValueError: a number out of range.
    """

    states: int
    stay: float = 0.0

    def __post_init__(self) -> None:
        _at_least(states=(self.states, 3))
        _share("stay", self.stay)

    def __len__(self) -> int:
        return self.states

    def transition(self) -> FloatArray:
        unit = np.eye(self.states)
        step: FloatArray = (np.roll(unit, 1, axis=1) + np.roll(unit, -1, axis=1)) / 2
        return self.stay * unit + (1 - self.stay) * step

    def modes(self) -> list[tuple[float, int]]:
        turns = 2 * np.pi * np.arange(self.states) / self.states
        return [(float(value), 1) for value in self.stay + (1 - self.stay) * np.cos(turns)]


@dataclass(frozen=True)
class PathChain(ChainFamily):
    """A path of states whose ends reflect: a step that would leave stays. Eigenvalues `cos(pi j / n)`.

    Attributes:
        states: n >= 2.

    Raises:
        ValueError: fewer than two states.
    """

    states: int

    def __post_init__(self) -> None:
        _at_least(states=(self.states, 2))

    def __len__(self) -> int:
        return self.states

    def transition(self) -> FloatArray:
        matrix = (np.eye(self.states, k=1) + np.eye(self.states, k=-1)) / 2
        matrix[0, 0] = matrix[-1, -1] = 1 / 2
        return matrix

    def modes(self) -> list[tuple[float, int]]:
        return [(float(value), 1) for value in np.cos(np.pi * np.arange(self.states) / self.states)]


def _at_least(**given: tuple[int, int]) -> None:
    for name, (value, least) in given.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a probability in [0, 1], got {value}")
