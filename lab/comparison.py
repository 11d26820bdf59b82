"""Compares arms with their baselines by seed, and chooses the best candidate of every method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lab.study import Arm, Row, Study

Values = dict[int, float]


@dataclass(frozen=True)
class Line:
    """An arm, or a method with its best candidate.

    Attributes:
        group, title: group and title of the line.
        arm: name of the arm or of the candidate.
        seeds: number of finished runs.
        values: values of every measure by seed.
        differences: differences from the baseline, paired by seed, for every measure.
        paper: result that the paper reports.
        baseline: name of the arm or method that is subtracted.
    """

    group: str
    title: str
    arm: str
    seeds: int
    values: dict[str, Values]
    differences: dict[str, list[float]]
    paper: str
    baseline: str


def compared(study: Study, arms: Sequence[Arm], rows: Sequence[Row]) -> list[Line]:
    """Make a line for every method, and for every arm that is a baseline or not a candidate, in the order of arms.

    Args:
        study: the study.
        arms: its arms. Arms without a finished run are left out.
        rows: finished runs.
    """
    found = {(arm.group, arm.name): _by_seed(rows, arm) for arm in arms}
    ran = [arm for arm in arms if found[arm.group, arm.name]]
    most = {(arm.group, arm.of): 0 for arm in ran}
    for arm in ran:
        most[arm.group, arm.of] = max(most[arm.group, arm.of], len(found[arm.group, arm.name]))
    best: dict[tuple[str, str], Arm] = {}
    for arm in ran:
        # A candidate with unfinished runs is not compared with finished ones.
        if arm.of and len(found[arm.group, arm.name]) == most[arm.group, arm.of]:
            other = best.get((arm.group, arm.of))
            if other is None or _better(study, found, arm, other):
                best[arm.group, arm.of] = arm
    needed = {(arm.group, arm.baseline) for arm in ran}
    lines, told = [], set()
    for arm in ran:
        if not arm.of or (arm.group, arm.name) in needed:
            lines.append(_line(study, arm, arm.name, found, best))
        if arm.of and (arm.group, arm.of) not in told:
            told.add((arm.group, arm.of))
            chosen = best[arm.group, arm.of]
            lines.append(_line(study, chosen, f"{arm.of}: {chosen.name}", found, best))
    return lines


def paired(values: Mapping[int, float], others: Mapping[int, float]) -> list[float]:
    """Differences of two sets of values, paired by seed."""
    return [value - others[seed] for seed, value in values.items() if seed in others]


def _by_seed(rows: Sequence[Row], arm: Arm) -> dict[int, Row]:
    return {row["seed"]: row for row in rows if (row["group"], row["arm"]) == (arm.group, arm.name)}


def _better(study: Study, found: dict[tuple[str, str], dict[int, Row]], arm: Arm, other: Arm) -> bool:
    assert study.tuned_on is not None
    means = []
    for each in (arm, other):
        values = _values(found[each.group, each.name], study.tuned_on)
        means.append(sum(values.values()) / len(values) if values else float("nan"))
    return means[0] < means[1] if study.lower_is_better else means[0] > means[1]


def _values(rows: dict[int, Row], measure: str) -> Values:
    return {seed: row["measures"][measure] for seed, row in rows.items() if row["measures"].get(measure) is not None}


def _line(
    study: Study, arm: Arm, title: str, found: dict[tuple[str, str], dict[int, Row]], best: dict[tuple[str, str], Arm]
) -> Line:
    rows = found[arm.group, arm.name]
    base = best.get((arm.group, arm.baseline))
    against = found.get((arm.group, arm.baseline if base is None else base.name), {})
    values = {name: _values(rows, name) for name in study.measures}
    others = {name: {} if against is rows else _values(against, name) for name in study.measures}
    differences = {name: paired(values[name], others[name]) for name in study.measures}
    return Line(arm.group, title, arm.name, len(rows), values, differences, arm.paper, arm.baseline)
