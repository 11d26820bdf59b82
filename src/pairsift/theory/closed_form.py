"""The exact spectrum of the normalised adjacency, from the graph's cells alone.

The partition into (easy, difficult) cells is equitable, so the spectrum is that of two 2 x 2 matrices, one repeated,
plus the contrasts inside cells; no matrix of the graph's size is ever needed for it.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from pairsift.theory.arrays import FloatArray, IntArray
from pairsift.theory.cells import Cells

# Eigenvalues closer than this (relative) are one value with one multiplicity: rounding must not split them.
_SAME = 1e-13


class SlowMode(NamedTuple):
    """An eigenvalue that difficult examples lift above the floor `(1 - alpha) / c2` of the graph without them."""

    value: float
    multiplicity: int
    lift: float


def spectrum(cells: Cells) -> tuple[FloatArray, IntArray]:
    """Eigenvalues (values, multiplicities), values descending; see `SimilarityGraph.spectrum`."""
    values: list[float] = []
    counts: list[int] = []
    for value, count in sorted(_modes(cells), reverse=True):
        if values and math.isclose(value, values[-1], rel_tol=_SAME, abs_tol=1e-18):
            counts[-1] += count
        else:
            values.append(value)
            counts.append(count)
    return np.array(values), np.array(counts, dtype=np.int64)


def slow_modes(cells: Cells) -> list[SlowMode]:
    """The eigenvalues above the floor after the r + 1 largest; see `SimilarityGraph.slow_modes`."""
    floor, rank, modes = cells.floor, 0, []
    for value, count in zip(*(array.tolist() for array in spectrum(cells)), strict=True):
        after = count - max(0, min(count, cells.n_classes - rank))
        rank += count
        if after and value > floor and not math.isclose(value, floor, rel_tol=_SAME):
            modes.append(SlowMode(value, after, value - floor))
    return modes


def _modes(cells: Cells) -> list[tuple[float, int]]:
    """Eigenvalues with their multiplicities, in no order."""
    easy, hard, r = cells.n - cells.n_d, cells.n_d, cells.r
    c1, c2, rest, extra = cells.difficult_degree, cells.easy_degree, 1 - cells.alpha, cells.excess
    same, apart = cells.alpha + r * cells.beta, cells.alpha - cells.beta
    modes = [(rest / c2, (r + 1) * (easy - 1))] if easy else []
    if hard and cells.pairing == "block":
        modes.append((rest / c1, (r + 1) * (hard - 1)))
    elif hard:
        # Contrasts between the indices of difficult examples, equal in all classes or summing to 0 over them.
        modes += [((rest + r * extra) / c1, hard - 1), ((rest - extra) / c1, r * (hard - 1))]
    # Constant on cells, the same in all classes: 1 and the determinant of the 2 x 2 matrix.
    modes.append((1.0, 1))
    if not hard:
        modes.append(((rest + easy * apart) / c2, r))
    elif not easy:
        modes.append(((rest + hard * apart - extra) / c1, r))
    else:
        modes.append(((rest * (rest + cells.n * same + r * extra) + easy * same * r * extra) / (c1 * c2), 1))
        # Constant on cells, summing to 0 over classes.
        first, second = (rest + easy * apart) / c2, (rest + hard * apart - extra) / c1
        determinant = (rest * (rest + cells.n * apart - extra) - easy * apart * extra) / (c1 * c2)
        coupling = easy * apart / c2 * (hard * apart / c1)
        half = math.sqrt(((first - second) / 2) ** 2 + coupling)
        large = (first + second) / 2 + math.copysign(half, first + second)
        modes += [(large, r), (determinant / large, r)] if large else [(0.0, 2 * r)]
    return [(value, count) for value, count in modes if count]
