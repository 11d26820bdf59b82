"""Mixtures of Gaussians with planted difficult examples, whose densities are known exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairsift.theory import SimilarityGraph

_ROWS = 4000


@dataclass(frozen=True)
class Drawn:
    """Examples x (N, D) float32, classes y (N,), and a mask of the difficult ones (N,)."""

    x: NDArray[np.float32]
    y: NDArray[np.int64]
    difficult: NDArray[np.bool_]


@dataclass(frozen=True)
class Mixture:
    """Classes of unit normal examples, some of which are drawn towards another class.

    A difficult example is `(1 - overlap) a + overlap b` of an example a of its own class and one b of another, so it is
    normal as well: every density, and with it the best classifier, is known.

    Attributes:
        classes: number of classes, r + 1.
        dimensions: D, at least the number of classes, so that all means have one distance, as in the theory.
        spread: distance of each class mean from 0, on its own axis.
        share: n_d / n, in [0, 1).
        overlap: weight of the other class in a difficult example, in [0, 0.5]. At 0 no example is difficult.
    """

    classes: int = 5
    dimensions: int = 5
    spread: float = 3.5
    share: float = 0.2
    overlap: float = 0.35

    @property
    def means(self) -> NDArray[np.float64]:
        """Means of the classes, (classes, D)."""
        return self.spread * np.eye(self.classes, self.dimensions)

    def draw(self, per_class: int, seed: int) -> Drawn:
        """Draw `per_class` examples of every class, in random order."""
        rng = np.random.default_rng((seed, 1))
        y = np.repeat(np.arange(self.classes), per_class)
        difficult = np.tile(np.arange(per_class) < round(self.share * per_class), self.classes)
        other = (y + rng.integers(1, self.classes, len(y))) % self.classes
        own, drawn_to = (self.means[each] + rng.standard_normal((len(y), self.dimensions)) for each in (y, other))
        x = np.where(difficult[:, None], (1 - self.overlap) * own + self.overlap * drawn_to, own)
        order = rng.permutation(len(y))
        return Drawn(x[order].astype(np.float32), y[order], difficult[order])

    def graph(self, drawn: Drawn, noise: float) -> SimilarityGraph:
        """The similarity graph of views that are normal around each example.

        The views of x and x' overlap by `exp(-|x - x'|^2 / (4 noise^2))` (HaoChen et al., arXiv 2106.04156). The levels
        are means over pairs of a kind.

        Raises:
            ValueError: the levels do not make a graph.
        """
        x, y, hard = drawn.x.astype(np.float64), drawn.y, drawn.difficult
        squares = (x**2).sum(axis=1)
        similar = np.exp(-np.maximum(squares[:, None] + squares - 2 * x @ x.T, 0) / (4 * noise**2))
        same, both = y[:, None] == y, hard[:, None] & hard
        alpha = (similar[same].sum() - len(x)) / (same.sum() - len(x))
        beta = similar[~same & ~both].mean()
        gamma = similar[~same & both].mean() if self.share and self.overlap else beta
        n = len(x) // self.classes
        return SimilarityGraph(n, self.classes - 1, round(self.share * n), float(alpha), float(beta), float(gamma))

    def labelling_error(self, noise: float, seed: int = 0) -> float:
        """delta, the error of the best classifier of noisy views, estimated on random draws."""
        rng = np.random.default_rng((seed, 2))
        drawn = self.draw(_ROWS, seed)
        views = drawn.x + noise * rng.standard_normal(drawn.x.shape)
        return float((self._log_densities(views, noise).argmax(axis=1) != drawn.y).mean())

    def _log_densities(self, views: NDArray[np.float64], noise: float) -> NDArray[np.float64]:
        """Log densities of noisy views in every class, (N, classes)."""
        t, r = self.overlap, self.classes - 1
        easy, hard = 1 + noise**2, (1 - t) ** 2 + t**2 + noise**2
        parts = []
        for own in range(self.classes):
            others = [b for b in range(self.classes) if b != own]
            terms = [np.log(1 - self.share) + _normal(views, self.means[own], easy)]
            if self.share:
                between = ((1 - t) * self.means[own] + t * self.means[b] for b in others)
                terms += [np.log(self.share / r) + _normal(views, mean, hard) for mean in between]
            parts.append(np.logaddexp.reduce(terms))
        return np.stack(parts, axis=1)


def _normal(x: NDArray[np.float64], mean: NDArray[np.float64], variance: float) -> NDArray[np.float64]:
    """Log density of an isotropic normal distribution, without 2 pi."""
    log: NDArray[np.float64] = -((x - mean) ** 2).sum(axis=1) / (2 * variance) - x.shape[1] * np.log(variance) / 2
    return log
