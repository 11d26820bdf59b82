"""Table 7: pairs selected on encoder features h, or on projections z."""

from __future__ import annotations

from typing import Any

from lab.small_encoders import Training, arms_of, controls, sets_of, study_of
from lab.study import Arm, Scale

_COMBINED: dict[str, Any] = {"select": "band", "margin": 0.03, "temperature_scale": 0.6}


def arms(scale: Scale) -> list[Arm]:
    """The paper's treatment of the paper's band, ranked by h or by z."""
    selected = [
        Arm("selected on h", _COMBINED, paper="CIFAR-10 89.68 (+1.42), CIFAR-100 62.86 (+2.91)"),
        Arm("selected on z", {**_COMBINED, "feature": "z"}, paper="CIFAR-10 87.86 (-0.40), CIFAR-100 60.63 (+0.68)"),
    ]
    return arms_of(sets_of(scale, "pendigits", "gaussians"), [*controls(Training("", **_COMBINED)), *selected])


STUDY = study_of(
    name="selection-feature",
    question="Does it matter whether pairs are selected on features h or on projections z?",
    arms=arms,
    table="Table 7",
)
