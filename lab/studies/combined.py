"""Tables 1 to 4: removal, margin, temperature and both on CIFAR-10, with all controls."""

from __future__ import annotations

from typing import Any

from lab.pictures import MEASURES, SECONDS, check_images, run, shortest
from lab.small_encoders import BEST
from lab.study import Arm, Scale, Study

ORACLE: dict[str, Any] = {"treatment": "combined", "select": "affinity", "affinity_start": 1, "oracle": True}
_TREATED: dict[str, tuple[dict[str, Any], str]] = {
    "removal, neutral": ({"treatment": "removal"}, "89.03 (+0.77)"),
    "removal, exclude": ({"treatment": "removal", "removal": "exclude"}, "89.03 (+0.77)"),
    "margin": ({"treatment": "margin"}, "89.16 (+0.90)"),
    "margin, all pairs": ({"treatment": "margin", "band_start": 1e-6, "band_stop": 1.0}, "88.52 (+0.26)"),
    "temperature": ({"treatment": "temperature"}, "89.24 (+0.98)"),
    "temperature, all pairs": ({"treatment": "temperature", "band_start": 1e-6, "band_stop": 1.0}, "88.38 (+0.12)"),
    "combined": ({"treatment": "combined"}, "89.68 (+1.42)"),
    "combined, random pairs": ({"treatment": "combined", "select": "random"}, ""),
    "combined, oracle": (ORACLE, ""),
}


def arms(scale: Scale) -> list[Arm]:
    """The paper's treatments at its temperature, and plain training over temperatures."""
    plain = [Arm("plain", {"temperature": 0.5}, of=BEST, baseline="", paper="88.26")]
    plain += [Arm(f"tau {tau:g}", {"temperature": tau}, of=BEST) for tau in (0.1, 0.2, 1.0)]
    treated = [Arm(name, {"temperature": 0.5, **given}, paper=paper) for name, (given, paper) in _TREATED.items()]
    return [plain[0], *treated[-3:]] if scale == "smoke" else [*plain, *treated]


STUDY = Study(
    name="combined",
    question="What do removal, margin, temperature and both gain on CIFAR-10, beyond all controls?",
    arms=lambda scale: shortest(arms(scale)),
    run=run,
    measures=MEASURES,
    differences=2,
    tuned_on="held_out",
    seconds=SECONDS,
    table="Tables 1 to 4",
    ready=check_images,
)
