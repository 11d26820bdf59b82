"""Treatments of noisy similarity graphs over noise, bands, strengths and rounds."""

from __future__ import annotations

from typing import Any

from lab.laboratory import LaboratorySetting
from lab.studies.noisy_graphs import run
from lab.study import Arm, Scale, Study

DRAWS = 60
ARMS = ("with", "without", "margin", "temperature", "drop", "random margin", "random temperature", "random drop",
        "removal", "random removal", "oracle margin", "oracle temperature")  # fmt: skip
# The first seed draws a vertex whose degree the noise makes negative at these; the next one does not.
_NEXT_SEED: tuple[dict[str, Any], ...] = (
    {"epsilon": 0.75}, {"n_d": 20}, {"rounds": 1}, {"rounds": 10}, {"pairing": "matched"}, {"k": 10}
)  # fmt: skip


def changes() -> list[dict[str, Any]]:
    """Changes to the default laboratory."""
    bands = ([0.2, 1.0], [0.2, 0.3], [0.4, 1.0])
    found: list[dict[str, Any]] = [
        {"epsilon": epsilon, "band": band} for epsilon in (0.3, 0.45, 0.6, 0.7) for band in bands
    ]
    found += [{"temperature_scale": t, "margin": m} for t, m in ((0.9, 0.1), (0.6, 0.6), (0.4, 1.0))]
    return [*found, {"n_d": 5}, *({**change, "after": 1} for change in _NEXT_SEED)]


def words(change: dict[str, Any]) -> str:
    """A change as part of the name of a group."""
    return ", ".join(f"{name} {value}" for name, value in change.items() if name != "after")


def arms(scale: Scale) -> list[Arm]:
    """Every arm of every laboratory, at every level of difficult pairs."""
    return [
        Arm(
            arm, {**change, "gamma": gamma, "arm": arm, "draws": DRAWS}, f"{words(change)}, gamma {gamma:g}",
            baseline="",
        )
        for change in (changes()[:1] if scale == "smoke" else changes())
        for gamma in LaboratorySetting.gammas
        for arm in ARMS
    ]  # fmt: skip


STUDY = Study(
    name="noisy-graph-sweeps",
    question="At which noise, bands, strengths and rounds do treatments of noisy graphs pay?",
    arms=arms,
    run=run,
    measures={
        "accuracy": "accuracy",
        "difference": "minus untreated",
        "half_width": "±",
        "excess": "purity minus base",
    },
    differences=0,
    seconds=0.5,
    seeds=1,
)
