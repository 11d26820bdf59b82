"""Tunes adapters of frozen text features for the study `retrieval-tuned`, on held-out pairs of seeds of its own.

For every set and mask a grid of rates, temperatures and lengths, and for plain training of widths, is trained on 90 %
of the training pairs. The rest ranks its own positives after every 50 steps, which gives the best step. The grid point
with the lowest mean log rank over the seeds is chosen. Neither labels nor test rows take part, except for the labels
of the mask `oracle`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from lab.adapters import MASKS, Setting, tuned
from lab.rows import RESULTS, read
from lab.study import Arm, Measures, Scale, Study, StudyError, data_folder, needs
from lab.text_sets import SETS, TextSet, load

# Sets by the names of groups, with batch sizes: in large batches of few classes false negatives are many.
LARGE = "trec6, batches of 512"
GROUPS = {name: (name, 128) for name in SETS} | {LARGE: ("trec6", 512)}
RATES, TEMPERATURES, STEPS = (1e-3, 3e-3), (0.05, 0.1, 0.2, 0.5), (300, 2400)
# Methods by name: mask and widths of the inner layer that are tried.
METHODS = {"plain, linear": ("plain", (0,)), "plain": ("plain", (256, 1024))} | {
    mask: (mask, (256,)) for mask in MASKS if mask != "plain"
}
# What large batches are trained with: they take four times as long.
OF_LARGE = ("plain", "guide", "gist 0", "random", "oracle")
# Seeds from here on are tuned on. The study that uses the settings leaves them out.
FIRST_SEED = 100


@lru_cache(maxsize=1)
def texts_of(name: str) -> TextSet:
    """A set, with its features kept in the folder `features`."""
    return load(name, data_folder(), Path("features"))


def arms(scale: Scale) -> list[Arm]:
    """The grid of every method on every set; at smoke scale one point of two methods."""
    found = [
        Arm(
            f"{method}, hidden {hidden}, rate {rate:g}, tau {tau:g}, {steps} steps",
            {"set": name, "batch": batch, "mask": mask, "hidden": hidden, "rate": rate, "temperature": tau,
             "steps": steps},
            group, of=method, baseline="",
        )
        for group, (name, batch) in GROUPS.items()
        for method, (mask, widths) in METHODS.items()
        if group != LARGE or method in OF_LARGE
        for hidden, rate, tau, steps in product(widths[: 1 if group == LARGE else None], RATES, TEMPERATURES, STEPS)
    ]  # fmt: skip
    if scale != "smoke":
        return found
    first = (next(arm for arm in found if arm.of == method) for method in ("plain", "guide"))
    return [replace(arm, setting={**arm.setting, "steps": 10}) for arm in first]


def setting_of(setting: dict[str, Any]) -> Setting:
    """The setting of an arm without its set."""
    return Setting(**{name: setting[name] for name in Setting._fields})


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """The best mean log rank of held-out pairs, and the step that reached it."""
    seed += FIRST_SEED
    found = tuned(texts_of(setting["set"]).paired(seed), setting_of(setting), seed)
    return {"log_rank": round(found.log_rank, 4), "step": float(found.steps)}


def chosen(results: Path = RESULTS) -> dict[tuple[str, str], dict[str, Any]]:
    """Settings by group and method: those with the lowest mean log rank, the first of equal ones.

    Raises:
        StudyError: runs of the tuning are missing.
    """
    file = results / STUDY.name / "runs.jsonl"
    rows = [row for row in read(file) if row["scale"] == "cpu"] if file.exists() else []
    ranks: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        ranks.setdefault((row["group"], row["arm"]), []).append(row["measures"]["log_rank"])
    best: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}
    for arm in arms("cpu"):
        found = ranks.get((arm.group, arm.name), [])
        if len(found) < STUDY.seeds:
            raise StudyError(f"{arm.group}, {arm.name} was not tuned: run python -m lab {STUDY.name} -o lab/results")
        mean = float(np.mean(found))
        if (arm.group, arm.of) not in best or mean < best[arm.group, arm.of][0]:
            best[arm.group, arm.of] = mean, dict(arm.setting)
    return {key: setting for key, (_, setting) in best.items()}


STUDY = Study(
    "retrieval-tuning",
    "Which rate, temperature, length and width are best for each mask on held-out pairs?",
    arms,
    run,
    {"log_rank": "mean log rank", "step": "best step"},
    tuned_on="log_rank",
    lower_is_better=True,
    seconds=10,
    seeds=2,
    ready=needs(*SETS),
)
