"""Small encoders of vectors, trained by SimCLR in a second, with difficult pairs selected and treated in every way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pairsift.evaluate import knn, linear_probe
from pairsift.losses import NTXentLoss, baselines
from pairsift.pairs import GivenPairs, RankBand, pair_shares
from pairsift.studies.oracle import OracleSelector
from pairsift.studies.quantities import label_free
from pairsift.studies.study import Arm, Measures, Scale
from pairsift.studies.temporal import noisy
from pairsift.studies.vectors import Vectors, load_vectors
from pairsift.train import Projector
from pairsift.treatments import Treatment

WIDTH, FEATURES, BATCH = 128, 64, 256
STEPS = {"smoke": 6, "cpu": 250, "gpu": 250}
TEMPERATURES = (0.1, 0.2, 0.5, 1.0)
BEST = "plain at its best temperature"
# Share of a row that the oracle flags.
ORACLE = 0.15
MEASURES = {
    "linear": "linear probe %", "knn20": "20-NN %", "held_out": "linear probe of held-out examples %",
    "purity": "pairs of different classes among the flagged %", "base": "among all %",
}  # fmt: skip

Loss = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Training:
    """How an encoder is trained: the setting of an arm.

    Attributes:
        set: name of the set of vectors.
        loss: "ntxent", or a class of `pairsift.losses.baselines` with `options`.
        temperature: tau.
        select: which pairs are treated: "none", "all", "band", "random" (as many as the band), or "oracle" (by labels,
            the most similar pairs of different classes).
        high, low: of the band.
        feature: what pairs are selected on, "h" or "z".
        margin, temperature_scale, removal: the treatment.
        options: of a baseline.
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

    @property
    def band(self) -> RankBand:
        """The rank band."""
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
            judged = NTXentLoss(self.temperature, OracleSelector(ORACLE), treatment)
            return lambda z0, z1, h0, h1, y, rows: judged(z0, z1, _told(h0, y, rows), _told(h1, y, rows))
        if self.select == "all":
            return lambda z0, z1, h0, h1, *_: NTXentLoss(self.temperature, GivenPairs(_all(2 * len(z0))), treatment)(
                z0, z1, h0, h1
            )
        chosen = "random" if self.select == "random" else "band"
        banded = NTXentLoss(self.temperature, self.band, treatment, select=chosen, seed=seed)  # type: ignore[arg-type]
        if self.feature == "z":
            return lambda z0, z1, *_: banded(z0, z1, z0.detach(), z1.detach())
        return lambda z0, z1, h0, h1, *_: banded(z0, z1, h0, h1)


def mlp(width: int, features: int = FEATURES, hidden: int = WIDTH) -> nn.Module:
    """Three layers, (B, width) -> (B, features)."""
    layers: list[nn.Module] = []
    for n_in in (width, hidden):
        layers += [nn.Linear(n_in, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(hidden, features))


def fit(
    encoder: nn.Module, data: tuple[NDArray[np.float32], NDArray[np.int64]], noise: float, loss: Loss, seed: int,
    steps: int, batch: int = BATCH, watch: Callable[[int, nn.Module], None] | None = None,
) -> nn.Module:  # fmt: skip
    """Train an encoder (in place) with a projector on noisy views; returns it in evaluation mode.

    Args:
        encoder: (B, D) -> (B, k).
        data: examples (N, D) and classes (N,), of which only the oracle hears.
        noise: of views.
        loss: see `Training.objective`.
        seed: of batches; torch's own generator is the caller's to seed.
        steps: batches.
        batch: examples in each.
        watch: is called with the number of every step, before it, and at the end.
    """
    x, y = torch.from_numpy(data[0]), torch.from_numpy(data[1])
    with torch.no_grad():
        k = encoder.eval()(x[:2]).shape[1]
    projector = Projector(k, WIDTH, 64)
    optimizer = torch.optim.Adam([*encoder.parameters(), *projector.parameters()], lr=2e-3)
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
    """Train and measure one encoder; the `Study.run` of the studies of sensitivity."""
    training = Training(**setting)
    data = load_vectors(training.set, scale)
    return measured(trained(training, data, seed, scale), training, data)


def trained(training: Training, data: Vectors, seed: int, scale: Scale, watch: Any = None) -> nn.Module:
    """The encoder that a setting and a seed make."""
    torch.manual_seed(seed)
    encoder = mlp(data.x.shape[1])
    return fit(encoder, (data.x, data.y), data.noise, training.objective(seed), seed, STEPS[scale], watch=watch)


def measured(encoder: nn.Module, training: Training, data: Vectors) -> dict[str, float | None]:
    """Measures of `MEASURES`, and what can be said without labels."""
    with torch.no_grad():
        x, held, test = (encoder(torch.from_numpy(part)).numpy() for part in (data.x, data.held_x, data.test_x))
    linear, held_out = (
        100 * linear_probe(x, data.y, part, labels).accuracy
        for part, labels in ((test, data.test_y), (held, data.held_y))
    )
    purity, base = purity_of(training.band, x, data.y)
    return {
        "linear": linear, "knn20": 100 * knn(x, data.y, test, data.test_y, k=20), "held_out": held_out,
        "purity": purity if training.select == "band" else None, "base": base,
        **label_free(encoder, data.x, data.noise, data.classes),
    }  # fmt: skip


def purity_of(band: RankBand, x: NDArray[np.float32], y: NDArray[np.int64]) -> tuple[float | None, float]:
    """Percent of pairs of different classes, in the band and among all, of 512 examples with features x (N, k)."""
    rows = np.random.default_rng(0).permutation(len(x))[:512]
    share, base = pair_shares(band.masks(torch.from_numpy(x[rows])).whole(), torch.from_numpy(y[rows]))
    return None if np.isnan(share) else 100 * share, 100 * base


def controls(name: str, treated: Training) -> list[Arm]:
    """What every table holds beside a treated arm: plain, plain at its best temperature, all pairs, random pairs of the
    same number, the oracle.

    Args:
        name: of the set.
        treated: the arm's setting, on a band.
    """
    shown = {key: value for key, value in asdict(treated).items() if value != getattr(Training(name), key)}
    arms = [
        Arm("plain" if each == treated.temperature else f"tau {each:g}", {"set": name, "temperature": each}, name, BEST)
        for each in sorted(TEMPERATURES, key=lambda each: each != treated.temperature)
    ]
    arms += [
        Arm(title, {**shown, "set": name, "select": select}, name)
        for title, select in (("all pairs", "all"), ("random pairs, as many", "random"), ("oracle", "oracle"))
    ]
    return arms


def arms_of(names: Iterable[str], treated: Training, vary: Iterable[Arm]) -> list[Arm]:
    """The controls and some treated arms, once for every set; arms name settings without their set."""
    given = list(vary)
    return [
        each
        for name in names
        for each in (
            *controls(name, treated),
            *(Arm(arm.name, {**arm.setting, "set": name}, name, arm.of, arm.baseline, arm.paper) for arm in given),
        )
    ]


def _told(h: Tensor, y: Tensor, rows: Tensor) -> Tensor:
    """Features with class and row behind them, as the oracle reads them."""
    return torch.cat([h.float(), y[:, None].float(), rows[:, None].float()], dim=1)


def _all(count: int) -> Tensor:
    """Every pair of different views."""
    return ~torch.eye(count, dtype=torch.bool)
