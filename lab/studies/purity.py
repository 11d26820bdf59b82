"""Figure 4c: the share of pairs of different classes in the band, over training."""

from __future__ import annotations

from typing import Any

from lab.drawing import Panel, curve
from lab.small_encoders import MEASURES, PARTS, Training, arms_of, controls, excess_at, sets_of, study_of
from lab.study import Arm, Row, Scale

_COMBINED: dict[str, Any] = {"select": "band", "margin": 0.03, "temperature_scale": 0.6}


def arms(scale: Scale) -> list[Arm]:
    """Plain training and treatments."""
    treated = [Arm("selected on h", _COMBINED, paper="near 100 % late in training, ResNet-18")]
    return arms_of(sets_of(scale, "pendigits", "gaussians"), [*controls(Training("", **_COMBINED)), *treated])


def figures(rows: list[Row]) -> list[Panel]:
    """Purity of the band minus the base rate, over training."""
    panels = []
    for group in dict.fromkeys(row["group"] for row in rows):
        series = []
        for i, arm in enumerate(("plain", "selected on h", "random pairs, as many", "oracle")):
            runs = [row["measures"] for row in rows if (row["group"], row["arm"]) == (group, arm)]
            values = {100 * part: [run[excess_at(part)] for run in runs] for part in PARTS if runs}
            series.append(curve(arm, values, i))
        title = f"{group}: pairs of different classes in the band, over those among all"
        panels.append(Panel(series, title, "training done %", "percentage points", zero=True))
    return panels


STUDY = study_of(
    name="purity",
    question="When in training does the band hold more pairs of different classes than random pairs do?",
    arms=arms,
    measures={**MEASURES, **{excess_at(part): f"band over base at {part:.0%}" for part in PARTS}},
    table="Figure 4c",
    figures=figures,
)
