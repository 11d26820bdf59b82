"""Small encoders of vectors, trained by SimCLR in a second with any selection and treatment of pairs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lab.frames import mlp, noisy
from lab.oracle import OracleSelector
from lab.quantities import label_free, looked_at
from lab.study import Arm, Measures, Scale, Study
from lab.vectors import Vectors, check_data, load_vectors
from pairsift.evaluate import knn, linear_probe
from pairsift.losses import NTXentLoss, baselines
from pairsift.pairs import GivenPairs, RankBand, pair_shares
from pairsift.theory import advise, measure_levels
from pairsift.train import Projector
from pairsift.treatments import Treatment

WIDTH, BATCH = 128, 128
STEPS = {"smoke": 10, "cpu": 150, "gpu": 150}
# Parts of the training after which the purity of the band is measured.
PARTS = (0, 0.1, 0.2, 0.4, 0.7, 1)
TEMPERATURES = (0.05, 0.1, 0.2, 0.5, 1.0)
BEST = "plain at its best temperature"
# Sets whose features form clusters after seconds of training.
CLUSTERED = ("pendigits", "digits", "fsdd", "gaussians", "banking77")
# Share of a row that the oracle selects.
ORACLE = 0.15
MEASURES = {
    "linear": "linear probe %", "knn20": "20-NN %", "held_out": "20-NN of held-out examples %",
    "purity": "pairs of different classes among the flagged %", "base": "among all %",
}  # fmt: skip

Loss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
Watch = Callable[[int, nn.Module], None]


@dataclass(frozen=True)
class Training:
    """The training of an encoder, which is the setting of an arm.

    Attributes:
        set: name of the set of vectors.
        loss: "ntxent", or a class of `pairsift.losses.baselines`.
        temperature: tau.
        select: treated pairs: "none", "all", "band", "random" (as many as the band), or "oracle" (the most similar
            pairs of different classes, by labels).
        high, low: edges of the band.
        feature: "h" or "z", the features that select pairs.
        margin, temperature_scale, removal: the treatment.
        options: arguments of a baseline.
        own: take margin and temperature scale from the theory, by levels of a plain run of the same seed.
    """

    set: str
    loss: str = "ntxent"
    temperature: float = 0.5
    select: str = "none"
    high: float = 0.15
    low: float = 0.22
    feature: str = "h"
    margin: float = 0.0
    temperature_scale: float = 1.0
    removal: str | None = None
    options: dict[str, float] | None = None
    own: bool = False

    @property
    def band(self) -> RankBand:
        """The rank band of `high` and `low`."""
        return RankBand(self.high, self.low)

    def objective(self, seed: int) -> Loss:
        """(z0, z1, h0, h1, labels, rows) -> loss of a batch of N examples in two views."""
        if self.loss != "ntxent":
            other = getattr(baselines, self.loss)(self.temperature, **(self.options or {}))
            return lambda z0, z1, *_: other(z0, z1)
        if self.select == "none":
            plain = NTXentLoss(self.temperature)
            return lambda z0, z1, *_: plain(z0, z1)
        removal: Any = self.removal
        treatment = Treatment(self.margin, self.temperature_scale, removal)
        if self.select == "oracle":
            return lambda z0, z1, h0, h1, y, rows: NTXentLoss(self.temperature, OracleSelector(y, ORACLE), treatment)(
                z0, z1, h0, h1, rows=torch.arange(len(y))
            )
        if self.select == "all":
            return lambda z0, z1, h0, h1, *_: NTXentLoss(self.temperature, GivenPairs(_all(2 * len(z0))), treatment)(
                z0, z1, h0, h1
            )
        chosen = "random" if self.select == "random" else "band"
        banded = NTXentLoss(self.temperature, self.band, treatment, select=chosen, seed=seed)  # type: ignore[arg-type]
        if self.feature == "z":
            return lambda z0, z1, *_: banded(z0, z1, z0.detach(), z1.detach())
        return lambda z0, z1, h0, h1, *_: banded(z0, z1, h0, h1)


def fit(
    encoder: nn.Module, data: tuple[NDArray[np.float32], NDArray[np.int64]], noise: float, loss: Loss, seed: int,
    steps: int, batch: int = BATCH, watch: Watch | None = None,
) -> nn.Module:  # fmt: skip
    """Train an encoder in place, with a projector, on noisy views. It is returned in evaluation mode.

    Args:
        encoder: (B, D) -> (B, k).
        data: examples (N, D) and classes (N,). Only the oracle uses the classes.
        noise: noise of the views.
        loss: see `Training.objective`.
        seed: seed of the batches. The caller seeds torch's generator.
        steps: number of batches.
        batch: examples in a batch.
        watch: called with the number of a step before each step, and at the end.
    """
    x, y = torch.from_numpy(data[0]), torch.from_numpy(data[1])
    with torch.no_grad():
        k = encoder.eval()(x[:2]).shape[1]
    projector = Projector(k, WIDTH, 64)
    optimizer = torch.optim.Adam([*encoder.parameters(), *projector.parameters()], lr=2e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    rng = np.random.default_rng(seed)
    for step in range(steps):
        if watch is not None:
            watch(step, encoder.eval())
        encoder.train()
        rows = torch.from_numpy(rng.choice(len(x), min(batch, len(x)), replace=False))
        h = encoder(torch.cat([noisy(x[rows], noise), noisy(x[rows], noise)]))
        z, seen = projector(h), h.detach()
        (z0, z1), (h0, h1) = z.chunk(2), seen.chunk(2)
        value: Any = loss(z0, z1, h0, h1, y[rows], rows)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    if watch is not None:
        watch(steps, encoder.eval())
    return encoder.eval()


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """Train and measure one encoder: `Study.run` of the studies of small encoders."""
    training = Training(**setting)
    data = load_vectors(training.set, scale)
    if training.own:
        training = _advised(training, data, seed, scale)
    at = {round(part * STEPS[scale]): part for part in PARTS}
    seen: dict[str, float | None] = {}

    @torch.no_grad()
    def watch(step: int, encoder: nn.Module) -> None:
        if step in at:
            purity, base = purity_of(training.band, encoder(torch.from_numpy(data.x)).numpy(), data.y)
            seen[excess_at(at[step])] = None if purity is None else purity - base

    return {**measured(_trained(training, data, seed, scale, watch), training, data), **seen}


def excess_at(part: float) -> str:
    """Name of a measure: the purity of the band minus that of all pairs, after a part of the training."""
    return f"excess at {part:.0%}"


def _trained(training: Training, data: Vectors, seed: int, scale: Scale, watch: Watch | None = None) -> nn.Module:
    torch.manual_seed(seed)
    encoder = mlp(data.x.shape[1], hidden=WIDTH)
    return fit(encoder, (data.x, data.y), data.noise, training.objective(seed), seed, STEPS[scale], watch=watch)


def _advised(training: Training, data: Vectors, seed: int, scale: Scale) -> Training:
    """The training with sigma = gamma - beta and rho = beta / gamma, measured by ranks on a plain run."""
    encoder = _trained(replace(training, select="none"), data, seed, scale)
    with torch.no_grad():
        features = encoder(torch.from_numpy(data.x)).numpy()
    band = RankBand(1 / data.classes, min(0.9, 3 / data.classes))
    advice = advise(measure_levels(features, band=band, n_classes=data.classes))
    return replace(training, margin=advice.margin, temperature_scale=advice.temperature_scale or 1.0)


def measured(encoder: nn.Module, training: Training, data: Vectors) -> dict[str, float | None]:
    """The measures of `MEASURES`, levels, and quantities without labels."""
    with torch.no_grad():
        x, held, test = (encoder(torch.from_numpy(part)).numpy() for part in (data.x, data.held_x, data.test_x))
    purity, base = purity_of(training.band, x, data.y)
    levels = measure_levels(x, data.y)
    examples = torch.from_numpy(data.x[looked_at(len(data.x))])
    return {
        "linear": 100 * linear_probe(x, data.y, test, data.test_y).accuracy,
        "knn20": 100 * knn(x, data.y, test, data.test_y, k=20),
        "held_out": 100 * knn(x, data.y, held, data.held_y, k=20),
        "purity": purity if training.select == "band" else None, "base": base,
        "alpha": 100 * levels.alpha.mean, "beta": 100 * levels.beta.mean, "gamma": 100 * levels.gamma.mean,
        "gap": 100 * levels.gap, "sigma": training.margin, "rho": training.temperature_scale,
        **label_free(encoder, lambda rows: noisy(rows, data.noise), examples, data.classes),
    }  # fmt: skip


def purity_of(band: RankBand, x: NDArray[np.float32], y: NDArray[np.int64]) -> tuple[float | None, float]:
    """Percent of pairs of different classes in the band and among all pairs, on 512 of the features x (N, k)."""
    rows = np.random.default_rng(0).permutation(len(x))[:512]
    share, base = pair_shares(band.masks(torch.from_numpy(x[rows])).whole(), torch.from_numpy(y[rows]))
    return None if np.isnan(share) else 100 * share, 100 * base


def controls(treated: Training) -> list[Arm]:
    """The arms that every table compares with a treated arm.

    They are plain training, plain training at other temperatures, and the same treatment of all pairs, of as many
    random pairs, and of the oracle's pairs.

    Args:
        treated: the arm's setting, on a band.
    """
    given = asdict(treated)
    arms = [
        Arm("plain" if each == treated.temperature else f"tau {each:g}", {"temperature": each}, of=BEST)
        for each in sorted(TEMPERATURES, key=lambda each: each != treated.temperature)
    ]
    return arms + [
        Arm(title, {**given, "select": select})
        for title, select in (("all pairs", "all"), ("random pairs, as many", "random"), ("oracle", "oracle"))
    ]


def arms_of(names: Iterable[str], arms: Iterable[Arm]) -> list[Arm]:
    """The arms for every set. Settings leave defaults out, so that other studies recognise equal runs."""
    given, usual = list(arms), Training("")
    return [
        replace(arm, group=name, setting={**_short(arm.setting, usual), "set": name}) for name in names for arm in given
    ]


def sets_of(scale: Scale, *names: str) -> tuple[str, ...]:
    """The sets of a study. At smoke scale it is the set that needs no data."""
    return ("digits",) if scale == "smoke" else names


def _short(setting: Mapping[str, Any], usual: Training) -> dict[str, Any]:
    return {name: value for name, value in setting.items() if value != getattr(usual, name)}


def _all(count: int) -> Tensor:
    """Every pair of different views."""
    return ~torch.eye(count, dtype=torch.bool)


def study_of(
    name: str, question: str, arms: Callable[[Scale], list[Arm]], table: str, measures: Mapping[str, str] = MEASURES,
    **more: Any,
) -> Study:  # fmt: skip
    """A study of small encoders, with the settings that such studies share; see `Study`."""
    return Study(
        name, question, arms, run, measures, differences=2, tuned_on="held_out", seconds=1.5, seeds=10, table=table,
        ready=check_data, **more,
    )  # fmt: skip
