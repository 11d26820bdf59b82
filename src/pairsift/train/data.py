"""The data of a run: its images or frames, their statistics, and batches in an order that (seed, epoch) determines."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from pairsift._base.words import counted
from pairsift.data import DataError, ImageSet, NoisyFrames, ViewPolicy, load_images, mix_set, without_rows
from pairsift.temporal import FrameSet, TemporalPairs, load_sequences, temporal_pairs
from pairsift.theory import collapse_threshold
from pairsift.train.config import ConfigError, TrainConfig


def training_images(config: TrainConfig, images: ImageSet | None = None) -> ImageSet:
    """Load the training images of a configuration, with its `mix` and `drop`.

    Raises:
        DataError: see `load_images` and `without_rows`; all labels are equal, or there are fewer images than a batch.
    """
    if images is None:
        if not config.data:
            raise ConfigError(
                "data: nothing to train on: name a file, a folder, 'digits', 'hf:NAME' or 'torchvision:NAME'"
            )
        images = load_as_configured(config, config.data, config.label_column, config.per_class, config.skip_corrupt)
    if config.positives != "views":
        return _in_pairs(config, images)
    if images.n_classes == 1:
        raise DataError(
            f"all {len(images):,} images have one label: difficult pairs need a second class; "
            "use `label_column='none'` if the labels mean nothing"
        )
    if config.mix:
        images = mix_set(images, config.mix, config.seed, config.mix_kind)
    if config.drop is not None:
        images = without_rows(images, config.drop)
    if config.method != "exact" and config.batch_size > len(images):
        raise DataError(
            f"batch_size={config.batch_size} is larger than the data ({counted(len(images), 'image')}): lower it"
        )
    return images


def load_as_configured(
    config: TrainConfig, spec: str, label_column: str | None, per_class: int | None, skip_corrupt: bool
) -> ImageSet:
    """Load images, or frames of sequences, in the form that a configuration's encoder takes."""
    if config.positives == "views":
        return load_images(
            spec, label_column=label_column, per_class=per_class, image_size=config.image_size,
            skip_corrupt=skip_corrupt, memory=config.memory_gb,
        )  # fmt: skip
    return load_sequences(
        spec, frame_column=config.frame_column, frame_size=config.frame_size, sequence_column=config.sequence_column,
        time_column=config.time_column, label_column=label_column, per_class=per_class, image_size=config.image_size,
        memory=config.memory_gb,
    )  # fmt: skip


def _in_pairs(config: TrainConfig, frames: ImageSet) -> FrameSet:
    """Add the neighbours in time to frames.

    Raises:
        DataError: the frames belong to no sequences, a lag is longer than every sequence, or there are fewer pairs than
            a batch.
        ConfigError: the frames are vectors, and the encoder takes images.
    """
    if not isinstance(frames, FrameSet):
        raise DataError(
            f"positives={config.positives!r} needs frames of sequences, got {type(frames).__name__}: see load_sequences"
        )
    if frames.vectors and config.encoder != "mlp":
        raise ConfigError(f"encoder={config.encoder!r} takes images, and these frames are vectors: use `encoder='mlp'`")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*give no pair")  # `short_sequences` reports it
        pairs = temporal_pairs(
            frames.sequences, config.lags, config.lag_weights, times=frames.times, unit=config.time_unit
        )
    paired = len(np.unique(pairs.anchors))
    if config.batch_size > paired:
        raise DataError(
            f"batch_size={config.batch_size} is larger than the data ({paired:,} frames with a neighbour in time): "
            "lower it"
        )
    return replace(frames, pairs=pairs)


def short_sequences(pairs: TemporalPairs) -> str:
    """A line about the sequences that are left out because they are too short for every lag."""
    count, total = len(pairs.short), len(np.unique(pairs.sequences))
    named = ", ".join(f"{name} ({n} frame{'s' * (n != 1)})" for name, n in list(pairs.short.items())[:3])
    return f"left out {count:,} of {total:,} sequences, too short for any lag: {named}{', ...' * (count > 3)}"


