"""A small network that starts from a spectral map and is trained on, as long as held-out pairs improve."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pairsift.losses import TwoTowerLoss
from pairsift.pairs import GuideMask
from pairsift.spectral.checks import Log
from pairsift.spectral.choice import MOST_HELD, Candidates, Ranking, row_keys
from pairsift.spectral.errors import SpectralError
from pairsift.spectral.map import SpectralMap
from pairsift.treatments import Treatment

TEMPERATURES = (0.05, 0.1, 0.2)
_HIDDEN, _RATE, _DECAY = 512, 3e-3, 0.01
_BATCH, _STEPS, _EVERY, _PATIENCE = 256, 3000, 100, 5
# Weight of the past in the running mean of the weights, which is what is measured and kept.
_MEAN = 0.98
# Scale of the features beside the map; a power of two, so that scaling costs no precision.
_KEPT = 1 / 64
_Z = 1.96

Progress = Callable[[int, int], None]


class ResidualHead(nn.Module):
    """A spectral map at unit length plus a correction by two layers, which starts at zero.

    With `u` the map of features `x`, it gives the direction of `u / n + correction(x / n)`, where
    `n^2 = |u|^2 + _KEPT^2 |x|^2` is about the square of the length of `u`. So the correction is as large beside the map
    for every row. In this form the network is a chain of linear layers, GELU and unit lengths; see `stages`.

    Args:
        fitted: the map, whose matrix is trained too.
        hidden: width of the inner layer.
    """

    def __init__(self, fitted: SpectralMap, hidden: int = _HIDDEN) -> None:
        super().__init__()
        self.base = fitted.module().linear
        self.inner = nn.Linear(self.base.in_features, hidden, dtype=self.base.weight.dtype)
        self.outer = nn.Linear(hidden, self.base.out_features, dtype=self.base.weight.dtype)
        with torch.no_grad():  # rows of about unit length, so that the inner layer sees features at their own scale
            length = float(np.sqrt((fitted.eigenvalues ** (2 * fitted.power)).sum()))
            self.base.weight.div_(length)
            self.base.bias.div_(length)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, features: Tensor) -> Tensor:
        """(N, D) -> (N, k) rows of unit length."""
        mapped = self.base(features)
        squares = mapped.square().sum(dim=1, keepdim=True) + _KEPT**2 * features.square().sum(dim=1, keepdim=True)
        length = squares.sqrt().clamp_min(1e-12)
        return F.normalize(mapped / length + self.outer(F.gelu(self.inner(features / length))), dim=-1)

    @torch.no_grad()
    def stages(self) -> list[list[tuple[nn.Linear, nn.Module]]]:
        """Linear layers and activations that give the same as this network, with unit length after each stage.

        The first stage gives the map beside the features, which are scaled by `_KEPT` and so hardly count in the
        length. `gelu(v) - gelu(-v) = v`: the map passes through the GELU of the second stage as a pair of units of
        either sign.
        """
        (k, width), hidden, kind = self.base.weight.shape, len(self.inner.bias), self.base.weight.dtype
        first, inner, outer = (
            nn.Linear(width, k + width, dtype=kind),
            nn.Linear(k + width, hidden + 2 * k, dtype=kind),
            nn.Linear(hidden + 2 * k, k, dtype=kind),
        )
        eye, none = torch.eye(k, dtype=kind), torch.zeros(k, width, dtype=kind)
        first.weight.copy_(torch.cat([self.base.weight, _KEPT * torch.eye(width, dtype=kind)]))
        first.bias.copy_(torch.cat([self.base.bias, torch.zeros(width, dtype=kind)]))
        correction = torch.cat([torch.zeros(hidden, k, dtype=kind), self.inner.weight / _KEPT], dim=1)
        inner.weight.copy_(torch.cat([correction, torch.cat([eye, none], dim=1), torch.cat([-eye, none], dim=1)]))
        inner.bias.copy_(torch.cat([self.inner.bias, torch.zeros(2 * k, dtype=kind)]))
        outer.weight.copy_(torch.cat([self.outer.weight, eye, -eye], dim=1))
        outer.bias.copy_(self.outer.bias)
        return [[(first, nn.Identity())], [(inner, nn.GELU()), (outer, nn.Identity())]]

    @torch.no_grad()
    def transform(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, D) -> (N, k) float32 rows of unit length."""
        parts = torch.from_numpy(np.ascontiguousarray(features, np.float32)).split(65_536)  # type: ignore[no-untyped-call]
        return np.concatenate([self(part).numpy() for part in parts])


