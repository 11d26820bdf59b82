"""Figure 4c: how many pairs of the band are truly of different classes, over training."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go

from lab.small import MEASURES, PARTS, Training, arms_of, controls, excess_at, sets_of, study_of
from lab.study import Arm, Row, Scale
from pairsift.evaluate import t_interval
from pairsift.report.figures import DASHES, INK, SYMBOLS, styled

_COMBINED: dict[str, Any] = {"select": "band", "margin": 0.03, "temperature_scale": 0.6}


def arms(scale: Scale) -> list[Arm]:
    """Plain training and what is treated."""
    treated = [Arm("selected on h", _COMBINED, paper="near 100 % late in training, ResNet-18")]
    return arms_of(sets_of(scale, "pendigits", "gaussians"), [*controls(Training("", **_COMBINED)), *treated])


def figures(rows: list[Row]) -> dict[str, go.Figure]:
    """Purity of the band minus the base rate, over training."""
    figures = {}
    for group in dict.fromkeys(row["group"] for row in rows):
        figure = go.Figure()
        for i, arm in enumerate(("plain", "selected on h", "random pairs, as many", "oracle")):
            runs = [row["measures"] for row in rows if (row["group"], row["arm"]) == (group, arm)]
            values = [t_interval([run[excess_at(part)] for run in runs]) for part in PARTS if runs]
            figure.add_scatter(
                x=[100 * part for part in PARTS], y=[mean for mean, _ in values], name=arm, mode="lines+markers",
                error_y={"array": [0 if half != half else half for _, half in values], "thickness": 1},
                line={"color": INK[i], "dash": DASHES[i]}, marker={"symbol": SYMBOLS[i], "color": INK[i]},
            )  # fmt: skip
        figure.add_hline(y=0, line_color="#888")
        title = f"{group}: pairs of different classes in the band, over those among all"
        figures[title] = styled(figure, "training done %", "percentage points")
    return figures


STUDY = study_of(
    name="purity",
    question="When in training does the band hold more pairs of different classes than random pairs do?",
    arms=arms,
    measures={**MEASURES, **{excess_at(part): f"band over base at {part:.0%}" for part in PARTS}},
    table="Figure 4c",
    figures=figures,
)
