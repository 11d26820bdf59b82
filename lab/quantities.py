"""Quantities of a trained encoder that need no labels."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pairsift.data import ViewPolicy
from pairsift.pairs import RankBand
from pairsift.same_class import Affinity, AffinityError, ConfidentNegatives, estimate
from pairsift.theory import measure_levels, population

TITLES = {
    "spectral_gap": "spectral gap of the measured graph",
    "level_gap": "gamma - beta by ranks",
    "estimated_purity": "estimated purity of confident negatives, over base",
    "clearness": "clearness",
    "alignment": "alignment",
    "uniformity": "uniformity",
    "rankme": "RankMe",
    "lidar": "LiDAR",
}
# Examples to measure, views of each for LiDAR, and examples for LiDAR.
_ROWS, _VIEWS, _GROUPS = 600, 10, 80

FloatArray = NDArray[np.float64]


def looked_at(n: int) -> NDArray[np.int64]:
    """Positions of the examples that are measured, at most 600 of n."""
    return np.random.default_rng(0).permutation(n)[:_ROWS]


@torch.no_grad()
def label_free(
    encoder: Callable[[Tensor], Tensor], view: ViewPolicy, examples: Tensor, classes: int
) -> dict[str, float | None]:
    """Measure the quantities of `TITLES` of an encoder in evaluation mode.

    Args:
        encoder: (B, ...) examples -> (B, k) features.
        view: (B, ...) examples -> a random view of each.
        examples: (R, ...) training examples; see `looked_at`.
        classes: a rough number of classes.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        features = encoder(examples).numpy()
        first, second = (_unit(encoder(view(examples)).numpy()) for _ in range(2))
        views = np.stack([encoder(view(examples[:_GROUPS])).numpy() for _ in range(_VIEWS)], axis=1)
    levels = measure_levels(features, band=RankBand(1 / classes, min(0.9, 3 / classes)), n_classes=classes)
    clearness, purity = _judged(features)
    return {
        "spectral_gap": spectral_gap(features, classes), "level_gap": levels.gap, "estimated_purity": purity,
        "clearness": clearness, "alignment": float(((first - second) ** 2).sum(axis=1).mean()),
        "uniformity": uniformity(features), "rankme": rankme(features), "lidar": lidar(views),
    }  # fmt: skip


def spectral_gap(features: NDArray[np.float32], classes: int) -> float:
    """lambda_c - lambda_{c+1} of the normalised graph of positive cosines, for c classes."""
    unit = _unit(features)
    values, _ = population.leading_eigenpairs(population.normalize(np.maximum(unit @ unit.T, 0)), classes + 1)
    return float(values[-2] - values[-1])


def uniformity(features: NDArray[np.float32]) -> float:
    """log mean exp(-2 |f - f'|^2) over pairs of unit features (arXiv 2005.10242)."""
    unit = _unit(features)
    products = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return float(np.log(np.exp(-4 * (1 - products)).mean()))


def rankme(features: NDArray[np.float32]) -> float:
    """exp of the entropy of the singular values' shares (arXiv 2210.02885)."""
    return _effective_rank(np.linalg.svd(features.astype(np.float64), compute_uv=False))


def lidar(views: NDArray[np.float32]) -> float:
    """Effective rank of the discriminant of views, (examples, views, k) features (arXiv 2312.04000)."""
    wide = views.astype(np.float64)
    means = wide.mean(axis=1)
    within = (wide - means[:, None]).reshape(-1, wide.shape[2])
    between = means - means.mean(axis=0)
    inside = within.T @ within / len(within) + 1e-4 * np.eye(wide.shape[2])
    values, vectors = np.linalg.eigh(inside)
    roots = vectors / np.sqrt(values)
    return _effective_rank(np.linalg.eigvalsh(roots.T @ (between.T @ between / len(between)) @ roots).clip(0))


def _judged(features: NDArray[np.float32]) -> tuple[float | None, float | None]:
    """Clearness, and purity of confident negatives minus the base rate, as the affinity estimates them."""
    try:
        found = estimate(ConfidentNegatives(Affinity.fit(features)), features)
    except AffinityError:
        return None, None
    return found.clusterability, None if found.purity is None else found.purity - found.base


def _effective_rank(values: FloatArray) -> float:
    shares = values / values.sum() + 1e-12
    return math.exp(-float((shares * np.log(shares)).sum()))


def _unit(features: NDArray[np.float32]) -> FloatArray:
    wide = features.astype(np.float64)
    unit: FloatArray = wide / np.maximum(np.linalg.norm(wide, axis=1, keepdims=True), 1e-12)
    return unit
