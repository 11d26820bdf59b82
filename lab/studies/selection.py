"""The gain by selection of pairs in training: plain, band, same-class estimate, guides and labels.

The runs use images only, except those that select pairs by labels. *patches* is a guide without an encoder. *shuffled*
is the same guide with the images in another order. It shows the gain by treatment of the most similar pairs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab.selection_training import COMBINED, RANDOM, SETS, SOFT, run
from lab.study import Arm, Scale, Study, needs

ARMS: dict[str, dict[str, Any]] = {
    "plain": {}, "paper": {"treatment": "combined"}, "random": RANDOM, "affinity": COMBINED, "mates": SOFT,
    "patches": {**COMBINED, "guide": "patches"}, "shuffled": {**COMBINED, "evidence": "shuffled patches"},
    "guide": {**COMBINED, "guide": "image"}, "second": {**COMBINED, "guide": "plain"},
    "oracle": {**COMBINED, "affinity_start": 1, "evidence": "labels"},
}  # fmt: skip
_TEMPERATURES = (0.5, 0.2, 0.15, 0.1)
_SMALLER: dict[str, dict[str, Any]] = {
    "imagenette": {"per_class": 500, "epochs": 20}, "tiny-imagenet": {"per_class": 62, "epochs": 20},
}  # fmt: skip


def arms(scale: Scale) -> list[Arm]:
    """All arms on CIFAR-10 at every temperature; fewer arms on the other sets at one."""
    chosen = [("cifar10", tau, {"per_class": 1000, "epochs": 30}, tuple(ARMS)) for tau in _TEMPERATURES]
    chosen += [(name, 0.2, sizes, ("plain", "random", "affinity", "patches")) for name, sizes in _SMALLER.items()]
    if scale == "smoke":
        chosen = [("cifar10", 0.5, {"per_class": 1000, "epochs": 30}, ("plain", "random", "affinity", "oracle"))]
    return [
        Arm(
            arm, {"set": name, "temperature": tau, **sizes, "precision": "bf16", **ARMS[arm]}, f"{name}, tau {tau:g}",
            baseline="" if arm == "plain" else "plain",
        )
        for name, tau, sizes, names in chosen
        for arm in names
    ]  # fmt: skip


def check(arms: Sequence[Arm], scale: Scale) -> None:
    """Refuse to run without the images; digits at smoke scale need none.

    Raises:
        StudyError: it says what is missing.
    """
    if scale != "smoke":
        needs(*dict.fromkeys(SETS[arm.setting["set"]][0] for arm in arms))(arms, scale)


STUDY = Study(
    name="selection",
    question="What is selection of pairs worth: by a band, by the same-class estimate, by a guide, by labels?",
    arms=arms,
    run=run,
    measures={"linear": "linear probe %", "knn20": "20-NN %"},
    differences=2,
    seconds=400.0,
    ready=check,
)
