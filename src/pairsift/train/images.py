"""The images, or frames, of a run: what a configuration trains on, and how they are normalised."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
from torch import Tensor

from pairsift.data import (
    DataError,
    ImageSet,
    NoisyFrames,
    ViewPolicy,
    load_images,
    mix_set,
    without_rows,
)  # fmt: skip
from pairsift.temporal import FrameSet, TemporalPairs, load_sequences, temporal_pairs
from pairsift.train.config import ConfigError, TrainConfig


def training_images(config: TrainConfig, images: ImageSet | None = None) -> ImageSet:
    """The images a configuration trains on, mixed and left out as it says, refused where they cannot be trained on.

    Raises:
        DataError: see `load_images` and `without_rows`; labels of one class; fewer images than a batch.
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
    if config.batch_size > len(images):
        raise DataError(f"batch_size={config.batch_size} is larger than the data ({len(images):,} images): lower it")
    return images


def load_as_configured(
    config: TrainConfig, spec: str, label_column: str | None, per_class: int | None, skip_corrupt: bool
) -> ImageSet:
    """Images, or frames of sequences, in the form that a configuration's encoder takes."""
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
    """Frames with their neighbours in time, refused where there are too few.

    Raises:
        DataError: frames of no sequences, a lag longer than all of them, or fewer pairs than a batch.
        ConfigError: vectors for an encoder of images.
    """
    if not isinstance(frames, FrameSet):
        raise DataError(
            f"positives={config.positives!r} needs frames of sequences, got {type(frames).__name__}: see load_sequences"
        )
    if frames.vectors and config.encoder != "mlp":
        raise ConfigError(f"encoder={config.encoder!r} takes images, and these frames are vectors: use `encoder='mlp'`")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*give no pair")  # `short_sequences` says it
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
    """Which sequences are left out because they are too short for any lag, in words."""
    count, total = len(pairs.short), len(np.unique(pairs.sequences))
    named = ", ".join(f"{name} ({n} frame{'s' * (n != 1)})" for name, n in list(pairs.short.items())[:3])
    return f"left out {count:,} of {total:,} sequences, too short for any lag: {named}{', ...' * (count > 3)}"


def default_views(config: TrainConfig, images: ImageSet, statistics: tuple[list[float], list[float]]) -> ViewPolicy:
    """What makes a view where no policy is given: frames as they are for positives from time alone."""
    if config.positives == "temporal":
        return _as_it_is
    return NoisyFrames(*statistics, config.noise) if images.vectors else config.views()


def _as_it_is(images: Tensor) -> Tensor:
    return images


def channel_statistics(images: ImageSet) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in [0, 1], from at most 2,000 images spread over the set; of vectors,
    of each of their numbers."""
    if images.vectors:
        values = np.asarray(images.images)
        mean, std = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
        return mean.tolist(), np.where(std > 0, std, 1.0).tolist()
    rows = np.linspace(0, len(images) - 1, min(len(images), 2000)).astype(np.int64)
    sample = images.images[rows].astype(np.float32) / 255
    mean, std = sample.mean(axis=(0, 2, 3), dtype=np.float64), sample.std(axis=(0, 2, 3), dtype=np.float64)
    return mean.tolist(), np.maximum(std, 1e-3).tolist()
