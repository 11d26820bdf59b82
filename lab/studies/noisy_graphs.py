"""Treatments of noisy similarity graphs: the loss by difficult examples, and the gain by each treatment.

A run is a laboratory of many noise draws (`lab.laboratory`). Within a draw all arms share the noise and the split, so
differences are paired. Intervals are over draws.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from lab.laboratory import ARMS, LaboratorySetting, Report, run_laboratory
from lab.study import Arm, Measures, Scale, Study
from pairsift.pairs import RankBand

DRAWS = 200
MEASURES = {
    "accuracy": "accuracy", "difference": "minus untreated", "half_width": "±", "excess": "purity minus base",
}  # fmt: skip
# Fields of a setting that are none of `LaboratorySetting`.
_OWN = ("gamma", "arm", "draws", "after")
_SMALL = {"n": 20, "n_d": 4}
_NAMES = (
    "accuracy", "difference", "half_width", "over_control", "over_control_half_width", "purity", "base_rate", "excess",
    "difficult_share", "difficult_base_rate",
)  # fmt: skip


def arms(scale: Scale) -> list[Arm]:
    """Every arm at every level of difficult pairs."""
    return [
        Arm(arm, {"gamma": gamma, "arm": arm, "draws": DRAWS}, f"gamma {gamma:g}", baseline="")
        for gamma in LaboratorySetting.gammas
        for arm in ARMS
    ]


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """Means over draws of one arm at one level of difficult pairs, in [0, 1].

    Args:
        setting: fields of `LaboratorySetting`; ``gamma`` and ``arm`` of the row, ``draws``, and ``after``, which is
            added to the seed.
        seed: of the draws.
        scale: "smoke" takes two draws of a small graph.
    """
    given = {name: value for name, value in setting.items() if name not in _OWN} | (_SMALL if scale == "smoke" else {})
    draws = 2 if scale == "smoke" else setting["draws"]
    report = _report(json.dumps(given), draws, seed + setting.get("after", 0))
    (row,) = (each for each in report.rows if (each.gamma, each.arm) == (setting["gamma"], setting["arm"]))
    return {name: getattr(row, name) for name in _NAMES}


@lru_cache(maxsize=1)
def _report(given: str, draws: int, seed: int) -> Report:
    """All arms at all levels, which share their draws."""
    values = json.loads(given)
    if "band" in values:
        values["band"] = RankBand(*values["band"])
    return run_laboratory(LaboratorySetting(**values), draws, seed)


STUDY = Study(
    name="noisy-graphs",
    question="Where noise nearly closes the spectral gap, what does each treatment give back?",
    arms=arms,
    run=run,
    measures={
        "accuracy": "accuracy",
        "difference": "minus untreated",
        "half_width": "±",
        "excess": "purity minus base",
    },
    differences=0,
    seconds=1.0,
    seeds=1,
)
