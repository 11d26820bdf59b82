"""Figure 5 and the heat map that its reviewers asked for: margin and temperature scale over a grid."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from lab.small import Training, arms_of, controls, sets_of, study_of
from lab.study import Arm, Row, Scale
from pairsift.report.figures import styled

SIGMAS, RHOS = (0.0, 0.03, 0.1), (0.6, 0.8, 1.0)
_PAPER = {
    (0.03, 1.0): "CIFAR-10 89.16 (+0.90)",
    (0.0, 0.6): "CIFAR-10 89.24 (+0.98)",
    (0.03, 0.6): "CIFAR-10 89.68 (+1.42)",
}


def arms(scale: Scale) -> list[Arm]:
    """The paper's band, treated with every strength; sigma 0 and rho 1 is plain training."""
    grid = [(sigma, rho) for sigma in SIGMAS for rho in RHOS if (sigma, rho) != (0, 1)]
    treated = [
        Arm(
            f"sigma {sigma:g}, rho {rho:g}", {"select": "band", "margin": sigma, "temperature_scale": rho},
            paper=_PAPER.get((sigma, rho), ""),
        )
        for sigma, rho in (grid[:2] if scale == "smoke" else grid)
    ]  # fmt: skip
    control = Training("", select="band", margin=0.03, temperature_scale=0.6)
    return arms_of(sets_of(scale, "pendigits"), [*controls(control), *treated])


def figures(rows: list[Row]) -> dict[str, go.Figure]:
    """Mean difference from plain training over sigma and rho."""
    figures = {}
    for group in dict.fromkeys(row["group"] for row in rows):
        of_group = [row for row in rows if row["group"] == group]
        plain = {row["seed"]: row["measures"]["linear"] for row in of_group if row["arm"] == "plain"}
        cells = np.full((len(SIGMAS), len(RHOS)), np.nan)
        cells[0, -1] = 0
        for i, sigma in enumerate(SIGMAS):
            for j, rho in enumerate(RHOS):
                gains = [
                    row["measures"]["linear"] - plain[row["seed"]]
                    for row in of_group
                    if row["arm"] == f"sigma {sigma:g}, rho {rho:g}" and row["seed"] in plain
                ]
                if gains:
                    cells[i, j] = np.mean(gains)
        labels = [[str(each) for each in side] for side in (RHOS, SIGMAS)]
        most = float(np.nanmax(np.abs(cells))) or 1.0
        heat = go.Heatmap(
            x=labels[0], y=labels[1], z=cells, colorscale="RdBu", zmin=-most, zmax=most, texttemplate="%{z:.2f}"
        )
        figures[f"{group}: linear probe, minus plain"] = styled(go.Figure(heat), "rho", "sigma")
    return figures


STUDY = study_of(
    name="sigma-rho",
    question="Which margin and which temperature scale gain, and does their choice matter?",
    arms=arms,
    table="Figure 5",
    figures=figures,
)