@dataclass(frozen=True)
class Training:
    """What training on from a map gave.

    Attributes:
        head: the trained network; None where the map was at least as good on held-out pairs.
        temperature: that was best.
        steps: after which held-out pairs were best.
        map_ranking: of held-out pairs by the map that was fitted without them.
        head_ranking: of the same pairs by the network that started from it.
        gain: mean difference of log ranks, map less network (positive: the network is better), and its 95 % half width.
    """

    head: ResidualHead | None
    temperature: float
    steps: int
    map_ranking: Ranking
    head_ranking: Ranking
    gain: tuple[float, float]

    def __str__(self) -> str:
        gained, half = self.gain
        found = f"log rank {gained:+.3f} +- {half:.3f} better than the map on held-out pairs"
        if self.head is None:
            return f"training did not improve the map clearly ({found}): the map is kept"
        return f"trained {self.steps} steps at temperature {self.temperature:g}: {found}"


class _Outcome(NamedTuple):
    scores: NDArray[np.float64]
    ranks: NDArray[np.int64]
    steps: int
    temperature: float


def train_head(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    fitted: SpectralMap,
    *,
    keys: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    seed: int = 0,
    log: Log | None = None,
    progress: Progress | None = None,
) -> Training:
    """Train a residual network on top of a one-tower map, and keep it only where held-out pairs improve clearly.

    A tenth of the pairs are held out. From a map that was fitted without them a network is trained at several
    temperatures by the two-tower loss, with likely false negatives left out by `GuideMask`, and stopped where the
    held-out pairs' mean log rank is best. If it beats the map there by more than the 95 % interval of the paired
    difference, it is trained again from the map of all pairs, for as many steps.

    Args:
        first: (N, D) features.
        second: (N, D) features; row i is the positive of row i.
        fitted: a map of one tower of these pairs, with its `held_out`.
        keys: (N,) numbers of the texts of both sides, equal for equal texts; None goes by equal rows.
        seed: of the held-out pairs, the network and the batches.
        log: called with lines of text about what is found.
        progress: called with steps done and the most that there can be.

    Raises:
        SpectralError: a map of two towers or without held-out pairs, or too few pairs.
    """
    if fitted.towers != 1 or fitted.held_out is None:
        raise SpectralError("training goes on from a map of one tower that was chosen on held-out pairs")
    data = _Pairs(first, second, keys)
    inside, held = data.parted(seed)
    dimensions, ridge, power = fitted.held_out.chosen.values
    base = SpectralMap(dimensions, ridge, power, 1).partial_fit(first[inside], second[inside])
    candidates = Candidates(first[held], second[held], same_space=True)
    before = candidates.ranks(*(base.transform(data.side(i)[held]) for i in (0, 1)))
    part, best = data.part(inside), None
    total = len(TEMPERATURES) * _STEPS + _STEPS
    for number, temperature in enumerate(TEMPERATURES):
        torch.manual_seed(seed)
        tell = None if progress is None else _shifted(progress, number * _STEPS, total)
        _, found = _trained(ResidualHead(base), part, temperature, _STEPS, seed, candidates, tell)
        if log is not None:
            log(f"temperature {temperature:g}: mean log rank {-found.scores.mean():.3f} after {found.steps} steps")
        if best is None or found.scores.mean() > best.scores.mean():
            best = found
    assert best is not None
    gap = best.scores + np.log(before)
    gain = float(gap.mean()), _Z * float(gap.std()) / math.sqrt(len(gap))
    head = None
    if gain[0] > gain[1]:
        torch.manual_seed(seed)
        start = ResidualHead(fitted)
        tell = None if progress is None else _shifted(progress, total - _STEPS, total)
        head, _ = _trained(start, data, best.temperature, best.steps, seed, None, tell)
    return Training(head, best.temperature, best.steps, Ranking.of(before), Ranking.of(best.ranks), gain)


