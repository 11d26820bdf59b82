"""Figure 1: training on a part of the images, chosen by the scan, by prototypes or at random."""

from __future__ import annotations

from pairsift.studies.pictures import MEASURES, SECONDS, check_images, run
from pairsift.studies.study import Arm, Scale, Study

SHARES = (0.2, 0.8)


def arms(scale: Scale) -> list[Arm]:
    """Subsets of one size, and all images."""
    found = []
    for share in SHARES[1:] if scale == "smoke" else SHARES:
        group = f"{share:.0%} of the images"
        found.append(Arm("random", {"keep": "random", "share": share}, group, baseline=""))
        found += [
            Arm(title, {"keep": keep, "share": share}, group, baseline="random")
            for title, keep in (("easiest by the scan", "scan"), ("nearest to prototypes", "prototypes"))
        ]
        found.append(Arm("all images", {}, group, baseline="random"))
    return found


STUDY = Study(
    name="subsets",
    question="Which part of the images trains better than a random one of the same size?",
    arms=arms,
    run=run,
    measures={**MEASURES, "images": "images"},
    differences=2,
    seconds=SECONDS,
    table="Figure 1",
    ready=check_images,
)
