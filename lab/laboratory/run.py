"""Draws noisy graphs and measures every arm on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from lab.laboratory.arms import arms
from lab.laboratory.setting import ARMS, Knows, LaboratorySetting, check
from pairsift.evaluate import t_interval
from pairsift.pairs import pair_shares
from pairsift.theory.graph import BoolArray, FloatArray, IntArray

Say = Callable[[str], None]


@dataclass(frozen=True)
class Row:
    """Means over draws of an arm at one gamma. None is an undefined value.

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

    setting: LaboratorySetting
    draws: int
    seed: int
    rows: tuple[Row, ...]
    accuracies: FloatArray = field(repr=False, compare=False)


def run_laboratory(
    setting: LaboratorySetting | None = None, draws: int = 200, seed: int = 0, say: Say | None = None
) -> Report:
    """Draw noise and splits, and compare all arms on them.

    A draw depends on setting, seed and its own number, not on how many are drawn. A few draws of 250 vertices a second.

    Args:
        setting: None takes the default one.
        draws: >= 1; a single one has no interval.
        seed: >= 0.
        say: called from time to time with the number of finished draws.

    Raises:
        ValueError: a value out of range, or noise that leaves a degree <= 0.
    """
    setting = LaboratorySetting() if setting is None else setting
    check("draws", draws, 1)
    check("seed", seed, 0)
    outcomes = []
    for number in range(draws):
        outcomes.append(_draw(setting, seed, number))
        if say is not None and (number % 20 == 19 or number == draws - 1):
            say(f"{number + 1} of {draws} draws")
    table = np.stack(outcomes)
    return Report(setting, draws, seed, tuple(_rows(setting, table)), table[..., 0])


def _draw(setting: LaboratorySetting, seed: int, number: int) -> FloatArray:
    """(gammas, arms, 3): accuracy, purity and share of difficult pairs, nan where not defined."""
    noise, split, chance = np.random.SeedSequence((seed, number)).generate_state(3).tolist()
    outcome, places = np.full((len(setting.gammas), len(ARMS), 3), np.nan), {arm: i for i, arm in enumerate(ARMS)}
    with threadpool_limits(1):
        for gamma, cells in zip(setting.gammas, outcome, strict=True):
            graph = setting.graph(gamma)
            labels, difficult = graph.labels(), graph.difficult_pairs()
            train = np.random.default_rng(split).permutation(len(graph)) < len(graph) // 2
            try:
                for arm, pairs, features in arms(setting, graph, noise, chance):
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


def _rows(setting: LaboratorySetting, outcomes: FloatArray) -> Iterator[Row]:
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
            intervals = (*t_interval(gains[:, g, a]), *t_interval(over))
            values = [accuracy, *intervals, purity, base, purity - base, share, rate]
            known = (None if math.isnan(value) else value for value in values)
            yield Row(gamma, arm, knows, knows != "nothing", len(outcomes), *known)  # type: ignore[arg-type]
