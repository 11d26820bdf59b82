"""Weighted k-nearest-neighbour classification of features."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from pairsift.evaluate._checks import check_split
from pairsift.neighbors import NearestIndex
from pairsift.pairs.rows import unit_rows


def knn(
    train_x: NDArray[Any],
    train_y: NDArray[Any],
    test_x: NDArray[Any],
    test_y: NDArray[Any],
    k: int = 20,
    temperature: float = 0.1,
) -> float:
    """Accuracy of the k nearest training features by cosine, each voting with weight exp(s / temperature).

    Args:
        train_x, test_x: (N, D) and (M, D) features.
        train_y, test_y: (N,) and (M,) class labels.
        k: neighbours; at most N.
        temperature: > 0.

    Returns:
        Accuracy in [0, 1].

    Raises:
        ValueError: shapes that do not fit, non-finite features, fewer than two classes, k out of range.

    Example:
        >>> import numpy as np
        >>> from pairsift.evaluate import knn
        >>> rng = np.random.default_rng(0)
        >>> y = np.repeat([0, 1], 50)
        >>> x = rng.standard_normal((100, 8)) + 4 * np.eye(8)[y]  # two clouds in different directions
        >>> round(knn(x[::2], y[::2], x[1::2], y[1::2], k=5), 1)
        1.0
    """
    train_x, train_y, test_x, test_y = check_split(train_x, train_y, test_x, test_y)
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)):
        raise TypeError(f"k must be a whole number, got {k!r}")
    if not 1 <= k <= len(train_x):
        raise ValueError(f"k must lie in [1, {len(train_x)}] (the training examples), got {k}")
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    train_x, test_x = (unit_rows(torch.tensor(x), "features").numpy() for x in (train_x, test_x))
    similarities, neighbours = NearestIndex.of(train_x, inverted=False).search(test_x, k)
    classes, numbers = np.unique(train_y, return_inverse=True)
    votes = np.zeros((len(test_x), len(classes)))
    rows = np.repeat(np.arange(len(test_x)), k)
    np.add.at(votes, (rows, numbers[neighbours].ravel()), np.exp((similarities.ravel() - 1) / temperature))
    return float((classes[votes.argmax(axis=1)] == test_y).mean())
