"""Figures that a page draws itself: a few kilobytes of SVG, and words beside them that keep their size on any screen.

Coordinates run over a square of `SIDE`, which the page stretches to the figure's place; lines and points keep their
width. Colours are classes, ``a`` to ``f``, that the page's style gives for light and for dark screens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

SIDE = 1000
# Okabe-Ito colours of clearly different lightness, as `report/templates/page.css` has them.
COLOURS = "abcdef"


class Axis(NamedTuple):
    """What an axis spans, and its title."""

    low: float
    high: float
    title: str

    def along(self, values: ArrayLike) -> NDArray[np.float64]:
        """Coordinates of values, from 0 at the low end to `SIDE`."""
        span = self.high - self.low or 1.0
        return SIDE * (np.asarray(values, np.float64) - self.low) / span

    def ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """Place in percent and words of round numbers, at most so many."""
        span = self.high - self.low
        if not span > 0:
            return [(0.0, f"{self.low:g}")]
        power = 10.0 ** math.floor(math.log10(span / most))
        step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= most)
        first = math.ceil(self.low / step - 1e-9)
        numbers = [step * i for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        return [(float(self.along(each)) * 100 / SIDE, f"{each:,.{digits}f}") for each in numbers[:most]]


class Mark(NamedTuple):
    """Shapes of one colour: the `d` of a path, its classes, and its name in the legend, if it has one."""

    path: str
    classes: str
    name: str | None = None


class Line(NamedTuple):
    """A vertical line at a coordinate, its name above it in one of the rows that start at 0."""

    at: float
    classes: str
    name: str = ""
    row: int = 0


class Drawing(NamedTuple):
    """A figure, for the macro `drawing` of `drawing.html`.

    Attributes:
        name: scripts find it by.
        words: what it shows, for whom does not see it.
        x: axis from left to right.
        y: axis from bottom to top.
        marks: drawn in order.
        lines: drawn over them.
    """

    name: str
    words: str
    x: Axis
    y: Axis
    marks: Sequence[Mark]
    lines: Sequence[Line] = ()


def bars(x: Axis, y: Axis, edges: ArrayLike, base: ArrayLike, heights: ArrayLike) -> str:
    """The path of bars: between edges (B + 1,), of heights (B,) on a base (B,); flat ones are left out."""
    at, low = x.along(edges), y.along(base)
    tall = y.along(np.asarray(heights) + y.low)
    used = np.flatnonzero(tall > 0.05)
    return "".join(
        f"M{at[i]:.5g} {SIDE - low[i]:.5g}V{SIDE - low[i] - tall[i]:.5g}H{at[i + 1]:.5g}V{SIDE - low[i]:.5g}z"
        for i in used
    )


def points(x: Axis, y: Axis, horizontal: ArrayLike, vertical: ArrayLike) -> str:
    """The path of points: strokes of no length, which round or square ends make visible."""
    across, up = x.along(horizontal), SIDE - y.along(vertical)
    return "".join(f"M{a:.0f} {b:.0f}h0" for a, b in zip(across, up, strict=True))
