"""Rank correlations of label-free quantities with the linear probe, over small encoders of vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from lab.quantities import TITLES
from lab.small_encoders import run
from lab.studies import band, hard_negatives, levels, rho_extremes, selection_feature, sigma_rho
from lab.study import Arm, Row, Scale, Study
from lab.vectors import check_data
from pairsift.evaluate import t_interval

_STUDIES = tuple(module.STUDY for module in (selection_feature, band, hard_negatives, sigma_rho, levels, rho_extremes))
# From which on a quantity is worth printing after training.
GOOD = 0.8
_WITH = {"linear": "with linear probe", "knn20": "with 20-NN"}
# Runs of a seed below which a rank correlation says nothing.
_FEWEST = 5


def arms_over(studies: Iterable[Study], scale: Scale, group: str) -> list[Arm]:
    """The settings of some studies, without those that use labels.

    Args:
        studies: whose settings.
        scale: of them.
        group: of a setting that names no set.
    """
    found: dict[str, Arm] = {}
    for study in studies:
        for arm in study.of_scale(scale):
            if arm.setting.get("select") != "oracle" and not arm.setting.get("oracle"):
                of_set = arm.setting.get("set", group)
                name = f"{_words(arm.setting)} ({of_set})"
                found[name] = Arm(name, dict(arm.setting), of_set, baseline="")
    return list(found.values())


def correlations(rows: Sequence[Row], group: str, quantity: str, measure: str = "linear") -> list[float]:
    """Spearman's rank correlation of a quantity with a measure over the runs of a set, for each seed."""
    found = []
    for seed in sorted({row["seed"] for row in rows}):
        pairs = [
            (row["measures"][quantity], row["measures"][measure])
            for row in rows
            if (row["seed"], row["group"]) == (seed, group) and row["measures"].get(quantity) is not None
        ]
        if len(pairs) >= _FEWEST and all(len(set(side)) > 1 for side in zip(*pairs, strict=True)):
            found.append(float(stats.spearmanr(*zip(*pairs, strict=True)).statistic))
    return found


def tables(rows: list[Row]) -> str:
    """A table of quantities: rank correlations with probe and neighbours on every set, with intervals over seeds."""
    groups = {group: len({row["arm"] for row in rows if row["group"] == group}) for group in _groups(rows)}
    titles = [f"{group}, {count} runs a seed: {name}" for group, count in groups.items() for name in _WITH.values()]
    lines = [["Spearman of", *titles], [":---", *("---:" for _ in titles)]]
    for quantity, title in TITLES.items():
        cells = [told(correlations(rows, group, quantity, measure)) for group in groups for measure in _WITH]
        lines.append([title, *cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def notes(rows: list[Row]) -> list[str]:
    """The quantities whose rank correlations are high enough to choose by."""
    groups = _groups(rows)
    good = [
        title
        for quantity, title in TITLES.items()
        if groups and all(abs(np.mean(correlations(rows, group, quantity) or [0])) >= GOOD for group in groups)
    ]
    return [f"Reaches {GOOD} on every set: {', '.join(good) or 'none'}."]


def _groups(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(row["group"] for row in rows))


def told(values: list[float]) -> str:
    """Mean of correlations with its interval over seeds, to print."""
    if not values:
        return ""
    mean, half = t_interval(values)
    return f"{mean:+.2f}" + (f" ± {half:.2f}" if half == half else "")


def _words(setting: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(setting.items()) if name != "set")


STUDY = Study(
    name="label-free-choice",
    question="Which label-free quantity of a trained encoder ranks runs as their linear probe does?",
    arms=lambda scale: arms_over(_STUDIES, scale, ""),
    run=run,
    measures={"linear": "linear probe %", **TITLES},
    differences=0,
    seconds=1.5,
    seeds=10,
    table="asked for by reviewers",
    ready=check_data,
    tables=tables,
    notes=notes,
)
