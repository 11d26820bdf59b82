"""Table 11: measured beta and gamma, and the gain by the theory's margin and temperature."""

from __future__ import annotations

from typing import Any

from lab.small_encoders import MEASURES, Training, arms_of, controls, sets_of, study_of
from lab.study import Arm, Scale

_COMBINED: dict[str, Any] = {"select": "band", "margin": 0.03, "temperature_scale": 0.6}
_PAPER = "beta / gamma x 100: CIFAR-10 19.1 / 20.9, CIFAR-100 35.6 / 37.4, ImageNet-1k 39.8 / 42.9"


def arms(scale: Scale) -> list[Arm]:
    """Plain training with measured levels, the paper's treatment, and the theory's treatment."""
    treated = [
        Arm("selected on h", _COMBINED, paper=_PAPER),
        Arm("the theory's own sigma and rho", {"select": "band", "own": True}),
    ]
    return arms_of(sets_of(scale, "pendigits", "gaussians"), [*controls(Training("", **_COMBINED)), *treated])


STUDY = study_of(
    name="levels",
    question="How far is gamma above beta, and do the theory's own sigma = gamma - beta and rho = beta / gamma gain?",
    arms=arms,
    measures={
        **MEASURES, "alpha": "alpha x 100", "beta": "beta x 100", "gamma": "gamma x 100", "gap": "gamma - beta x 100",
        "sigma": "sigma", "rho": "rho",
    },
    table="Table 11",
)  # fmt: skip
