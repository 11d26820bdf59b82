"""Figures as data, drawn by matplotlib as SVG with equal bytes every time.

The SVG holds the numbers of the figure, so that a test can compare them with the result files without drawing.
"""

from __future__ import annotations

import html
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.colors import ListedColormap

from pairsift._base.files import replacing
from pairsift.evaluate import t_interval

# Okabe-Ito colours of clearly different lightness; curves also differ by dash and marker, for print in grey.
INK = ("#000000", "#d55e00", "#0072b2", "#56b4e9", "#e69f00", "#009e73")
DASHES = ("-", "--", ":", "-.", (0, (8, 2)), (0, (8, 2, 1, 2)))
MARKERS = ("o", "s", "D", "^", "X", "P")
_WIDTH = 10.0  # inches, as wide as a page


@dataclass(frozen=True)
class Series:
    """Points of one name.

    Attributes:
        name: name in the legend, or "".
        x, y: coordinates of the points.
        half: half-widths of the intervals of y, or of x in a panel of rows. nan draws none.
        look: number of the colour, dash and marker.
        line: whether points are joined.
        points: whether they are marked.
        hollow: whether a point whose interval holds 0 is hollow.
        labels: texts next to the points.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    half: Sequence[float] = ()
    look: int = 0
    line: bool = False
    points: bool = True
    hollow: bool = False
    labels: Sequence[str] = ()


@dataclass(frozen=True)
class Panel:
    """One pair of axes.

    Attributes:
        series: series of the panel.
        title, x, y: titles of the panel and of its axes.
        rows: names of the rows 0, 1, ... of a panel whose intervals are horizontal.
        columns: names of the columns 0, 1, ...
        log: logarithmic axes, "x", "y" or "xy".
        ticks: ticks of the x axis. Matplotlib chooses them by default.
        zero: whether a line marks 0.
        levels: named horizontal lines.
        limits: limits of the x axis and of the y axis.
        areas: a grid of whole numbers with the x and y of its cells and the names of the numbers.
    """

    series: Sequence[Series]
    title: str = ""
    x: str = ""
    y: str = ""
    rows: Sequence[str] = ()
    columns: Sequence[str] = ()
    log: str = ""
    ticks: Sequence[float] = ()
    zero: bool = False
    levels: Mapping[str, float] | None = None
    limits: tuple[tuple[float, float] | None, tuple[float, float] | None] = (None, None)
    areas: tuple[Sequence[float], Sequence[float], Sequence[Sequence[int]], Sequence[str]] | None = None


@dataclass(frozen=True)
class Figure:
    """Panels side by side, with one legend.

    Attributes:
        panels: panels of the figure.
        across: panels in a line.
        height: height of a line of panels, in inches.
        share_y: whether panels share the y axis.
        x: title of the x axes of all panels.
    """

    panels: Sequence[Panel]
    across: int = 1
    height: float = 4.0
    share_y: bool = False
    x: str = ""


def curve(name: str, values: Mapping[float, Sequence[float]], look: int = 0, line: bool = True) -> Series:
    """Means over seeds with their 95 % intervals, by x."""
    both = [t_interval(each) for each in values.values()]
    return Series(name, list(values), [mean for mean, _ in both], [half for _, half in both], look, line)


def shown(figure: Figure) -> list[dict[str, Any]]:
    """The content of a figure, with six digits of every number."""
    found: list[dict[str, Any]] = []
    for panel in figure.panels:
        for each in panel.series:
            found.append(
                {"panel": panel.title, "name": each.name, "x": _short(each.x), "y": _short(each.y),
                 "half": _short(each.half), "labels": list(each.labels)}
            )  # fmt: skip
        if panel.levels:
            found.append({"panel": panel.title, "levels": list(panel.levels), "y": _short(list(panel.levels.values()))})
        if panel.areas is not None:
            x, y, grid, names = panel.areas
            found.append({"x": _short(x), "y": _short(y), "areas": [list(row) for row in grid], "names": list(names)})
    return found


def _short(values: Sequence[float]) -> list[float | None]:
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in map(float, values)]


def kept(file: Path) -> Any:
    """The content that a drawn figure holds, or None without it."""
    found = re.search("<metadata>(.*?)</metadata>", file.read_text(), re.DOTALL) if file.exists() else None
    return None if found is None else json.loads(html.unescape(found[1]))


def alike(a: Any, b: Any) -> bool:
    """Whether two figures show the same, except for the last of six digits, which depends on the processor."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(alike(a[key], b[key]) for key in a)
    numbers = all(isinstance(each, (int, float)) for each in (a, b))
    return math.isclose(a, b, rel_tol=1e-5, abs_tol=1e-9) if numbers else bool(a == b)


