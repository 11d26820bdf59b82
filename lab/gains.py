"""Accuracies of a study's arms over seeds, and what each gains on plain training, as a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pairsift.evaluate import t_interval

_HEADER = (
    "| tau | arm | seeds | linear probe % | gain | 20-NN % | gain | flagged % | different % | estimated % |\n"
    "|---:|:---|---:|---:|---:|---:|---:|---:|---:|---:|"
)


def markdown(results: Sequence[dict[str, Any]]) -> str:
    """Means over seeds with their 95 % intervals; gains are paired by seed with plain runs of the same temperature.

    Args:
        results: of single runs, as the study `selection` writes them.
    """
    lines = [_HEADER]
    for temperature in sorted({each["temperature"] for each in results}, reverse=True):
        runs = [each for each in results if each["temperature"] == temperature]
        plain = {each["seed"]: each for each in runs if each["arm"] == "plain"}
        for arm in dict.fromkeys(each["arm"] for each in sorted(runs, key=lambda each: each["arm"] != "plain")):
            lines.append(_line(temperature, [each for each in runs if each["arm"] == arm], plain))
    return "\n".join(lines)


def _line(temperature: float, runs: list[dict[str, Any]], plain: dict[int, dict[str, Any]]) -> str:
    arm = runs[0]["arm"]
    cells = [f"{temperature:g}", arm, str(len(runs))]
    for measure in ("linear", "knn20"):
        gains = [each[measure] - plain[each["seed"]][measure] for each in runs if each["seed"] in plain]
        cells.append(_interval([each[measure] for each in runs], ""))
        cells.append(_interval(gains, "+") if gains and arm != "plain" else "")
    for name in ("flagged", "different", "estimated"):
        known = [each["epochs"][-1][name] for each in runs if each["epochs"][-1][name] != ""]
        cells.append(f"{100 * float(np.mean(known)):.1f}" if known else "")
    return f"| {' | '.join(cells)} |"


def _interval(values: list[float], sign: str) -> str:
    mean, half = t_interval(values)
    return f"{mean:{sign}.2f}" + ("" if math.isnan(half) else f" ± {half:.2f}")
