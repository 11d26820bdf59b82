"""The levels alpha, beta, gamma of a scan, measured on a sample of its reference rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from pairsift.data import UNLABELLED
from pairsift.pairs import RankBand
from pairsift.scanning.result import Histogram
from pairsift.theory import Level, Levels, measure_levels
from pairsift.theory.levels import band_parts

# Rows that levels by ranks are measured on, in so many disjoint parts for their error; and levels by labels.
_LEVEL_ROWS, _LEVEL_PARTS, _LABELLED_ROWS = 5000, 5, 20_000
_BINS = np.linspace(-1, 1, 101)


def usual_band(n_classes: int) -> RankBand:
    """One to two class shares below the top: where the nearest other class is."""
    high = 1 / n_classes
    return RankBand(high, min(2 * high, (1 + high) / 2))


def levels_by_ranks(
    sample: NDArray[np.float32], band: RankBand, n_classes: int, rng: np.random.Generator
) -> tuple[Levels, tuple[float, float, float], Histogram]:
    """Levels by ranks, their errors, and the similarities' histogram, on at most 5,000 rows."""
    chosen = sample[np.sort(rng.choice(len(sample), min(len(sample), _LEVEL_ROWS), replace=False))]
    counts = np.zeros((3, len(_BINS) - 1), np.int64)
    for parts in band_parts(torch.from_numpy(chosen), band):
        counts += np.stack([np.histogram(part.numpy(), _BINS)[0] for part in parts])
    histogram = Histogram(_BINS, counts)
    if 0 in counts.sum(axis=1):
        empty = Level(float("nan"), float("nan"), 0)
        return Levels(empty, empty, empty, n=len(sample) / n_classes, n_classes=n_classes), (0.0, 0.0, 0.0), histogram
    levels = measure_levels(chosen, band=band, n_classes=n_classes)
    error = np.zeros(3)
    if len(chosen) < len(sample):
        pieces = [measure_levels(chosen[i::_LEVEL_PARTS], band=band, n_classes=n_classes) for i in range(_LEVEL_PARTS)]
        means = [(piece.alpha.mean, piece.beta.mean, piece.gamma.mean) for piece in pieces]
        error = np.std(means, axis=0, ddof=1) / np.sqrt(_LEVEL_PARTS)
    alpha, beta, gamma = error.tolist()
    return replace(levels, n=len(sample) / n_classes), (alpha, beta, gamma), histogram


def levels_by_labels(
    sample: NDArray[np.float32], labels: NDArray[np.int64] | None, rng: np.random.Generator, say: Callable[[str], None]
) -> Levels | None:
    """Levels by labels on at most 20,000 rows; None without labels, or where they cannot be measured."""
    if labels is None:
        return None
    sample, labels = sample[labels != UNLABELLED], labels[labels != UNLABELLED]
    chosen = np.sort(rng.choice(len(sample), min(len(sample), _LABELLED_ROWS), replace=False))
    try:
        return measure_levels(sample[chosen], labels[chosen])
    except ValueError as error:
        say(f"levels by labels cannot be measured: {error}")
        return None
