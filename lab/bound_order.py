"""Compares the order of measured errors with the order of the theory's bounds."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from scipy import stats

from lab.comparison import Values, paired
from lab.study import Row
from pairsift.evaluate import t_interval

# Statement, arm, and the measure that tells whether the statement predicts a gain.
CROSSINGS = (("Cor 4.1", "difficult examples dropped", "removal_pays"), ("Thm 4.5", "temperature", "temperature_pays"))


@dataclass(frozen=True)
class Order:
    """The order of the arms of a group by theory and by measured errors.

    Attributes:
        group: name of the group.
        theory: arms from the lowest bound to the highest.
        measured: arms whose errors differ significantly from the plain arm's, lower ones first.
        crossings: statement -> whether it predicts a gain, and the measured change.
    """

    group: str
    theory: str
    measured: str
    crossings: dict[str, tuple[bool, str]]


def orders(rows: Sequence[Row], names: Sequence[str]) -> list[Order]:
    """The `Order` of every group.

    Args:
        rows: runs with the measures `error` and `bound`, and those of `CROSSINGS`.
        names: arms with a statement of the theory, `plain` included.
    """
    found = []
    for group in dict.fromkeys(row["group"] for row in rows):
        of_group = [row for row in rows if row["group"] == group]
        said = {name: _by_seed(of_group, name, "bound") for name in names}
        bounds = {name: next(iter(values.values())) for name, values in said.items() if values}
        gains = {name: _gains(of_group, name) for name in names if name != "plain"}
        lower = [name for name, values in gains.items() if _sign(values) < 0]
        higher = [name for name, values in gains.items() if _sign(values) > 0]
        measured = " < ".join([*lower, "plain", *higher]) if lower or higher else "no difference"
        crossings = {}
        for source, name, measure in CROSSINGS:
            pays = _by_seed(of_group, name, measure)
            if pays and len(gains.get(name, [])) > 1:
                word = {-1: "pays", 0: "no difference", 1: "costs"}[_sign(gains[name])]
                mean, half = t_interval(gains[name])
                crossings[source] = (bool(next(iter(pays.values()))), f"{word} ({mean:+.2f} ± {half:.2f})")
        found.append(Order(group, _ordered(bounds), measured, crossings))
    return found


def over_groups(rows: Sequence[Row]) -> tuple[float, float] | None:
    """Spearman's rank correlation of bound and error of the plain arm over groups: mean over seeds and half-width."""
    plain = [row for row in rows if row["arm"] == "plain"]
    values = []
    for seed in sorted({row["seed"] for row in plain}):
        pairs = [(row["measures"]["bound"], row["measures"]["error"]) for row in plain if row["seed"] == seed]
        if len({bound for bound, _ in pairs}) > 2:
            values.append(float(stats.spearmanr(*zip(*pairs, strict=True)).statistic))
    return t_interval(values) if len(values) > 1 else None


def in_words(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Lines about the order of every group, and about the rank correlation over groups."""
    lines = []
    for order in orders(rows, names):
        crossed = "; ".join(
            f"{source}: {'pays' if pays else 'does not pay'}, measured: {measured}"
            for source, (pays, measured) in order.crossings.items()
        )
        lines.append(f"{order.group}: theory {order.theory}; measured {order.measured}. {crossed}.")
    found = over_groups(rows)
    if found is not None:
        mean, half = found
        lines.append(f"Untreated, over mixtures: Spearman of exact bound and error {mean:.2f} ± {half:.2f}.")
    return lines


def _gains(rows: Sequence[Row], name: str) -> list[float]:
    return paired(_by_seed(rows, name, "error"), _by_seed(rows, "plain", "error"))


def _sign(gains: Sequence[float]) -> int:
    """Sign of the mean, or 0 if the interval holds 0 or is undefined."""
    if len(gains) < 2:
        return 0
    mean, half = t_interval(gains)
    return 0 if abs(mean) <= half else 1 if mean > 0 else -1


def _by_seed(rows: Sequence[Row], name: str, measure: str) -> Values:
    found = ((row["seed"], row["measures"].get(measure)) for row in rows if row["arm"] == name)
    return {seed: value for seed, value in found if value is not None}


def _ordered(bounds: dict[str, float]) -> str:
    """Names from the lowest value to the highest, with "=" between equal values."""
    ordered = sorted(bounds, key=lambda name: round(bounds[name], 6))
    words = ordered[:1]
    for before, name in itertools.pairwise(ordered):
        words += ["=" if round(bounds[name], 6) == round(bounds[before], 6) else "<", name]
    return " ".join(words)
