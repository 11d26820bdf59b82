"""The paper's treatment and methods for hard and false negatives, each at its best settings and temperature."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab.small_encoders import CLUSTERED, arms_of, sets_of, study_of
from lab.study import Arm, Scale

PLAIN = "plain"
_COMBINED = {"margin": 0.03, "temperature_scale": 0.6}
_TAUS = (0.05, 0.1, 0.2, 0.5)
# Method -> settings to tune besides the temperature.
GRIDS: dict[str, tuple[dict[str, Any], ...]] = {
    PLAIN: ({},),
    "combined (the paper's)": tuple(
        {"select": "band", "high": high, "low": low, **_COMBINED} for high, low in ((0.15, 0.22), (0.1, 0.5))
    ),
    "combined, random pairs": ({"select": "random", **_COMBINED},),
    "combined, oracle": ({"select": "oracle", **_COMBINED},),
    "hard negatives (HCL)": ({"loss": "HardNegativeLoss", "options": {"hardness": 0.5, "class_prior": 0.1}},),
    "debiased": ({"loss": "DebiasedLoss", "options": {"class_prior": 0.1}},),
    "decoupled": ({"loss": "DecoupledLoss"},),
    "false-negative cancellation": ({"loss": "FalseNegativeCancellationLoss", "options": {"top_k": 5}},),
    "similarity-dependent temperature": ({"loss": "SimilarityTemperatureLoss", "options": {"coldest": 0.05}},),
}  # fmt: skip


def arms(scale: Scale) -> list[Arm]:
    """Every candidate of every method."""
    candidates = [
        Arm(f"{method}, {title}", setting, of=method, baseline=PLAIN)
        for method, grid in GRIDS.items()
        for title, setting in _candidates(grid[:1] if scale == "smoke" else grid, scale)
    ]
    return arms_of(sets_of(scale, *CLUSTERED), candidates)


def _candidates(grid: tuple[dict[str, Any], ...], scale: Scale) -> Iterator[tuple[str, dict[str, Any]]]:
    for tau in _TAUS[:1] if scale == "smoke" else _TAUS:
        for setting in grid:
            words = [f"tau {tau:g}", *(f"{name} {value:g}" for name, value in setting.get("options", {}).items())]
            if "high" in setting:
                words.append(f"band {setting['high']:g} to {setting['low']:g}")
            yield ", ".join(words), {**setting, "temperature": tau}


STUDY = study_of(
    name="hard-negatives",
    question="Does the paper's treatment gain more than methods of hard and false negatives, each at its best?",
    arms=arms,
    table="asked for by reviewers",
)