class _Pairs:
    """Features of pairs as tensors, and the mask of their likely false negatives."""

    def __init__(
        self, first: NDArray[np.float32], second: NDArray[np.float32],
        keys: tuple[NDArray[np.int64], NDArray[np.int64]] | None,
    ) -> None:  # fmt: skip
        self._sides = np.ascontiguousarray(first, np.float32), np.ascontiguousarray(second, np.float32)
        if keys is None:
            found = np.unique(np.concatenate([row_keys(each) for each in self._sides]), return_inverse=True)[1]
            keys = found[: len(first)].astype(np.int64), found[len(first) :].astype(np.int64)
        self.keys = keys
        self.mask: GuideMask | None = None

    def __len__(self) -> int:
        return len(self._sides[0])

    def side(self, number: int) -> NDArray[np.float32]:
        return self._sides[number]

    def part(self, rows: NDArray[np.int64]) -> _Pairs:
        return _Pairs(self._sides[0][rows], self._sides[1][rows], (self.keys[0][rows], self.keys[1][rows]))

    def parted(self, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Positions of pairs that share no text with held-out ones, and of these."""
        count = min(MOST_HELD, len(self) // 10)
        held = np.sort(np.random.default_rng(seed + 1).choice(len(self), count, replace=False))
        known = np.concatenate([self.keys[0][held], self.keys[1][held]])
        free = np.flatnonzero(~(np.isin(self.keys[0], known) | np.isin(self.keys[1], known)))
        if count < 20 or len(free) < 100:
            raise SpectralError(
                f"{len(self):,} pairs leave {count} to hold out and {len(free):,} to train on, which is too few: "
                "stay with the map"
            )
        return free, held

    def guide(self) -> GuideMask:
        """The mask of likely false negatives by the features themselves."""
        if self.mask is None:
            self.mask = GuideMask.fit(self._sides[0], self._sides[1], texts=list(self.keys))
        return self.mask


def _trained(
    head: ResidualHead, data: _Pairs, temperature: float, steps: int, seed: int, held: Candidates | None,
    progress: Progress | None,
) -> tuple[ResidualHead, _Outcome]:  # fmt: skip
    """The running mean of the weights after training, and how held-out pairs did where it was best."""
    mask = data.guide()
    loss = TwoTowerLoss(temperature, selector=mask, treatment=Treatment(removal="exclude"))
    optimizer = torch.optim.AdamW(head.parameters(), _RATE, weight_decay=_DECAY)
    mean = copy.deepcopy(head).requires_grad_(False)
    draw = torch.Generator().manual_seed(seed)
    sides = [torch.from_numpy(data.side(i)) for i in (0, 1)]
    best, since = _Outcome(np.full(1, -np.inf), np.empty(0, np.int64), 0, temperature), 0
    order = torch.empty(0, dtype=torch.int64)
    for step in range(1, steps + 1):
        if len(order) < min(_BATCH, len(data)):
            order = torch.randperm(len(data), generator=draw)
        rows, order = order[:_BATCH], order[_BATCH:]
        a, b = sides[0][rows], sides[1][rows]
        optimizer.zero_grad()
        loss(head(a), head(b), a, b, rows=rows).backward()
        optimizer.step()
        with torch.no_grad():
            weight = max(1 - _MEAN, 1 / step)
            for kept, new in zip(mean.parameters(), head.parameters(), strict=True):
                kept.lerp_(new, weight)
        if progress is not None:
            progress(step, steps)
        if held is not None and step % _EVERY == 0:
            ranks = held.ranks(mean.transform(held.first), mean.transform(held.second))
            scores = -np.log(ranks)
            since += 1
            if scores.mean() > best.scores.mean():
                best, since = _Outcome(scores, ranks, step, temperature), 0
            if since >= _PATIENCE:
                break
    return mean, best


def _shifted(progress: Progress, start: int, total: int) -> Progress:
    return lambda done, _: progress(start + done, total)
