"""The setting of a laboratory run: the noisy graph, and the arms with their knowledge."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pairsift.pairs import RankBand
from pairsift.theory import SimilarityGraph, edits
from pairsift.theory.graph import Pairing

Knows = Literal["nothing", "difficult", "classes"]

TREATMENTS = ("margin", "temperature", "drop")
# Every arm, and what it knows that features do not tell: which vertices are difficult, or the class of every vertex.
ARMS: dict[str, Knows] = {
    "with": "nothing", "without": "difficult",
    "margin": "nothing", "temperature": "nothing", "drop": "nothing",
    "random margin": "nothing", "random temperature": "nothing", "random drop": "nothing",
    "removal": "difficult", "degree removal": "nothing", "random removal": "nothing",
    "difficult margin": "classes", "difficult temperature": "classes", "difficult drop": "classes",
    "class margin": "classes", "class temperature": "classes", "class drop": "classes",
    "oracle margin": "classes", "oracle temperature": "classes",
}  # fmt: skip


@dataclass(frozen=True)
class LaboratorySetting:
    """A noisy graph and the treatments tried on it. The arms (`ARMS`):

    - ``with``: the graph with difficult examples, untreated; ``without``: the clean graph of the same size and noise.
    - ``margin``, ``temperature``, ``drop`` (a factor of 0): without labels, on the pairs in the band of the features'
      cosines. Each round selects by the features of the graph as edited last, and edits the untreated graph anew.
    - ``random ...``: as many pairs of every row at random; ``difficult ...``: the true difficult pairs; ``class ...``:
      all pairs of different classes, which hands the labels to the graph; ``oracle ...``: all of Thms 4.3 and 4.5.
    - ``removal``, ``degree removal``, ``random removal``: without the difficult vertices, as many of the largest degree
      (c1 > c2), or as many at random; their features come from the rest (`theory.nystroem_features`).

    Attributes:
        n, r, n_d, alpha, beta, pairing: see `SimilarityGraph`; 1 <= n_d < n.
        gammas: distinct levels of difficult pairs in [beta, alpha); beta itself is the control without difficulty.
        epsilon: standard deviation of the noise on similarities, >= 0.
        band: ranks of a row whose pairs are edited; None takes the theory's, `RankBand.for_classes(r + 1)`.
        rounds: how often pairs are selected and the graph factorised anew, >= 1.
        margin: subtracted from flagged entries, as a multiple of the normalised graph's mean entry, >= 0.
        temperature_scale: factor on flagged entries, > 0.
        k: feature dimension, 1 <= k <= (n - n_d)(r + 1); None takes r + 1.

    Raises:
        TypeError, ValueError: a value of the wrong type or out of range, a band that is empty in such short rows, or
            gamma = 0 with another beta (no temperature for Thm 4.5).
    """

    n: int = 50
    r: int = 4
    n_d: int = 10
    alpha: float = 0.47
    beta: float = 0.19
    gammas: tuple[float, ...] = (0.42, 0.30, 0.19)
    epsilon: float = 0.6
    band: RankBand | None = None
    rounds: int = 3
    margin: float = 0.3
    temperature_scale: float = 0.77
    k: int | None = None
    pairing: Pairing = "block"

    def __post_init__(self) -> None:
        object.__setattr__(self, "gammas", tuple(self.gammas))
        if not self.gammas or len(set(self.gammas)) < len(self.gammas):
            raise ValueError(f"gammas must be one or more distinct levels, got {self.gammas}")
        for gamma in self.gammas:
            edits.temperature_cases(self.graph(gamma))  # refuses what is no graph, or has no temperature
        if not 1 <= self.n_d < self.n:
            raise ValueError(f"removal needs easy and difficult examples: 1 <= n_d < n={self.n}, got n_d={self.n_d}")
        others = self.n * (self.r + 1) - 1
        if len(set(self.ranks.ranks(others))) == 1:
            raise ValueError(f"{self.ranks} holds no pair in rows of {others} others: widen it or raise n={self.n}")
        check("epsilon", self.epsilon, 0)
        check("margin", self.margin, 0)
        check("temperature_scale", self.temperature_scale, math.nextafter(0, 1))
        check("rounds", self.rounds, 1)
        check("k", self.dimension, 1, (self.n - self.n_d) * (self.r + 1))

    @property
    def ranks(self) -> RankBand:
        """The band, or the theory's."""
        return RankBand.for_classes(self.r + 1) if self.band is None else self.band

    @property
    def dimension(self) -> int:
        """Feature dimension, k or r + 1."""
        return self.r + 1 if self.k is None else self.k

    def graph(self, gamma: float) -> SimilarityGraph:
        """The graph without noise, its difficult pairs at level gamma."""
        return SimilarityGraph(self.n, self.r, self.n_d, self.alpha, self.beta, gamma, self.pairing)


def check(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Refuse a number that is not finite or not in [low, high].

    Raises:
        ValueError: it is not.
    """
    if not (low <= value <= high and math.isfinite(value)):
        bound = "> 0" if 0 < low < 1 else f">= {low}" if high == math.inf else f"in [{low}, {high}]"
        raise ValueError(f"{name} must be finite and {bound}, got {value}")
