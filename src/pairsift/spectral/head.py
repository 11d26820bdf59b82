"""A small network that starts from a spectral map and is trained on, as long as held-out pairs improve."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from pairsift.losses import TwoTowerLoss
from pairsift.pairs import GuideMask
from pairsift.spectral.choice import FEWEST_HELD, MOST_HELD, Candidates, Ranking, Setting, row_keys
from pairsift.spectral.errors import SpectralError, TooWideError
from pairsift.spectral.map import SpectralMap
from pairsift.treatments import Treatment

TEMPERATURES = (0.1, 0.2, 0.5)
_HIDDEN, _RATE, _DECAY = 256, 3e-3, 0.01
_BATCH, _STEPS, _EVERY, _PATIENCE = 128, 3000, 100, 5
# Directions of the map that the network starts from, where pairs share so many: it can use more than a map can.
_WIDTH = 128
# The most folds, and the fewest pairs that a network is trained on.
_FOLDS, _FEWEST = 5, 100
# Weight of the past in the running mean of the weights, which is what is measured and kept.
_MEAN = 0.98
# Scale of the features next to the map; a power of two, so that scaling costs no precision.
_KEPT = 1 / 64
_Z = 1.96

Progress = Callable[[int, int], None]


class ResidualHead(nn.Module):
    """A spectral map at unit length plus a correction by two layers, which starts at zero.

    With `u` the map of features `x`, it gives the direction of `u / n + correction(x / n)`, where
    `n^2 = |u|^2 + _KEPT^2 |x|^2` is about the square of the length of `u`. So map and correction are of the same size
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

        The first stage gives the map and the features, which are scaled by `_KEPT` and so hardly count in the
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
        steps: of the networks that were trained without held-out pairs, where these were best.
        map_ranking: of the held-out pairs of all folds by maps that were fitted without them.
        head_ranking: of the same pairs by the networks that started from these maps.
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
        found += ", no clear gain" if abs(gained) <= half else ""
        if self.head is None:
            return f"training did not improve the map ({found}): the map is kept"
        return f"trained {self.steps} steps at temperature {self.temperature:g}: {found}"


