"""Table 5: SimCLR, MoCo and the spectral loss, each with settings of its own."""

from __future__ import annotations

from typing import Any

from pairsift.studies.pictures import MEASURES, SECONDS, check_images, run, shortest
from pairsift.studies.study import Arm, Scale, Study

GRIDS: dict[str, tuple[dict[str, Any], ...]] = {
    "simclr": tuple({"temperature": tau} for tau in (0.2, 0.5)),
    "moco": tuple({"temperature": tau, "lr": lr} for tau in (0.1, 0.2) for lr in (0.06, 0.25)),
    "spectral": tuple({"mu": mu} for mu in (3.0, 10.0, 30.0)),
}
PAPER = {("moco", "none"): "85.84", ("moco", "combined"): "86.82 (+0.98)"}


def arms(scale: Scale) -> list[Arm]:
    """Every setting of an objective, plain and treated; each is compared at its best."""
    return [
        Arm(
            f"{name}{', combined' * (treatment == 'combined')}, {_words(setting)}",
            {"method": name, "treatment": treatment, **setting}, name, of="plain" if treatment == "none" else treatment,
            baseline="" if treatment == "none" else "plain", paper=PAPER.get((name, treatment), ""),
        )
        for name, grid in GRIDS.items()
        for treatment in ("none", "combined")
        for setting in (grid[:1] if scale == "smoke" else grid)
    ]  # fmt: skip


def _words(setting: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in setting.items())


STUDY = Study(
    name="objectives",
    question="Does the treatment gain with MoCo and the spectral loss, each at settings of its own?",
    arms=lambda scale: shortest(arms(scale)),
    run=run,
    measures=MEASURES,
    differences=2,
    tuned_on="held_out",
    seconds=SECONDS,
    table="Table 5",
    ready=check_images,
)
