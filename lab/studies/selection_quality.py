"""Accuracy against the quality of the estimate of same-class pairs.

*flags* treat the most similar pairs of different classes. They miss a share of these, or include a share of the
same-class pairs. *judged* arms use an estimate with a known AUROC at any similarity: they treat confident negatives and
give same-class pairs less weight. *mates* only do the latter. Other losses for hard negatives are trained at the same
temperature.
"""

from __future__ import annotations

from typing import Any

from lab.selection_training import COMBINED, RANDOM, SOFT, run
from lab.studies.selection import check
from lab.study import Arm, Scale, Study

QUALITIES = (0.5, 0.6, 0.7, 0.8, 0.9)
_FLAGS: dict[str, Any] = {"treatment": "combined", "select": "affinity", "affinity_start": 1}
ARMS: dict[str, dict[str, Any]] = {
    "plain": {}, "band": {"treatment": "combined"}, "random": RANDOM, "flags": {**_FLAGS, "evidence": "labels"},
    "flags-25": {**_FLAGS, "evidence": {"mistaken": 0.25}}, "flags-50": {**_FLAGS, "evidence": {"mistaken": 0.5}},
    "flags-100": {**_FLAGS, "evidence": {"mistaken": 1.0}}, "flags-missed-50": {**_FLAGS, "evidence": {"missed": 0.5}},
    **{
        f"{name}-{auroc:g}": {**setting, "affinity_start": 1, "evidence": {"auroc": auroc}}
        for name, setting in (("judged", COMBINED), ("mates", SOFT))
        for auroc in QUALITIES
    },
    "judged-1": {**COMBINED, "affinity_start": 1, "evidence": "labels"},
    "mates-1": {**SOFT, "affinity_start": 1, "evidence": "labels"}, "affinity": COMBINED,
    "patches": {**COMBINED, "guide": "patches"}, "shuffled": {**COMBINED, "evidence": "shuffled patches"},
    "guide": {**COMBINED, "guide": "image"}, "hard-negatives": {"loss": "HardNegativeLoss"},
    "debiased": {"loss": "DebiasedLoss"}, "cancellation": {"loss": "FalseNegativeCancellationLoss"},
}  # fmt: skip
_USUAL = {"per_class": 500, "epochs": 20, "precision": "bf16"}


def arms(scale: Scale) -> list[Arm]:
    """All arms at two temperatures."""
    names = ("plain", "flags-100", "judged-0.7", "hard-negatives") if scale == "smoke" else tuple(ARMS)
    return [
        Arm(
            arm, {"set": "cifar10", "temperature": tau, **_USUAL, **ARMS[arm]}, f"tau {tau:g}",
            baseline="" if arm == "plain" else "plain",
        )
        for tau in ((0.5,) if scale == "smoke" else (0.5, 0.2))
        for arm in names
    ]  # fmt: skip


STUDY = Study(
    name="selection-quality",
    question="How well must pairs of one class be told from others for selection to pay?",
    arms=arms,
    run=run,
    measures={"linear": "linear probe %", "knn20": "20-NN %"},
    differences=2,
    seconds=130.0,
    ready=check,
)