def svg(figure: Figure) -> str:
    """The figure as SVG, with its content."""
    style: Any = {
        "svg.hashsalt": "pairsift", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9,
        "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": "#e5e5e5",
        "axes.axisbelow": True, "legend.frameon": False,
    }  # fmt: skip
    data = html.escape(json.dumps(shown(figure), separators=(",", ":")), quote=False)
    with matplotlib.rc_context(style):
        drawn = _drawn(figure)
        stream = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        drawn.savefig(stream, format="svg", metadata=nothing, bbox_inches="tight")
        plt.close(drawn)
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", stream.getvalue(), flags=re.DOTALL)
    text = re.sub(r"(?m)[ \t]+$", "", text)
    return text.replace("</svg>", f"<metadata>{data}</metadata>\n</svg>")


def save(figure: Figure, file: Path) -> None:
    """Write the figure, completely or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    with replacing(file) as temporary:
        temporary.write_text(svg(figure))


def _drawn(figure: Figure) -> Any:
    lines = -(-len(figure.panels) // figure.across)
    drawn, places = plt.subplots(
        lines, figure.across, figsize=(_WIDTH, lines * figure.height), squeeze=False, sharey=figure.share_y,
        layout="constrained",
    )  # fmt: skip
    for place in places.flat[len(figure.panels) :]:
        place.set_visible(False)
    handles: dict[str, Any] = {}
    for panel, axes in zip(figure.panels, places.flat, strict=False):
        _draw(panel, axes, drawn)
        handles |= {name: handle for handle, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    drawn.supxlabel(figure.x, fontsize=9)
    if handles:
        drawn.legend(handles.values(), handles, loc="outside upper center", ncols=min(5, len(handles)))
    return drawn


def _draw(panel: Panel, axes: Any, drawn: Any) -> None:
    for which in panel.log:
        getattr(axes, f"set_{which}scale")("log")
    if panel.areas is not None:
        x, y, grid, names = panel.areas
        colours = ListedColormap(["#ffffff", "#d9d9d9", "#9ecae1", "#4292c6", "#08519c", "#000000"][: len(names)])
        place = (x[0], x[-1], y[0], y[-1])
        image = axes.imshow(grid, colours, origin="lower", extent=place, aspect="auto", interpolation="nearest",
                            vmin=-0.5, vmax=len(names) - 0.5)  # fmt: skip
        drawn.colorbar(image, ax=axes, ticks=range(len(names))).ax.set_yticklabels(names)
        axes.grid(False)
    for each in panel.series:
        _draw_series(each, bool(panel.rows), axes)
    for name, level in (panel.levels or {}).items():
        axes.axhline(level, color="#444444", linestyle="--", linewidth=1)
        axes.annotate(name, (1, level), xycoords=("axes fraction", "data"), ha="right", va="bottom", fontsize=8)
    if panel.zero:
        (axes.axvline if panel.rows else axes.axhline)(0, color="#888888", linewidth=1, zorder=1)
    axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
    for which, limits in zip("xy", panel.limits, strict=True):
        if limits is not None:
            getattr(axes, f"set_{which}lim")(*limits)
    if panel.ticks:
        axes.set_xticks(panel.ticks, [f"{each:,g}" for each in panel.ticks], minor=False)
        axes.set_xticks([], minor=True)
    if panel.columns:
        axes.set_xticks(range(len(panel.columns)), panel.columns)
    if panel.rows:
        axes.set_yticks(range(len(panel.rows)), panel.rows)
        axes.set_ylim(len(panel.rows) - 0.5, -0.5)


def _draw_series(each: Series, rows: bool, axes: Any) -> None:
    colour, marker = INK[each.look % len(INK)], MARKERS[each.look % len(MARKERS)]
    if each.half:
        error = [0 if math.isnan(half) else half for half in each.half]
        axes.errorbar(
            each.x, each.y, fmt="none", ecolor=colour, elinewidth=1, zorder=2, **{"xerr" if rows else "yerr": error}
        )
    if each.line:
        axes.plot(each.x, each.y, color=colour, linestyle=DASHES[each.look % len(DASHES)], linewidth=1.5, zorder=2,
                  label=None if each.points else each.name or None)  # fmt: skip
    if each.points:
        means = each.x if rows else each.y
        empty = [each.hollow and abs(mean) <= half for mean, half in zip(means, each.half or means, strict=True)]
        fill = ["#ffffff" if hollow else colour for hollow in empty] if each.hollow else colour
        axes.scatter(each.x, each.y, s=36, marker=marker, c=fill, edgecolors=colour, zorder=3)
        axes.plot([], [], marker=marker, color=colour, linestyle=DASHES[each.look % len(DASHES)] if each.line else "",
                  label=each.name or None)  # fmt: skip
    for x, y, label in zip(each.x, each.y, each.labels, strict=False):
        axes.annotate(label, (x, y), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)
