"""Checks of pairs and settings: what no map can be fitted to is refused before long work starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairsift._base.checks import unmasked
from pairsift.pairs import Selector
from pairsift.spectral.choice import Grid
from pairsift.spectral.edits import masks_of
from pairsift.spectral.errors import SpectralError
from pairsift.spectral.moments import Covariances
from pairsift.spectral.streams import PairStream, sides_of

Log = Callable[[str], None]
# Matrices of D x D numbers that a fit holds at once.
_MATRICES = 9


@dataclass(frozen=True)
class Edit:
    """A margin on the pairs of a selector, and how often the selection is made anew by the map's own features."""

    selector: Selector
    margin: float
    rounds: int


def check_settings(dimensions: int, ridge: float, power: float, towers: int | None) -> None:
    """Refuse settings out of range."""
    if isinstance(dimensions, bool) or not isinstance(dimensions, (int, np.integer)) or dimensions < 1:
        raise SpectralError(f"`dimensions` must be a whole number >= 1, got {dimensions!r}")
    for name, value in (("ridge", ridge), ("power", power)):
        if isinstance(value, bool) or not isinstance(value, (int, float, np.number)) or not 0 <= value < np.inf:
            raise SpectralError(f"`{name}` must be a number >= 0, got {value!r}")
    if towers not in (None, 1, 2):
        raise SpectralError(f"`towers` must be 1 (one map of both sides) or 2 (a map of each), got {towers!r}")


def check_grid(grid: Grid, towers: int | None) -> None:
    """Refuse a grid without values, or with values out of range."""
    for dimensions in (1,) if grid.given_widths is None else grid.given_widths:
        for ridge in grid.ridges:
            for power in grid.powers:
                check_settings(dimensions, ridge, power, towers)
    if not grid.ridges or not grid.powers or grid.given_widths == ():
        raise SpectralError("dimensions, ridge and power need at least one value to choose from")


def check_choice(grid: Grid, held_out: float, criterion: str) -> None:
    """Refuse what no setting can be chosen by."""
    if not 0 <= held_out <= 0.5:
        raise SpectralError(f"`held_out` must lie in [0, 0.5], got {held_out}")
    if not held_out and not grid.single:
        raise SpectralError("`held_out=0` leaves nothing to choose by: give `dimensions`, `ridge` and `power`")
    if criterion not in ("rank", "loss"):
        raise SpectralError(f"criterion must be 'rank' or 'loss', got {criterion!r}")
    if criterion == "loss" and len(grid.powers) > 1:
        raise SpectralError("the loss is the same for every power: give power, or use criterion='rank'")


def edit_of(selector: Selector | None, margin: float, rounds: int) -> Edit | None:
    """The edit that the arguments of `SpectralMap.fit` describe; None without a selector."""
    if not 0 <= margin < np.inf:
        raise SpectralError(f"margin must be a number >= 0, got {margin}")
    if (selector is None) != (margin == 0):
        raise SpectralError(
            f"a margin needs a selector and a selector a margin, got margin={margin} and selector={selector!r}"
        )
    if rounds < 1:
        raise SpectralError(f"rounds must be at least 1, got {rounds}")
    return None if selector is None else Edit(selector, margin, rounds)


def towers_of(towers: int | None, stream: PairStream) -> int:
    """1 or 2; where nothing is given, 1 if both sides have one width."""
    first, second = stream.widths
    if towers == 1 and first != second:
        raise SpectralError(
            f"one tower needs features of one encoder, got {first} and {second} dimensions: use `towers=2`"
        )
    if towers == 2 and stream.moments().views:
        raise SpectralError("views of an example have one tower: leave towers out")
    return towers or (1 if first == second else 2)


def kept_pairs(drop: NDArray[Any] | None, rows: int) -> NDArray[np.bool_]:
    """(N,) which pairs are summed."""
    kept = np.ones(rows, bool)
    if drop is not None:
        dropped = unmasked(drop, "drop", SpectralError)
        if dropped.dtype == bool and dropped.shape != (rows,):
            raise SpectralError(f"drop has shape {dropped.shape}, and there are {rows:,} pairs")
        if dropped.dtype != bool and (dropped.dtype.kind not in "iu" or (dropped.size and not (
            dropped.min() >= 0 and dropped.max() < rows))):  # fmt: skip
            raise SpectralError(f"drop must be (N,) bool, or positions from 0 to {rows - 1:,}, got {drop!r}")
        kept[dropped] = False
    return kept


def check_size(
    stream: PairStream, kept: NDArray[np.bool_], grid: Grid, towers: int, memory_gb: float, edit: Edit | None, say: Log
) -> None:  # fmt: skip
    """Refuse widths that features do not have, matrices that do not fit into memory, and too few pairs."""
    width, pairs = max(stream.widths), int(kept.sum())
    if pairs < 2:
        raise SpectralError(f"{pairs} pairs say nothing about what positives share: give at least 2")
    if grid.most is not None and grid.most > min(stream.widths):
        raise SpectralError(
            f"`dimensions={grid.most}` is more than the {min(stream.widths):,} that the features have: lower it"
        )
    needed = 8 * _MATRICES * width**2 + (0 if edit is None else 2 * stream.bytes_in_memory)
    if needed > memory_gb * 1e9:
        what = "features for the selector and " if edit is not None else ""
        raise SpectralError(
            f"{what}covariances of {width:,} dimensions take {needed / 1e9:.2g} GB, and `memory_gb={memory_gb:g}` are "
            "allowed: raise it, or reduce the features to fewer dimensions"
        )
    if 0.0 in grid.ridges and pairs * (2 if towers == 1 else 1) <= width:
        raise SpectralError(
            f"{pairs:,} pairs cannot fix {width:,} dimensions without a ridge: every pair would be fitted perfectly; "
            "give a `ridge` above 0, or leave it out"
        )
    if pairs <= width:
        say(f"{pairs:,} pairs do not fix {width:,} dimensions: the ridge shrinks the directions that they leave open")
    if edit is not None:
        seen = sides_of(*stream.taken(np.flatnonzero(kept)))
        masks_of(edit.selector, seen, one_tower=towers == 1)  # another number of rows is refused before any work


def check_pairs(covariances: Covariances, say: Log) -> None:
    """Refuse pairs that no map can learn from, and tell how many columns are constant."""
    for name, covariance in (("anchors", covariances.first), ("positives", covariances.second)):
        variances = np.diagonal(covariance)
        total = float(variances.sum())
        mean = covariances.first_mean if name == "anchors" else covariances.second_mean
        if not total > 1e-12 * max(float(mean @ mean), 1e-300):
            raise SpectralError(f"{name}: all rows are equal, so nothing tells them apart")
        constant = int((variances <= 1e-12 * variances.max()).sum())
        if constant:
            say(f"{name}: {constant:,} of {len(variances):,} columns are constant and get no weight")
    if covariances.first.shape == covariances.cross.shape:
        # For copies the covariance of pairs is that of the features, on both sides.
        gap = np.trace(covariances.first) + np.trace(covariances.second) - 2 * np.trace(covariances.cross)
        if gap <= 1e-9 * np.trace(covariances.first):
            raise SpectralError(
                "every pair is a row and its copy, so nothing says what may differ between positives: give pairs of "
                "different texts or views"
            )
