"""Errors of treatments and the exact bound, on mixtures of Gaussians with planted difficult examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lab.bound_order import in_words
from lab.drawing import Panel, curve
from lab.frames import mlp
from lab.mixtures import Mixture
from lab.small_encoders import BEST, Loss, Training, fit
from lab.study import Arm, Measures, Row, Scale, Study
from pairsift.evaluate import knn, linear_probe
from pairsift.losses import NTXentLoss
from pairsift.theory import SimilarityGraph, bounds
from pairsift.treatments import Treatment

CLASSES, PER_CLASS, NOISE, BATCH = 5, 200, 1.0, 128
STEPS = {"smoke": 4, "cpu": 100, "gpu": 100}
TAU, BAND = 0.5, {"high": 1 / CLASSES, "low": 0.5}
# Overlap of difficult examples, and their share.
MIXTURES = ((0.0, 0.2), (0.35, 0.2), (0.5, 0.2), (0.35, 0.1), (0.35, 0.4))
_COMBINED = {"margin": 0.1, "temperature_scale": 0.7}
ARMS: dict[str, dict[str, Any]] = {
    "plain": {}, "tau 0.2": {"temperature": 0.2}, "tau 1": {"temperature": 1.0},
    "removal, neutral": {"select": "band", "removal": "neutral"},
    "removal, exclude": {"select": "band", "removal": "exclude"},
    "margin": {"select": "band", "margin": 0.1},
    "temperature": {"select": "band", "temperature_scale": 0.7},
    "combined": {"select": "band", **_COMBINED},
    "combined, random pairs": {"select": "random", **_COMBINED},
    "combined, planted pairs": {"select": "planted", **_COMBINED},
    "combined, most similar different": {"select": "oracle", **_COMBINED},
    "difficult examples dropped": {"drop": "planted"},
    "as many at random dropped": {"drop": "random"},
}  # fmt: skip
# What the theory has a statement on, and which.
_STATEMENTS: dict[str, Callable[[SimilarityGraph, float, int], float]] = {
    "plain": bounds.exact, "combined, random pairs": bounds.exact,
    "difficult examples dropped": lambda graph, delta, k: float(bounds.removed(graph, delta, k)),
    "margin": lambda graph, delta, k: float(bounds.margin(graph, delta, k)),
    "temperature": lambda graph, delta, k: float(bounds.temperature(graph, delta, k)),
}  # fmt: skip


# Those of them that are treatments.
STATED = tuple(name for name in _STATEMENTS if name != "combined, random pairs")


def arms(scale: Scale) -> list[Arm]:
    """Every treatment of every mixture."""
    return [
        Arm(
            name, {"overlap": overlap, "share": share, "arm": name, **setting},
            f"overlap {overlap:g}, n_d/n {share:g}", BEST if name == "plain" or name.startswith("tau") else "",
        )
        for overlap, share in (MIXTURES[1:2] if scale == "smoke" else MIXTURES)
        for name, setting in ARMS.items()
    ]  # fmt: skip


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """One encoder of r + 1 features of one drawn mixture."""
    given = dict(setting)
    mixture = Mixture(CLASSES, overlap=given.pop("overlap"), share=given.pop("share"))
    name, drop = given.pop("arm"), given.pop("drop", "")
    train = mixture.draw(PER_CLASS, 3 * seed)
    held, test = mixture.draw(PER_CLASS // 2, 3 * seed + 1), mixture.draw(2 * PER_CLASS, 3 * seed + 2)
    kept = np.ones(len(train.y), bool)
    if drop:
        kept = ~(train.difficult if drop == "planted" else np.random.default_rng(seed).permutation(train.difficult))
    torch.manual_seed(seed)
    encoder = mlp(mixture.dimensions, CLASSES, 64)
    # The class and whether an example is difficult in one number, which only yardsticks read.
    codes = train.y + CLASSES * train.difficult
    fit(encoder, (train.x[kept], codes[kept]), NOISE, _objective(given, seed), seed, STEPS[scale], BATCH)
    with torch.no_grad():
        x, held_x, test_x = (encoder(torch.from_numpy(part.x)).numpy() for part in (train, held, test))
    error = 100 * (1 - linear_probe(x, train.y, test_x, test.y).accuracy)
    held_out = 100 * (1 - knn(x, train.y, held_x, held.y, k=20))
    known = _known(mixture)
    statement = _STATEMENTS.get(name)
    bound = None if statement is None else statement(known.graph, known.delta, CLASSES)
    return {
        "error": error, "held_out": held_out, "bound": bound,
        "gap": known.graph.gamma - known.graph.beta, "delta": 100 * known.delta,
        "removal_pays": float(bounds.removal_pays(known.graph).holds),
        "temperature_pays": float(bounds.temperature_pays(known.graph).holds),
    }  # fmt: skip


@dataclass(frozen=True)
class _Known:
    graph: SimilarityGraph
    delta: float


@lru_cache
def _known(mixture: Mixture) -> _Known:
    """Levels of a large draw, and the labelling error."""
    return _Known(mixture.graph(mixture.draw(400, 0), NOISE), mixture.labelling_error(NOISE))


def _objective(given: dict[str, Any], seed: int) -> Loss:
    training = Training("gaussians", **{**BAND, **given, "select": "none"})
    select = given.get("select", "none")
    if select == "planted":
        treated = NTXentLoss(TAU, training.band, Treatment(training.margin, training.temperature_scale))
        return lambda z0, z1, h0, h1, codes, rows: treated(z0, z1, pairs=_planted(codes))
    inner = Training("gaussians", **{**BAND, **given}).objective(seed)
    return lambda z0, z1, h0, h1, codes, rows: inner(z0, z1, h0, h1, codes % CLASSES, rows)


def _planted(codes: Tensor) -> Tensor:
    """Pairs of views of different classes that are both difficult."""
    both = torch.cat([codes, codes])
    classes, hard = both % CLASSES, both >= CLASSES
    return (classes[:, None] != classes) & hard[:, None] & hard


def figures(rows: list[Row]) -> list[Panel]:
    """Error against gamma - beta and against n_d / n."""
    return [
        _against(rows, "gap", lambda setting: setting["share"] == 0.2, "gamma - beta, at n_d / n = 0.2"),
        _against(rows, "share", lambda setting: setting["overlap"] == 0.35, "n_d / n, at overlap 0.35"),
    ]


def _against(rows: list[Row], what: str, chosen: Callable[[dict[str, Any]], bool], title: str) -> Panel:
    series = []
    for i, name in enumerate(name for name in ARMS if not name.startswith("tau")):
        found: dict[float, list[float]] = {}
        for row in rows:
            if row["arm"] == name and chosen(row["settings"]):
                at = {**row["settings"], **row["measures"]}[what]
                found.setdefault(at, []).append(row["measures"]["error"])
        series.append(curve(name, dict(sorted(found.items())), i))
    return Panel(series, "", title, "error of the linear probe %")


def notes(rows: list[Row]) -> list[str]:
    """Lines that compare order and crossings with the theory."""
    return in_words(rows, STATED)


STUDY = Study(
    name="gaussians",
    question="Does the order of the treatments, and where they cross, follow the theory where all of it is known?",
    arms=arms,
    run=run,
    measures={
        "error": "error %", "held_out": "20-NN error of held-out examples %",
        "bound": "bound of the theory", "gap": "gamma - beta", "delta": "delta %",
    },
    tuned_on="held_out",
    lower_is_better=True,
    seconds=0.4,
    seeds=20,
    table="Sections 3 and 4",
    figures=figures,
    notes=notes,
)  # fmt: skip
