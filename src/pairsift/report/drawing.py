"""Figures as SVG of a few kilobytes, with HTML text around them that keeps its size on any screen.

A figure is a `Drawing`: two axes and marks in order. Its coordinates run over a square of `SIDE`, which the page
stretches to the figure's place; lines and points keep their width. The functions here make the `d` of an SVG path from
values. Colours are the classes ``a`` to ``f``, or the shades ``h0`` to ``h5``; `page.css` and `drawing.css` give them
for light and for dark screens.

A page shows a drawing by the macro of `drawing.html`, in a template that includes `drawing.css`:

    {% from "drawing.html" import drawing %}{{ drawing(figure) }}
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
# Styles of lines, to tell them apart in grey as well.
DASHES = ("", "dash", "dot", "dashdot", "longdash", "longdot")
# Shades of a heatmap from the background to the full colour.
SHADES = ("h0", "h1", "h2", "h3", "h4", "h5")


class Axis(NamedTuple):
    """An axis.

    Attributes:
        low, high: the values at its ends; both positive where it is logarithmic.
        title: its name and unit.
        log: whether it is logarithmic.
        at: the values with a tick; empty picks round numbers.
        names: names of the values 0, 1, 2, ... on an axis of categories, which then spans -0.5 to len(names) - 0.5.
    """

    low: float
    high: float
    title: str
    log: bool = False
    at: Sequence[float] = ()
    names: Sequence[str] = ()

    @classmethod
    def of_names(cls, names: Sequence[str], title: str) -> Axis:
        """An axis of categories."""
        return cls(-0.5, len(names) - 0.5, title, names=names)

    def along(self, values: ArrayLike) -> NDArray[np.float64]:
        """Coordinates of values, from 0 at the low end to `SIDE`; nan where a logarithmic axis has no place."""
        numbers, low, high = np.asarray(values, np.float64), self.low, self.high
        if self.log:
            with np.errstate(divide="ignore", invalid="ignore"):
                numbers = np.where(numbers > 0, np.log10(numbers), np.nan)
            low, high = math.log10(low), math.log10(high)
        return SIDE * (numbers - low) / (high - low or 1.0)

    def ticks(self, most: int = 6) -> list[tuple[float, str]]:
        """Place in percent and text of each tick; at most `most` of them where the axis picks them."""
        if self.names:
            return [(self._percent(i), name) for i, name in enumerate(self.names)]
        if self.at:
            return [(self._percent(each), f"{each:,g}") for each in self.at if self.low <= each <= self.high]
        if not self.high > self.low:
            return [(0.0, f"{self.low:g}")]
        return self._powers(most) if self.log else self._round(most)

    def _percent(self, value: float) -> float:
        return float(self.along(value)) * 100 / SIDE

    def _round(self, most: int) -> list[tuple[float, str]]:
        span = self.high - self.low
        power = 10.0 ** math.floor(math.log10(span / most))
        step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= most)
        first = math.ceil(self.low / step - 1e-9)
        numbers = [step * i for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
        digits = max(0, -math.floor(math.log10(step) + 1e-9))
        small = digits > 4 and max(map(abs, numbers)) < 0.01
        return [(self._percent(each), f"{each:.2g}" if small else f"{each:,.{digits}f}") for each in numbers[:most]]

    def _powers(self, most: int) -> list[tuple[float, str]]:
        first, last = math.ceil(math.log10(self.low) - 1e-9), math.floor(math.log10(self.high) + 1e-9)
        if last - first < 1:  # less than two powers of ten: also 2 and 5 times a power
            numbers = [factor * 10.0**power for power in range(first - 1, last + 1) for factor in (1, 2, 5)]
        else:
            numbers = [10.0**power for power in range(first, last + 1, -(-(last - first + 1) // most))]
        inside = [each for each in numbers if self.low * (1 - 1e-9) <= each <= self.high * (1 + 1e-9)]
        return [(self._percent(each), f"{each:,g}" if 1e-3 < each < 1e7 else f"{each:.0e}") for each in inside[:most]]


class Mark(NamedTuple):
    """Shapes of one colour.

    Attributes:
        path: the `d` of an SVG path.
        classes: its CSS classes: a kind (``bars``, ``line``, ``points``, ``band``), a colour, a dash.
        name: its name in the legend, where it has one.
        tip: text that appears when the pointer rests on it.
    """

    path: str
    classes: str
    name: str | None = None
    tip: str | None = None


class Line(NamedTuple):
    """A line across the whole figure.

    Attributes:
        at: its coordinate.
        classes: CSS classes, a colour and a dash.
        name: text at its end.
        row: rows above the figure that the text of a vertical line is raised by.
        across: whether it is horizontal.
    """

    at: float
    classes: str
    name: str = ""
    row: int = 0
    across: bool = False


class Label(NamedTuple):
    """Text centred above a point: coordinates from left and from top, in 0 to `SIDE`."""

    x: float
    y: float
    text: str


class Drawing(NamedTuple):
    """A figure, for the macro `drawing` of `drawing.html`.

    Attributes:
        name: its id, unique on the page.
        words: what it shows, for screen readers.
        x: axis from left to right.
        y: axis from bottom to top.
        marks: drawn in order; their names make the legend.
        lines: drawn over the marks.
        labels: written over both.
    """

    name: str
    words: str
    x: Axis
    y: Axis
    marks: Sequence[Mark]
    lines: Sequence[Line] = ()
    labels: Sequence[Label] = ()


def bars(x: Axis, y: Axis, edges: ArrayLike, base: ArrayLike, heights: ArrayLike) -> str:
    """Path of bars between edges (B + 1,), of heights (B,) on a base (B,); flat bars are left out."""
    at, low = x.along(edges), y.along(base)
    tall = y.along(np.asarray(heights) + y.low)
    used = np.flatnonzero(tall > 0.05)
    return "".join(
        f"M{at[i]:.5g} {SIDE - low[i]:.5g}V{SIDE - low[i] - tall[i]:.5g}H{at[i + 1]:.5g}V{SIDE - low[i]:.5g}z"
        for i in used
    )


def points(x: Axis, y: Axis, horizontal: ArrayLike, vertical: ArrayLike) -> str:
    """Path of points: strokes of no length, which round or square ends make visible; nan leaves one out."""
    across, up = x.along(horizontal), SIDE - y.along(vertical)
    return "".join(f"M{a:.0f} {b:.0f}h0" for a, b in zip(across, up, strict=True) if math.isfinite(a + b))


def polyline(x: Axis, y: Axis, horizontal: ArrayLike, vertical: ArrayLike) -> str:
    """Path of a line through points (P,); a nan interrupts it."""
    across, up = x.along(horizontal), SIDE - y.along(vertical)
    path, pen = [], "M"
    for a, b in zip(across, up, strict=True):
        if math.isfinite(a + b):
            path.append(f"{pen}{a:.5g} {b:.5g}")
        pen = "L" if math.isfinite(a + b) else "M"
    return "".join(path)


def stairs(x: Axis, y: Axis, edges: ArrayLike, heights: ArrayLike) -> str:
    """Path of the outline of a histogram: heights (B,) between edges (B + 1,)."""
    at = np.repeat(np.asarray(edges, np.float64), 2)[1:-1]
    return polyline(x, y, at, np.repeat(np.asarray(heights, np.float64), 2))


def band(x: Axis, y: Axis, horizontal: ArrayLike, low: ArrayLike, high: ArrayLike) -> str:
    """Path of the area between two lines (P,) over the same places, an interval say; all finite."""
    places = np.asarray(horizontal, np.float64)
    around = polyline(x, y, np.concatenate([places, places[::-1]]), np.concatenate([low, np.asarray(high)[::-1]]))
    return around + "z" if around else ""


def whiskers(x: Axis, y: Axis, horizontal: ArrayLike, low: ArrayLike, high: ArrayLike) -> str:
    """Path of vertical intervals from low to high (P,), at places (P,)."""
    across, bottom, top = x.along(horizontal), SIDE - y.along(low), SIDE - y.along(high)
    return "".join(
        f"M{a:.5g} {b:.5g}V{c:.5g}" for a, b, c in zip(across, bottom, top, strict=True) if math.isfinite(a + b + c)
    )


def cells(x: Axis, y: Axis, x_edges: ArrayLike, y_edges: ArrayLike, filled: ArrayLike) -> str:
    """Path of the cells of a heatmap that one colour fills.

    Args:
        x: axis from left to right.
        y: axis from bottom to top.
        x_edges: (C + 1,) edges of the columns.
        y_edges: (R + 1,) edges of the rows.
        filled: (R, C) which cells, true or false.
    """
    across, up, chosen = x.along(x_edges), SIDE - y.along(y_edges), np.asarray(filled, bool)
    path = []
    for row, line in enumerate(chosen):
        steps = np.diff(np.concatenate([[0], line.astype(int), [0]]))
        for start, end in zip(np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), strict=True):  # runs in one go
            path.append(f"M{across[start]:.5g} {up[row]:.5g}H{across[end]:.5g}V{up[row + 1]:.5g}H{across[start]:.5g}z")
    return "".join(path)


def heatmap(
    x: Axis, y: Axis, x_edges: ArrayLike, y_edges: ArrayLike, values: ArrayLike, names: Sequence[str]
) -> list[Mark]:
    """Marks of a heatmap, one a shade.

    Args:
        x: axis from left to right.
        y: axis from bottom to top.
        x_edges: (C + 1,) edges of the columns.
        y_edges: (R + 1,) edges of the rows.
        values: (R, C) which shade, integers 0 ... len(names) - 1.
        names: of the shades, at most six, for the legend and as tips.
    """
    which = np.asarray(values)
    return [
        Mark(cells(x, y, x_edges, y_edges, which == i), f"cells {SHADES[i]}", name, name)
        for i, name in enumerate(names)
    ]
