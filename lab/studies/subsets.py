"""Figure 1: training on a subset of the images, chosen by the scan, by prototypes, by SAS or at random."""

from __future__ import annotations

from lab.pictures import MEASURES, SECONDS, check_images, run, shortest
from lab.study import Arm, Scale, Study

SHARES = (0.2, 0.8)


def arms(scale: Scale) -> list[Arm]:
    """Subsets of one size, and all images."""
    found = []
    for share in SHARES[1:] if scale == "smoke" else SHARES:
        part = f"{share:.0%} of the images"
        found.append(Arm(f"random {part}", {"keep": "random", "share": share}, baseline=""))
        found += [
            Arm(f"{part}, {title}", {"keep": keep, "share": share}, baseline=f"random {part}")
            for title, keep in (
                ("easiest by the scan", "scan"),
                ("nearest to prototypes", "prototypes"),
                ("SAS", "sas"),
            )
        ]
    return [*found, Arm("all images", baseline=found[-4].name)]


STUDY = Study(
    name="subsets",
    question="Which part of the images trains better than a random one of the same size?",
    arms=lambda scale: shortest(arms(scale)),
    run=run,
    measures={**MEASURES, "images": "images"},
    differences=2,
    seconds=SECONDS,
    table="Figure 1",
    ready=check_images,
)
