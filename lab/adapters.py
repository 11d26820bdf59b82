"""Small adapters of frozen text features, trained with in-batch negatives under a mask while held-out pairs improve."""

from __future__ import annotations

import copy
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lab.text_sets import FloatArray, IntArray, TextSet
from pairsift.losses import TwoTowerLoss
from pairsift.pairs import GuideMask, RandomPairs
from pairsift.spectral.choice import Candidates
from pairsift.treatments import Treatment

MASKS = ("plain", "identity", "guide", "gist 0", "gist 0.05", "random", "oracle")
# Share of the pairs that is held out, steps between its measurements, and measurements without a gain to stop after.
HELD, EVERY, PATIENCE = 0.1, 50, 10


class Setting(NamedTuple):
    """How an adapter is trained.

    Attributes:
        mask: one of `MASKS`.
        hidden: width of the inner layer; 0 trains a linear map.
        rate: learning rate at the start, which falls to 0 at the last step.
        temperature: of the loss.
        steps: most steps.
        batch: pairs in a batch.
    """

    mask: str
    hidden: int
    rate: float
    temperature: float
    steps: int
    batch: int


class Adapter(nn.Module):
    """Unit features plus a correction that starts at zero: a linear one, or one with an inner layer.

    Args:
        width: dimensions of the features.
        hidden: width of the inner layer; 0 for none.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        outer = nn.Linear(hidden or width, width)
        nn.init.zeros_(outer.weight)
        nn.init.zeros_(outer.bias)
        self.correction = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), outer) if hidden else outer

    def forward(self, x: Tensor) -> Tensor:
        """(B, D) unit rows of (B, D)."""
        return F.normalize(x + self.correction(x), dim=1)

    @torch.no_grad()
    def transform(self, features: FloatArray) -> FloatArray:
        """(N, D) unit rows of (N, D)."""
        adapted: FloatArray = self(torch.from_numpy(features)).numpy()
        return adapted


class Trained(NamedTuple):
    """An adapter, the steps after which held-out pairs were best, and the mean log rank of their positives then."""

    adapter: Adapter
    steps: int
    log_rank: float


def gist(anchors: Tensor, positives: Tensor, margin: float) -> Tensor:
    """(B, B) bool: the anchor-positive pairs that GISTEmbedLoss masks, by unit features of the guide."""
    similar = anchors @ positives.T
    return (similar > similar.diagonal()[:, None] - margin).fill_diagonal_(False)


def held_out(texts: TextSet, seed: int) -> tuple[IntArray, IntArray]:
    """Rows of pairs that share no text with held-out pairs, and rows of these."""
    count = round(HELD * len(texts.labels))
    held = np.sort(np.random.default_rng([seed, 1]).choice(len(texts.labels), count, replace=False))
    known = np.concatenate([texts.anchor_keys[held], texts.positive_keys[held]])
    inside = np.flatnonzero(~(np.isin(texts.anchor_keys, known) | np.isin(texts.positive_keys, known)))
    return inside, held


def tuned(texts: TextSet, setting: Setting, seed: int) -> Trained:
    """Train on pairs without the held-out ones, up to the step where these are best."""
    inside, held = held_out(texts, seed)
    candidates = Candidates(texts.anchors[held], texts.positives[held], same_space=True)
    return _trained(texts, inside, setting, seed, setting.steps, candidates)


def trained(texts: TextSet, setting: Setting, seed: int, steps: int) -> Adapter:
    """Train on all pairs for so many steps."""
    return _trained(texts, np.arange(len(texts.labels)), setting, seed, steps, None).adapter


def _trained(
    texts: TextSet, rows_in: IntArray, setting: Setting, seed: int, steps: int, held: Candidates | None
) -> Trained:
    torch.manual_seed(seed)
    anchors, positives = (torch.from_numpy(each[rows_in]) for each in (texts.anchors, texts.positives))
    labels = torch.from_numpy(texts.labels[rows_in])
    adapter = Adapter(anchors.shape[1], setting.hidden)
    selector = _selector(texts, rows_in, setting.mask, seed)
    loss = TwoTowerLoss(
        setting.temperature, selector=selector, treatment=None if selector is None else Treatment(removal="exclude"),
        symmetric=False,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(adapter.parameters(), setting.rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / setting.steps)
    batch, order = min(setting.batch, len(labels)), torch.empty(0, dtype=torch.int64)
    best = Trained(adapter, 0, np.inf) if held is None else Trained(copy.deepcopy(adapter), 0, _log_rank(adapter, held))
    for step in range(1, steps + 1):
        if len(order) < batch:
            order = torch.randperm(len(labels))
        rows, order = order[:batch], order[batch:]
        a, p = anchors[rows], positives[rows]
        pairs = _pairs(setting.mask, a, p, labels[rows])
        sides = (None, None) if selector is None or pairs is not None else (a, p)
        optimizer.zero_grad()
        loss(adapter(a), adapter(p), *sides, pairs=pairs, rows=rows).backward()
        optimizer.step()
        schedule.step()
        if held is not None and step % EVERY == 0:
            log_rank = _log_rank(adapter, held)
            if log_rank < best.log_rank:
                best = Trained(copy.deepcopy(adapter), step, log_rank)
            elif step - best.steps >= PATIENCE * EVERY:
                break
    return best


def _log_rank(adapter: Adapter, held: Candidates) -> float:
    """The mean log rank of the positives of held-out pairs."""
    return float(np.log(held.ranks(adapter.transform(held.first), adapter.transform(held.second))).mean())


def _selector(texts: TextSet, rows: IntArray, mask: str, seed: int) -> GuideMask | RandomPairs | None:
    """The selector by the features that are trained on, None for plain training. `_pairs` replaces what it selects."""
    if mask == "plain":
        return None
    guide = GuideMask.fit(
        texts.anchors[rows], texts.positives[rows], texts=[texts.anchor_keys[rows], texts.positive_keys[rows]]
    )
    if mask == "identity":
        guide.off_because = "only identical texts are masked in this arm"
    return RandomPairs(guide, seed) if mask == "random" else guide


def _pairs(mask: str, anchors: Tensor, positives: Tensor, labels: Tensor) -> Tensor | None:
    """(B, B) bool, the masked pairs of a batch by GIST's rule or by labels; None leaves them to the selector."""
    if mask.startswith("gist"):
        return gist(anchors, positives, float(mask.split()[1]))
    return (labels[:, None] == labels).fill_diagonal_(False) if mask == "oracle" else None
