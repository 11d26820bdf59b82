"""Where noise nearly closes the spectral gap: what difficult examples cost, and what each treatment gives back.

A similarity graph with noise (`population.relax`) is factorised, and a linear probe on its features, fitted to a random
half of the vertices, is scored on the other half. Treatments edit the normalised noisy graph, or take vertices out of
it. Within a draw all arms and all gammas share the noise and the split, so differences are paired.
"""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from scipy import stats
from threadpoolctl import threadpool_limits

from pairsift.files import write_json
from pairsift.pairs import RankBand, pair_shares, random_pairs, select_pairs
from pairsift.theory import edits, population
from pairsift.theory.arrays import BoolArray, FloatArray, IntArray
from pairsift.theory.cells import Pairing
from pairsift.theory.graph import SimilarityGraph

Knows = Literal["nothing", "difficult", "classes"]
Say = Callable[[str], None]
_Arm = tuple[str, BoolArray | None, FloatArray]  # name, flagged pairs where there are any, features

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
class Laboratory:
    """A noisy graph and the treatments tried on it. The arms (`ARMS`):

    - ``with``: the graph with difficult examples, untreated; ``without``: the clean graph of the same size and noise.
    - ``margin``, ``temperature``, ``drop`` (a factor of 0): without labels, on the pairs in the band of the features'
      cosines. Each round selects by the features of the graph as edited last, and edits the untreated graph anew.
    - ``random ...``: as many pairs of every row at random; ``difficult ...``: the true difficult pairs; ``class ...``:
      all pairs of different classes, which hands the labels to the graph; ``oracle ...``: all of Thms 4.3 and 4.5.
    - ``removal``, ``degree removal``, ``random removal``: without the difficult vertices, as many of the largest degree
      (c1 > c2), or as many at random; their features come from the rest (`nystroem_features`).

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
        _check("epsilon", self.epsilon, 0)
        _check("margin", self.margin, 0)
        _check("temperature_scale", self.temperature_scale, math.nextafter(0, 1))
        _check("rounds", self.rounds, 1)
        _check("k", self.dimension, 1, (self.n - self.n_d) * (self.r + 1))

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


@dataclass(frozen=True)
class Row:
    """What an arm did at one gamma: means over draws; None where a value is not defined.

    Attributes:
        knows, uses_labels: what the arm knows beyond the features, and whether that is anything: then it is a yardstick
            for treatments and not a treatment.
        accuracy: of the probe on the held-out half, in [0, 1].
        difference: accuracy minus that of "with" in the same draw, with its 95 % t interval's half-width.
        over_control: this difference minus the arm's at gamma = beta in the same draw: what it does about difficulty
            and not about noise. None unless beta is among the gammas.
        purity, base_rate, excess: share of pairs of different classes among the flagged (for removals, among the pairs
            of removed vertices) and among all, and the difference of the two.
        difficult_share, difficult_base_rate: share of difficult pairs (in the control, of their places) likewise.
    """

    gamma: float
    arm: str
    knows: Knows
    uses_labels: bool
    draws: int
    accuracy: float
    difference: float
    half_width: float | None
    over_control: float | None
    over_control_half_width: float | None
    purity: float | None
    base_rate: float
    excess: float | None
    difficult_share: float | None
    difficult_base_rate: float


@dataclass(frozen=True)
class Report:
    """Outcome of `run_laboratory`: one row per gamma and arm, and all accuracies (draws, gammas, arms) behind them."""

    setting: Laboratory
    draws: int
    seed: int
    rows: tuple[Row, ...]
    accuracies: FloatArray = field(repr=False, compare=False)

    def save(self, path: Path | str) -> None:
        """Write setting, draws, seed, versions and rows as JSON."""
        content = {name: value for name, value in asdict(self).items() if name != "accuracies"}
        content["setting"] |= {"band": asdict(self.setting.ranks), "k": self.setting.dimension}
        versions = {name: importlib.metadata.version(name) for name in ("pairsift", "numpy", "scipy", "torch")}
        write_json(Path(path), content | {"versions": versions})


def run_laboratory(
    setting: Laboratory | None = None, draws: int = 200, seed: int = 0, say: Say | None = None
) -> Report:
    """Draw noise and splits, and compare all arms on them.

    A draw depends on setting, seed and its own number, not on how many are drawn. A few draws of 250 vertices a second.

    Args:
        setting: None takes the default one.
        draws: >= 1; a single one has no interval.
        seed: >= 0.
        say: told now and then how many draws are done.

    Raises:
        ValueError: a value out of range, or noise that leaves a degree <= 0.
    """
    setting = Laboratory() if setting is None else setting
    _check("draws", draws, 1)
    _check("seed", seed, 0)
    outcomes = []
    for number in range(draws):
        outcomes.append(_draw(setting, seed, number))
        if say is not None and (number % 20 == 19 or number == draws - 1):
            say(f"{number + 1} of {draws} draws")
    table = np.stack(outcomes)
    return Report(setting, draws, seed, tuple(_rows(setting, table)), table[..., 0])


def nystroem_features(adjacency: FloatArray, removed: BoolArray, k: int) -> FloatArray:
    """Optimal features of the graph without some vertices, extended to these: (N, k).

    The eigenfunctions of the kept graph continue to a removed vertex x as `f(x) = sum_y (A_xy / d_x) f(y) / lambda`,
    the sum and d_x over kept y (Bengio et al., NIPS 2003). `adjacency` is (N, N) and `removed` (N,).

    Raises:
        ValueError: k outside [1, number of kept vertices], or a degree among the kept that is not positive.
    """
    kept = ~removed
    inner, outer = adjacency[np.ix_(kept, kept)], adjacency[np.ix_(removed, kept)]
    degrees = outer.sum(axis=1)
    if not (degrees > 0).all():
        raise ValueError(f"a removed vertex has degree {degrees.min():.6g} among the kept ones: it must be positive")
    roots = np.sqrt(population.weights(inner))
    values, vectors = population.leading_eigenpairs(population.normalize(inner), k)
    features = np.empty((len(adjacency), k))
    features[kept] = vectors * np.sqrt(np.maximum(values, 0)) / roots[:, None]
    # Columns of eigenvalues that are not positive are zero, whatever they are divided by.
    features[removed] = outer @ features[kept] / degrees[:, None] / np.where(values > 0, values, 1)
    return features


class _Scene:
    """A noisy graph and what is done to it."""

    def __init__(self, setting: Laboratory, graph: SimilarityGraph, noise: int) -> None:
        self.setting = setting
        self.similarities = population.relax(graph.adjacency(), setting.epsilon, noise)
        self.roots = np.sqrt(population.weights(self.similarities))
        self.matrix = population.normalize(self.similarities)

    def features(self, matrix: FloatArray) -> FloatArray:
        """Features (N, k) that factorise an edited matrix; their cosines do not depend on the division by sqrt(w)."""
        values, vectors = population.leading_eigenpairs(matrix, self.setting.dimension)
        features: FloatArray = vectors * np.sqrt(np.maximum(values, 0)) / self.roots[:, None]
        return features

    def edit(self, treatment: str, pairs: BoolArray) -> FloatArray:
        """The matrix with flagged pairs treated, half of the edit for each direction in which a pair is flagged.

        Rows select on their own, but an edited graph must stay symmetric. For margins the mean of both directions is
        what the loss itself factorises (Eq. 31 is quadratic in them); for factors it is a choice.
        """
        share = (pairs + pairs.T.astype(np.float64)) / 2
        if treatment == "margin":
            edited: FloatArray = self.matrix - self.setting.margin * self.matrix.mean() * share
        else:
            edited = self.matrix * (1 - (1 - self.setting.temperature_scale * (treatment != "drop")) * share)
        return edited

    def select(self, treatment: str, features: FloatArray) -> tuple[BoolArray, FloatArray]:
        """Pairs flagged in the last round and the features after it, starting from those of the untreated graph."""
        for _ in range(self.setting.rounds):
            pairs: BoolArray = select_pairs(torch.from_numpy(features), self.setting.ranks).numpy()
            features = self.features(self.edit(treatment, pairs))
        return pairs, features


def _arms(setting: Laboratory, graph: SimilarityGraph, noise: int, chance: int) -> Iterator[_Arm]:
    scene, clean = _Scene(setting, graph, noise), _Scene(setting, graph.without_difficult(), noise)
    labels, difficult, count = graph.labels(), graph.difficult(), setting.n_d * graph.n_classes
    plain = scene.features(scene.matrix)
    yield "with", None, plain
    yield "without", None, clean.features(clean.matrix)
    known = {"difficult": graph.difficult_pairs(), "class": labels[:, None] != labels}
    for treatment in TREATMENTS:
        pairs, features = scene.select(treatment, plain)
        yield treatment, pairs, features
        known["random"] = random_pairs(torch.from_numpy(pairs), torch.Generator().manual_seed(chance)).numpy()
        for name, pairs in known.items():
            yield f"{name} {treatment}", pairs, scene.features(scene.edit(treatment, pairs))
    roots = np.sqrt(graph.degrees())  # of the graph without noise, which the theorems speak of
    yield "oracle margin", None, scene.features(scene.matrix - edits.margin_matrix(graph) * roots[:, None] * roots)
    yield "oracle temperature", None, scene.features(scene.matrix * edits.temperature_matrix(graph))
    hubs, drawn = np.zeros((2, len(graph)), bool)
    hubs[np.argsort(-scene.roots, kind="stable")[:count]] = True
    drawn[np.random.default_rng(chance).permutation(len(graph))[:count]] = True
    for name, removed in (("removal", difficult), ("degree removal", hubs), ("random removal", drawn)):
        touched = (removed[:, None] | removed) & ~np.eye(len(graph), dtype=bool)
        yield name, touched, nystroem_features(scene.similarities, removed, setting.dimension)


def _draw(setting: Laboratory, seed: int, number: int) -> FloatArray:
    """(gammas, arms, 3): accuracy, purity and share of difficult pairs, nan where not defined."""
    noise, split, chance = np.random.SeedSequence((seed, number)).generate_state(3).tolist()
    outcome, places = np.full((len(setting.gammas), len(ARMS), 3), np.nan), {arm: i for i, arm in enumerate(ARMS)}
    with threadpool_limits(1):
        for gamma, cells in zip(setting.gammas, outcome, strict=True):
            graph = setting.graph(gamma)
            labels, difficult = graph.labels(), graph.difficult_pairs()
            train = np.random.default_rng(split).permutation(len(graph)) < len(graph) // 2
            try:
                for arm, pairs, features in _arms(setting, graph, noise, chance):
                    cells[places[arm], 0] = _probe(features, labels, train)
                    if pairs is not None:
                        purity, _ = pair_shares(torch.from_numpy(pairs), torch.from_numpy(labels))
                        cells[places[arm], 1:] = purity, difficult[pairs].mean()
            except ValueError as error:
                raise ValueError(
                    f"draw {number}, gamma={gamma}: {error}; lower epsilon={setting.epsilon} or change the seed"
                ) from error
    return outcome


def _probe(features: FloatArray, labels: IntArray, train: BoolArray) -> float:
    """Accuracy on the rest of the least-squares classifier with intercept, fitted to some vertices."""
    inputs = np.column_stack((features, np.ones(len(features))))
    targets = np.eye(labels.max() + 1)[labels]
    solution = np.linalg.lstsq(inputs[train], targets[train], rcond=1e-10)[0]
    return float(((inputs @ solution).argmax(axis=1) == labels)[~train].mean())


def _rows(setting: Laboratory, outcomes: FloatArray) -> Iterator[Row]:
    """Means and intervals of (draws, gammas, arms, 3) outcomes."""
    gains = outcomes[..., 0] - outcomes[:, :, :1, 0]  # "with" is the first arm
    control = setting.gammas.index(setting.beta) if setting.beta in setting.gammas else None
    for g, gamma in enumerate(setting.gammas):
        graph = setting.graph(gamma)
        others = len(graph) - 1
        base, rate = setting.n * setting.r / others, float(graph.difficult_pairs().mean()) * len(graph) / others
        for a, (arm, knows) in enumerate(ARMS.items()):
            accuracy, purity, share = outcomes[:, g, a].mean(axis=0).tolist()
            over = gains[:, g, a] - (np.nan if control in (None, g) else gains[:, control, a])
            values = [accuracy, *_estimate(gains[:, g, a]), *_estimate(over), purity, base, purity - base, share, rate]
            known = (None if math.isnan(value) else value for value in values)
            yield Row(gamma, arm, knows, knows != "nothing", len(outcomes), *known)  # type: ignore[arg-type]


def _estimate(values: FloatArray) -> tuple[float, float]:
    """Mean and half-width of its 95 % t interval, nan for a single value."""
    count = len(values)
    half = stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / math.sqrt(count) if count > 1 else math.nan
    return float(values.mean()), float(half)


def _check(name: str, value: float, low: float, high: float = math.inf) -> None:
    if not (low <= value <= high and math.isfinite(value)):
        bound = "> 0" if 0 < low < 1 else f">= {low}" if high == math.inf else f"in [{low}, {high}]"
        raise ValueError(f"{name} must be finite and {bound}, got {value}")
