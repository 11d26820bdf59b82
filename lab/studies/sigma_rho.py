"""Figure 5 of the paper: margin and temperature scale over a grid."""

from __future__ import annotations

from lab.comparison import paired
from lab.drawing import Panel, curve
from lab.small_encoders import Training, arms_of, controls, sets_of, study_of
from lab.study import Arm, Row, Scale

SIGMAS, RHOS = (0.0, 0.03, 0.1), (0.6, 0.8, 1.0)
_PAPER = {
    (0.03, 1.0): "CIFAR-10 89.16 (+0.90)",
    (0.0, 0.6): "CIFAR-10 89.24 (+0.98)",
    (0.03, 0.6): "CIFAR-10 89.68 (+1.42)",
}


def arms(scale: Scale) -> list[Arm]:
    """The paper's band with every strength of the treatment. Sigma 0 with rho 1 is plain training."""
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


def figures(rows: list[Row]) -> list[Panel]:
    """Gain of the linear probe over plain training against rho, with a curve for each sigma."""
    panels = []
    for group in dict.fromkeys(row["group"] for row in rows):
        values: dict[str, dict[int, float]] = {}
        for row in rows:
            if row["group"] == group:
                values.setdefault(row["arm"], {})[row["seed"]] = row["measures"]["linear"]
        series = []
        for i, sigma in enumerate(SIGMAS):
            arms = {rho: values.get(f"sigma {sigma:g}, rho {rho:g}", {}) for rho in RHOS}
            gains = {rho: paired(found, values["plain"]) for rho, found in arms.items() if found}
            series.append(curve(f"sigma {sigma:g}", gains, i))
        panels.append(Panel(series, group, "rho", "linear probe, minus plain", zero=True))
    return panels


STUDY = study_of(
    name="sigma-rho",
    question="Which margin and which temperature scale gain, and does their choice matter?",
    arms=arms,
    table="Figure 5",
    figures=figures,
)
