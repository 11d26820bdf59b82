"""Measures of encoders of images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pairsift.data import ImageSet
from pairsift.evaluate import knn, linear_probe
from pairsift.train import embed


def accuracies(encoder: nn.Module, train: ImageSet, test: ImageSet) -> dict[str, float]:
    """Accuracy in percent of a linear probe and of 20-NN on test images, learned from the training images."""
    x, test_x = embed(encoder, train), embed(encoder, test)
    y, test_y = labels_of(train), labels_of(test)
    return {
        "linear": 100 * linear_probe(x, y, test_x, test_y).accuracy,
        "knn20": 100 * knn(x, y, test_x, test_y, k=20),
    }


def labels_of(images: ImageSet) -> NDArray[np.int64]:
    """Classes of images, (N,).

    Raises:
        ValueError: the images have no labels.
    """
    if images.labels is None:
        raise ValueError(f"{images.where} has no labels, which a study needs to measure accuracy")
    return images.labels
