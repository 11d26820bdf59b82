"""The images of a run: what a configuration trains on, and how they are normalised."""

from __future__ import annotations

import numpy as np

from pairsift.data import DataError, ImageSet, load_images, mix_set, without_rows
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
        images = load_images(
            config.data, label_column=config.label_column, per_class=config.per_class, image_size=config.image_size,
            skip_corrupt=config.skip_corrupt, memory=config.memory,
        )  # fmt: skip
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


def channel_statistics(images: ImageSet) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in [0, 1], from at most 2,000 images spread over the set."""
    rows = np.linspace(0, len(images) - 1, min(len(images), 2000)).astype(np.int64)
    sample = images.images[rows].astype(np.float32) / 255
    mean, std = sample.mean(axis=(0, 2, 3), dtype=np.float64), sample.std(axis=(0, 2, 3), dtype=np.float64)
    return mean.tolist(), np.maximum(std, 1e-3).tolist()
