"""Whether measured errors stand in the order of the theory's bounds, and cross where it says so."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

from pairsift.studies.intervals import t_interval
from pairsift.studies.study import Row

# Statement, arm and the measure that says whether it pays.
_CROSSINGS = (("Cor 4.1", "difficult examples dropped", "removal_pays"), ("Thm 4.5", "temperature", "temperature_pays"))


def orders(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Lines on each group's order and crossings, and on the plain arm's errors over groups.

    Args:
        rows: with the measures `error` and `bound`, and those of crossings.
        names: arms that the theory has a statement on; `plain` is among them.
    """
    lines = []
    for group in dict.fromkeys(row["group"] for row in rows):
        of_group = [row for row in rows if row["group"] == group]
        errors = {name: _by_seed(of_group, name, "error") for name in names}
        said = {name: _by_seed(of_group, name, "bound") for name in names}
        there = [name for name in names if errors[name] and said[name]]
        by_theory = _ordered(there, {name: next(iter(said[name].values())) for name in there})
        by_error = _ordered(there, {name: float(np.mean(list(errors[name].values()))) for name in there})
        words = "as measured" if by_theory == by_error else f"measured {by_error}"
        lines.append(f"{group}: the theory orders {by_theory}; {words}.")
        lines += _crossings(group, of_group, errors)
    return [*lines, *_over_groups(rows)]


def _crossings(group: str, rows: Sequence[Row], errors: dict[str, dict[int, float]]) -> list[str]:
    lines = []
    for source, name, measure in _CROSSINGS:
        pays = _by_seed(rows, name, measure)
        gains = [
            value - errors["plain"][seed] for seed, value in errors.get(name, {}).items() if seed in errors["plain"]
        ]
        if len(gains) < 2 or not pays:
            continue
        mean, half = t_interval(gains)
        found = "no difference" if abs(mean) <= half else "it pays" if mean < 0 else "it costs"
        said = "pays" if next(iter(pays.values())) else "does not pay"
        lines.append(
            f"{group}: by {source} {name!r} {said}; measured: {found} ({mean:+.2f} ± {half:.2f} points of error)."
        )
    return lines


def _over_groups(rows: Sequence[Row]) -> list[str]:
    """Rank correlation of bound and error of the plain arm over groups, seed by seed."""
    plain = [row for row in rows if row["arm"] == "plain"]
    values = []
    for seed in sorted({row["seed"] for row in plain}):
        pairs = [(row["measures"]["bound"], row["measures"]["error"]) for row in plain if row["seed"] == seed]
        if len({bound for bound, _ in pairs}) > 2:
            values.append(float(stats.spearmanr(*zip(*pairs, strict=True)).statistic))
    if len(values) < 2:
        return []
    mean, half = t_interval(values)
    return [f"Untreated, over mixtures: Spearman of exact bound and error {mean:.2f} ± {half:.2f} (seed by seed)."]


def _by_seed(rows: Sequence[Row], name: str, measure: str) -> dict[int, float]:
    found = ((row["seed"], row["measures"].get(measure)) for row in rows if row["arm"] == name)
    return {seed: value for seed, value in found if value is not None}


def _ordered(names: Sequence[str], values: dict[str, float]) -> str:
    """Names from the lowest value to the highest, equal ones together."""
    words = ""
    ordered = sorted(names, key=lambda name: (round(values[name], 6), names.index(name)))
    for i, name in enumerate(ordered):
        equal = i and round(values[name], 6) == round(values[ordered[i - 1]], 6)
        words += name if not i else f"{' = ' if equal else ' < '}{name}"
    return words
