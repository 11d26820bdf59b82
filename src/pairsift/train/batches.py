"""Batches of an image set, in an order that is a function of (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pairsift.data import ImageSet
from pairsift.temporal import FrameSet


class Batch(NamedTuple):
    """One batch: what first and second views are made of, and what is known about it.

    Attributes:
        images: (B, 3, H, W) uint8, or (B, D) float32 frames.
        labels: (B,) classes of these, or None.
        step: of the run.
        rows: (B,) their positions in the training set.
        others: what second views are made of, as `images`; None for these themselves.
        other_rows: (B,) positions of those; None for `rows`.
    """

    images: Tensor
    labels: Tensor | None
    step: int
    rows: Tensor
    others: Tensor | None = None
    other_rows: Tensor | None = None


Order = Callable[[np.random.Generator], NDArray[np.int64]]
"""Draws what an epoch goes through, in order: (n,) positions of images, or (n, 2) of pairs."""


def order_of(images: ImageSet) -> tuple[int, Order]:
    """How many rows an epoch goes through, and how they are drawn.

    Of an image set, every image once. Of a frame set, as many pairs as it has frames with a positive: pairs are drawn
    by their weights, one from each n-th part of these, so that none comes up much more often than it should.
    """
    pairs = images.pairs if isinstance(images, FrameSet) else None
    if pairs is None:
        return len(images), lambda rng: rng.permutation(len(images))
    both, edges = np.stack([pairs.anchors, pairs.positives], axis=1), np.cumsum(pairs.weights)
    n = len(np.unique(pairs.anchors))

    def draw(rng: np.random.Generator) -> NDArray[np.int64]:
        at = np.searchsorted(edges, (np.arange(n) + rng.random(n)) / n * edges[-1], side="right")
        drawn: NDArray[np.int64] = both[rng.permutation(np.minimum(at, len(both) - 1))]
        return drawn

    return n, draw


class StepSampler(Sampler[tuple[int, Any]]):
    """Yields (step, rows) for the rest of an epoch, from any step of the run on: what makes runs resumable anywhere.

    The last, smaller batch of an epoch is dropped, so that every step has the same number of negatives. Of several
    processes each takes its share of every batch, as even as it goes.
    """

    def __init__(self, n: int, batch_size: int, seed: int, order: Order) -> None:
        self.batch_size, self.seed, self.order = batch_size, seed, order
        self.steps = n // batch_size
        self.next_step = 0
        self.rank, self.processes = 0, 1

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        epoch, first = divmod(self.next_step, self.steps)
        order = self.order(np.random.default_rng((self.seed, epoch)))
        for position in range(first, self.steps):
            rows = order[position * self.batch_size : (position + 1) * self.batch_size]
            yield epoch * self.steps + position, np.array_split(rows, self.processes)[self.rank]


class _BatchDataset(Dataset[Batch]):
    def __init__(self, images: ImageSet) -> None:
        self._set = images

    def __getitem__(self, item: Any) -> Batch:
        step, rows = item
        first, *second = np.ascontiguousarray(np.atleast_2d(rows.T))
        labels = None if self._set.labels is None else torch.from_numpy(self._set.labels[first])
        others = (tensor for each in second for tensor in (self._images(each), torch.from_numpy(each)))
        return Batch(self._images(first), labels, step, torch.from_numpy(first), *others)

    def _images(self, rows: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self._set.images[rows]))


def batch_loader(images: ImageSet, sampler: StepSampler) -> DataLoader[Batch]:
    """Whole batches in the sampler's order, gathered (or decoded by threads) in this process: no workers are needed."""
    return DataLoader(_BatchDataset(images), sampler=sampler, batch_size=None)
