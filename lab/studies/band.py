"""Figure 4a and b: accuracy by the edges of the band."""

from __future__ import annotations

from typing import Any

from lab.small_encoders import CLUSTERED, Training, arms_of, controls, sets_of, study_of
from lab.study import Arm, Scale

_COMBINED: dict[str, Any] = {"select": "band", "margin": 0.03, "temperature_scale": 0.6}
HIGHS, LOWS = (0.05, 0.1, 0.15, 0.2), (0.3, 0.5, 1.0)


def arms(scale: Scale) -> list[Arm]:
    """The paper's treatment in bands that have one edge of the paper's band."""
    edges = [(high, 0.22) for high in HIGHS] + [(0.15, low) for low in LOWS]
    banded = [
        Arm(f"band {high:g} to {low:g}", {**_COMBINED, "high": high, "low": low}, paper=_paper(high, low))
        for high, low in edges
    ]
    return arms_of(sets_of(scale, *CLUSTERED), [*controls(Training("", **_COMBINED)), *banded])


def _paper(high: float, low: float) -> str:
    return "CIFAR-10 89.68 (+1.42)" if (high, low) == (0.15, 0.22) else ""


STUDY = study_of(
    name="band",
    question="How much do the edges of the band matter, and does any band gain more than random pairs?",
    arms=arms,
    table="Figure 4a and b",
)