def train_head(
    first: NDArray[np.float32],
    second: NDArray[np.float32],
    fitted: SpectralMap,
    *,
    keys: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Training:
    """Train a residual network on top of a one-tower map, and keep it only where held-out pairs improve.

    In each of several folds a tenth of the pairs are held out, and networks are trained at several temperatures from a
    map that was fitted without them, by the two-tower loss with likely false negatives left out by `GuideMask`. All are
    trained at the same pace. A temperature is given up where its mean log rank of the held-out pairs is clearly behind,
    and training stops where the best has not improved for long. If the best is better than the map, a network is
    trained from the map of all pairs, for as many passes over them.

    Args:
        first: (N, D) features.
        second: (N, D) features; row i is the positive of row i.
        fitted: a map of one tower of these pairs, with its `held_out`.
        keys: (N,) numbers of the texts of both sides, equal for equal texts; None goes by equal rows.
        seed: of the held-out pairs, the network and the batches.
        progress: called with steps done and the most that there can be.

    Raises:
        SpectralError: a map of two towers or without held-out pairs, or too few pairs.
    """
    if fitted.towers != 1 or fitted.held_out is None:
        raise SpectralError("training goes on from a map of one tower that was chosen on held-out pairs")
    data, chosen = _Pairs(first, second, keys), fitted.held_out.chosen
    folds = data.folds(chosen, seed)
    before = np.concatenate([fold.ranks_of_map(chosen.dimensions) for fold in folds])
    work = _Work(progress, (len(TEMPERATURES) * len(folds) + 1) * _STEPS)
    best = _best_length(folds, seed, work)
    gaps = np.log(before) - np.log(best.ranks)
    gain = float(gaps.mean()), _Z * float(gaps.std()) / math.sqrt(len(gaps))
    head = None
    if gain[0] > 0:
        start = _widened(data, fitted.dimensions, fitted.ridge, fitted.power)
        steps = round(best.steps * len(data) * len(folds) / sum(len(fold.data) for fold in folds))
        head = _Run(start, data, best.temperature, seed).advance(steps, work)
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

    def folds(self, chosen: Setting, seed: int) -> list[_Fold]:
        """Disjoint tenths of the pairs, each with the map of the pairs that share no text with it."""
        count = min(MOST_HELD, len(self) // 10)
        folds = min(_FOLDS, -(-MOST_HELD // max(1, count)))
        drawn = np.random.default_rng(seed + 1).permutation(len(self))[: folds * count]
        return [self._fold(np.sort(held), chosen) for held in np.split(drawn, folds)]

    def _fold(self, held: NDArray[np.int64], chosen: Setting) -> _Fold:
        known = np.concatenate([self.keys[0][held], self.keys[1][held]])
        free = np.flatnonzero(~(np.isin(self.keys[0], known) | np.isin(self.keys[1], known)))
        if len(held) < FEWEST_HELD or len(free) < _FEWEST:
            raise SpectralError(
                f"{len(self):,} pairs leave {len(held)} to hold out and {len(free):,} to train on, which is too few: "
                "stay with the map"
            )
        candidates = Candidates(self.side(0)[held], self.side(1)[held], same_space=True)
        part = self.part(free)
        return _Fold(candidates, part, _widened(part, *chosen.values))

    def guide(self) -> GuideMask:
        """The mask of likely false negatives by the features themselves."""
        if self.mask is None:
            self.mask = GuideMask.fit(self._sides[0], self._sides[1], texts=list(self.keys))
        return self.mask


@dataclass(frozen=True)
class _Fold:
    """Held-out pairs, pairs that share no text with them, and the map of these."""

    held: Candidates
    data: _Pairs
    start: SpectralMap

    def ranks(self, transform: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> NDArray[np.int64]:
        """Ranks of the held-out pairs' own positives."""
        return self.held.ranks(transform(self.held.first), transform(self.held.second))

    def ranks_of_map(self, width: int) -> NDArray[np.int64]:
        """The same by the first directions of the map."""
        return self.ranks(lambda rows: self.start.transform(rows)[:, :width])


@dataclass(frozen=True)
class _Best:
    """Ranks of the held-out pairs of all folds after the steps of training that suited them best."""

    temperature: float
    steps: int
    ranks: NDArray[np.int64]

    @property
    def score(self) -> float:
        """Mean of -log(rank)."""
        return -float(np.log(self.ranks).mean())

    def is_clearly_behind(self, other: _Best) -> bool:
        """Whether the ranks are worse by more than the 95 % interval of the paired difference."""
        gaps = np.log(self.ranks) - np.log(other.ranks)
        return float(gaps.mean()) > _Z * float(gaps.std()) / math.sqrt(len(gaps))


def _best_length(folds: Sequence[_Fold], seed: int, work: _Work) -> _Best:
    """The temperature and the number of steps that suit the held-out pairs of all folds best."""
    runs = {
        temperature: [_Run(fold.start, fold.data, temperature, seed) for fold in folds] for temperature in TEMPERATURES
    }
    best: _Best | None = None
    for step in range(_EVERY, _STEPS + 1, _EVERY):
        seen = []
        for temperature, each in runs.items():
            ranks = [fold.ranks(run.advance(_EVERY, work).transform) for fold, run in zip(folds, each, strict=True)]
            seen.append(_Best(temperature, step, np.concatenate(ranks)))
        leader = max(seen, key=lambda found: found.score)
        runs = {found.temperature: runs[found.temperature] for found in seen if not found.is_clearly_behind(leader)}
        if best is None or leader.score > best.score:
            best = leader
        elif step >= best.steps + _PATIENCE * _EVERY:
            break
    assert best is not None
    return best


def _widened(data: _Pairs, dimensions: int, ridge: float, power: float) -> SpectralMap:
    """The map of pairs, with further directions up to `_WIDTH` where the pairs share so many."""
    made = SpectralMap(max(dimensions, min(_WIDTH, data.side(0).shape[1])), ridge, power, 1)
    made.partial_fit(data.side(0), data.side(1))
    try:
        made.dimensions = len(made.eigenvalues)
    except TooWideError as error:
        made.dimensions = error.available
    return made


class _Run:
    """A network in training from a map.

    Args:
        start: the map.
        data: pairs to train on.
        temperature: of the loss.
        seed: of the network and the batches.
    """

    def __init__(self, start: SpectralMap, data: _Pairs, temperature: float, seed: int) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._head = ResidualHead(start)
        self._mean = copy.deepcopy(self._head).requires_grad_(False)
        self._loss = TwoTowerLoss(temperature, selector=data.guide(), treatment=Treatment(removal="exclude"))
        self._optimizer = torch.optim.AdamW(self._head.parameters(), _RATE, weight_decay=_DECAY)
        self._sides = [torch.from_numpy(data.side(i)) for i in (0, 1)]
        self._draw = torch.Generator().manual_seed(seed)
        self._order, self._steps = torch.empty(0, dtype=torch.int64), 0

    def advance(self, steps: int, work: _Work) -> ResidualHead:
        """Train further, and give the network with the running mean of the weights."""
        for _ in range(steps):
            self._step()
            work.step()
        return self._mean

    def _step(self) -> None:
        self._steps += 1
        pairs = len(self._sides[0])
        if len(self._order) < min(_BATCH, pairs):
            self._order = torch.randperm(pairs, generator=self._draw)
        rows, self._order = self._order[:_BATCH], self._order[_BATCH:]
        a, b = (side[rows] for side in self._sides)
        self._optimizer.zero_grad()
        self._loss(self._head(a), self._head(b), a, b, rows=rows).backward()
        self._optimizer.step()
        weight = max(1 - _MEAN, 1 / self._steps)
        with torch.no_grad():
            for kept, new in zip(self._mean.parameters(), self._head.parameters(), strict=True):
                kept.lerp_(new, weight)


class _Work:
    """Counts steps of training for a progress bar.

    Args:
        progress: called with steps done and `total`; None tells nothing.
        total: the most steps that there can be.
    """

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def step(self) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(min(self._done, self._total), self._total)
