"""Table 9: temperature scales of difficult pairs from 0.7 to 10^9, which nearly removes a pair."""

from __future__ import annotations

from typing import Any

from lab.small_encoders import Training, arms_of, controls, sets_of, study_of
from lab.study import Arm, Scale

# Accuracy on CIFAR-100; 1 is plain training.
PAPER = {0.7: 61.67, 1.0: 59.95, 10.0: 59.63, 100.0: 59.82, 1000.0: 60.05, 1e9: 60.31}


def arms(scale: Scale) -> list[Arm]:
    """A band from the share of a class to a half, as the paper's for CIFAR-100."""
    band: dict[str, Any] = {"select": "band", "high": 0.1, "low": 0.5}
    treated = [
        Arm(
            f"rho {rho:g}", {**band, "temperature_scale": rho},
            paper=f"CIFAR-100 {accuracy} ({accuracy - PAPER[1.0]:+.2f})",
        )
        for rho, accuracy in PAPER.items()
        if rho != 1
    ]  # fmt: skip
    return arms_of(sets_of(scale, "pendigits"), [*controls(Training("", **band, temperature_scale=0.7)), *treated])


STUDY = study_of(
    name="rho-extremes",
    question="What does a large temperature of difficult pairs do, up to leaving them out?",
    arms=arms,
    table="Table 9",
)
