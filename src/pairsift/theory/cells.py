"""Sizes, levels and degrees of a similarity graph's (easy, difficult) cells: all that the graph follows from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Pairing = Literal["block", "matched"]


@dataclass(frozen=True)
class Cells:
    """r + 1 classes with n augmented examples each, n_d of them difficult, and the similarities between them.

    What each is, and what is refused, stands at `SimilarityGraph`.
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
        """What a difficult vertex gains towards each other class: n_d (gamma - beta), or once where matched."""
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
        """Sum of all degrees: what turns weights into probabilities."""
        return self.n_classes * ((self.n - self.n_d) * self.easy_degree + self.n_d * self.difficult_degree)

    @property
    def floor(self) -> float:
        """(1 - alpha) / c2, the smallest eigenvalue's value without difficult examples (Thm 3.3)."""
        return (1 - self.alpha) / self.easy_degree

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
                f"levels must satisfy beta <= gamma < alpha <= 1, got alpha={self.alpha}, beta={self.beta}, "
                f"gamma={self.gamma}"
            )
        if self.pairing not in get_args(Pairing):
            raise ValueError(f"pairing must be 'block' or 'matched', got {self.pairing!r}")
        if not (self.easy_degree > 0 and self.difficult_degree > 0):
            raise ValueError(
                f"every degree must be positive, got {self.easy_degree:.6g} (easy) and {self.difficult_degree:.6g} "
                f"(difficult): beta={self.beta} is too negative for n={self.n}, r={self.r}"
            )