def default_views(config: TrainConfig, images: ImageSet, statistics: tuple[list[float], list[float]]) -> ViewPolicy:
    """The default view policy. Frames stay as they are for positives from time alone."""
    if config.positives == "temporal":
        return lambda images: images
    return NoisyFrames(*statistics, config.noise) if images.vectors else config.view_policy()


def channel_statistics(images: ImageSet) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in [0, 1], or of each number of vectors.

    They come from at most 2,000 images, spread evenly over the set, or from all vectors.
    """
    if images.vectors:
        values = np.asarray(images.images)
        mean, std = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
        return mean.tolist(), np.where(std > 0, std, 1.0).tolist()
    rows = np.linspace(0, len(images) - 1, min(len(images), 2000)).astype(np.int64)
    sample = images.images[rows].astype(np.float32) / 255
    mean, std = sample.mean(axis=(0, 2, 3), dtype=np.float64), sample.std(axis=(0, 2, 3), dtype=np.float64)
    return mean.tolist(), np.maximum(std, 1e-3).tolist()


def check_labels(config: TrainConfig, images: ImageSet) -> None:
    """Refuse images without labels for `method="mixed"`, and warn if its settings collapse classes.

    Args:
        config: settings of the run. Other methods are not checked.
        images: the training images. Labels of -1 are unknown.

    Raises:
        DataError: the images have no labels.

    Warns:
        UserWarning: `alpha` is at most the threshold of `theory.collapse_threshold` for a batch with classes of equal
            size.
    """
    if config.method != "mixed":
        return
    if images.labels is None:
        raise DataError(
            "mixed learns from labels; these images have none: name their `label_column`, or use `method='simclr'`"
        )
    known = images.labels[images.labels >= 0]
    classes = len(np.unique(known))
    per_class = config.batch_size * len(known) / len(images) / max(classes, 1)
    if classes < 2 or per_class <= 1:
        return
    threshold = collapse_threshold(classes, per_class, config.temperature)
    if config.alpha <= threshold:
        warnings.warn(
            f"alpha={config.alpha:g} lets the images of a class collapse to one point: with {classes} classes of "
            f"{per_class:.3g} images a batch and temperature={config.temperature:g} they stay apart above "
            f"alpha={threshold:.3g} (arXiv 2503.08203); raise alpha, or lower the temperature",
            stacklevel=3,
        )


class Batch(NamedTuple):
    """One batch of images or frames.

    Attributes:
        images: (B, 3, H, W) uint8, or (B, D) float32 frames. First views are made from them.
        labels: (B,) classes of the images, or None.
        step: step of the run.
        rows: (B,) positions of the images in the training set.
        others: the images of the second views, in the same form. None takes `images`.
        other_rows: (B,) positions of `others`. None takes `rows`.
    """

    images: Tensor
    labels: Tensor | None
    step: int
    rows: Tensor
    others: Tensor | None = None
    other_rows: Tensor | None = None


Order = Callable[[np.random.Generator], NDArray[np.int64]]
"""Draws the order of an epoch: (n,) positions of images, or (n, 2) of pairs."""


def order_of(images: ImageSet) -> tuple[int, Order]:
    """The number of rows of an epoch, and the function that draws them.

    An epoch of an image set has every image once. An epoch of a frame set has one pair for every frame with a positive.
    Pairs are drawn by their weights, one from each n-th part of the total weight, which keeps their counts even.
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
    """Yields (step, rows) for the rest of an epoch from any step of the run on, so that a run can resume at any step.

    The last, smaller batch of an epoch is dropped, so that every step has the same number of negatives. Several
    processes share every batch as evenly as possible.
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
    """Batches in the sampler's order, which this process collects or decodes without workers."""
    return DataLoader(_BatchDataset(images), sampler=sampler, batch_size=None)
