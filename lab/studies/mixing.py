"""Figures 2 and 6 and Table 10: training with mixed images, without them, and with treatment."""

from __future__ import annotations

from typing import Any

from lab.pictures import MEASURES, SECONDS, check_images, run, shortest
from lab.study import Arm, Scale, Study

# Accuracy and eigenvalue x 10^5 of Table 10.
PAPER = {0.0: (88.3, 2.93), 0.1: (88.0, 3.36), 0.2: (87.7, 3.58), 0.3: (86.2, 3.72)}


def arms(scale: Scale) -> list[Arm]:
    """Every share of mixed images: with them, without them, treated, and random pairs treated."""
    found = []
    for share, (accuracy, eigenvalue) in PAPER.items():
        setting: dict[str, Any] = {"mixed": share} if share else {}
        group, paper = f"{share:.0%} mixed", f"{accuracy}, eigenvalue {eigenvalue}"
        found += [
            Arm("plain", setting, group, baseline="", paper=paper),
            Arm("combined", {**setting, "treatment": "combined"}, group),
            Arm("combined, random pairs", {**setting, "treatment": "combined", "select": "random"}, group),
        ]
        if share:
            found.append(Arm("without the mixes", {**setting, "without": True}, group))
    return [arm for arm in found if arm.group == "20% mixed"] if scale == "smoke" else found


STUDY = Study(
    name="mixing",
    question="Do mixed images hurt, does treating their pairs help, and do the levels move as the theory says?",
    arms=lambda scale: shortest(arms(scale)),
    run=run,
    measures={
        **MEASURES, "alpha": "alpha x 100", "beta": "beta x 100", "gamma": "gamma x 100",
        "eigenvalue": "printed eigenvalue x 10^5", "exact": "exact eigenvalue x 10^5",
    },
    differences=2,
    seconds=SECONDS,
    table="Figures 2, 6; Table 10",
    ready=check_images,
)  # fmt: skip
