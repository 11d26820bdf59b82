"""Batches of an image set, in an order that is a function of (seed, epoch) alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pairsift.data import ImageSet


class Batch(NamedTuple):
    """One batch: uint8 images (B, 3, H, W), labels (B,) or None, the step of the run it belongs to, and the positions
    (B,) of the images in the training set."""

    images: Tensor
    labels: Tensor | None
    step: int
    rows: Tensor


class StepSampler(Sampler[tuple[int, Any]]):
    """Yields (step, rows) for the rest of an epoch, from any step of the run on: what makes runs resumable anywhere.

    The last, smaller batch of an epoch is dropped, so that every step has the same number of negatives. Of several
    processes each takes its share of every batch, as even as it goes.
    """

    def __init__(self, n: int, batch_size: int, seed: int) -> None:
        self.n, self.batch_size, self.seed = n, batch_size, seed
        self.steps = n // batch_size
        self.next_step = 0
        self.rank, self.processes = 0, 1

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[tuple[int, Any]]:
        epoch, first = divmod(self.next_step, self.steps)
        order = np.random.default_rng((self.seed, epoch)).permutation(self.n)
        for position in range(first, self.steps):
            rows = order[position * self.batch_size : (position + 1) * self.batch_size]
            yield epoch * self.steps + position, np.array_split(rows, self.processes)[self.rank]


class _BatchDataset(Dataset[Batch]):
    def __init__(self, images: ImageSet) -> None:
        self._set = images

    def __getitem__(self, item: Any) -> Batch:
        step, rows = item
        images = torch.from_numpy(np.ascontiguousarray(self._set.images[rows]))
        labels = None if self._set.labels is None else torch.from_numpy(self._set.labels[rows])
        return Batch(images, labels, step, torch.from_numpy(np.asarray(rows, dtype=np.int64)))


def batch_loader(images: ImageSet, sampler: StepSampler) -> DataLoader[Batch]:
    """Whole batches in the sampler's order, gathered (or decoded by threads) in this process: no workers are needed."""
    return DataLoader(_BatchDataset(images), sampler=sampler, batch_size=None)
