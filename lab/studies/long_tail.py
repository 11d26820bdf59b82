"""Table 6: classes whose sizes fall exponentially."""

from __future__ import annotations

from lab.pictures import MEASURES, SECONDS, check_images, run, shortest
from lab.small_encoders import BEST
from lab.studies.combined import ORACLE
from lab.study import Arm, Scale, Study

IMBALANCE = 50.0


def arms(scale: Scale) -> list[Arm]:
    """Plain training, treatment and controls on an imbalanced training set. Probe and test are balanced."""
    tail = {"imbalance": IMBALANCE}
    found = [
        Arm("plain", {**tail, "temperature": 0.5}, of=BEST, baseline="", paper="Tiny-ImageNet-LT 43.34"),
        Arm("tau 0.2", {**tail, "temperature": 0.2}, of=BEST),
        Arm("combined", {**tail, "treatment": "combined"}, paper="Tiny-ImageNet-LT 47.62 (+4.28)"),
        Arm("combined, random pairs", {**tail, "treatment": "combined", "select": "random"}),
        Arm("combined, oracle", {**tail, **ORACLE}),
    ]
    return [found[0], found[2]] if scale == "smoke" else found


STUDY = Study(
    name="long-tail",
    question="Does the treatment gain where classes are imbalanced?",
    arms=lambda scale: shortest(arms(scale)),
    run=run,
    measures=MEASURES,
    differences=2,
    tuned_on="held_out",
    seconds=SECONDS / 3,
    table="Table 6",
    ready=check_images,
)
