"""Figures of a scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pairsift.report.drawing import COLOURS, Axis, Drawing, Line, Mark, bars, points

if TYPE_CHECKING:
    from pairsift.scanning.result import Scan

# How many examples and clusters are shown, and steps of the scores' colours.
POINTS, CLUSTERS, SHADES = 3000, 40, 5


def histogram(scan: Scan) -> Drawing:
    """Shares of similarities above, in and below the band, and the three levels."""
    edges, counts = scan.histogram.edges, scan.histogram.counts
    used = np.flatnonzero(counts.sum(axis=0))
    low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, len(edges) - 1)
    shares = counts[:, low:high] / max(1, int(counts.sum()))
    x = Axis(float(edges[low]), float(edges[high]), "cosine similarity")
    y = Axis(0.0, float(shares.sum(axis=0).max(initial=0)) * 1.05 or 1.0, "share of pairs")
    kinds = (("above the band", "c"), ("in the band", "b"), ("below the band", "d"))
    base, marks = np.zeros(high - low), []
    for heights, (name, colour) in zip(shares, kinds, strict=True):
        marks.append(Mark(bars(x, y, edges[low : high + 1], base, heights), f"bars {colour}", name))
        base = base + heights
    levels = {"alpha": scan.levels.alpha.mean, "gamma": scan.levels.gamma.mean, "beta": scan.levels.beta.mean}
    dashes = ("a", "a dash", "a dot")
    lines = [
        Line(float(x.along(mean)), dash, name, i % 2)
        for i, ((name, mean), dash) in enumerate(zip(levels.items(), dashes, strict=True))
        if np.isfinite(mean)
    ]
    words = ", ".join(f"{name} {mean:.3f}" for name, mean in levels.items())
    return Drawing("histogram", f"Histogram of the similarities of pairs; {words}", x, y, marks, lines)


def scores(scan: Scan, good: NDArray[np.int64], cutoff: float) -> Drawing:
    """How many of the examples at positions `good` score how much; the line is the threshold."""
    counts, edges = np.histogram(scan.scores[good], 100, (0, 1))
    x, y = Axis(0.0, 1.0, "score"), Axis(0.0, float(counts.max(initial=1)) * 1.05, "examples")
    marks = [Mark(bars(x, y, edges, np.zeros(100), counts), "bars c")]
    median = f"{np.median(scan.scores[good]):.2f}" if len(good) else "unknown"
    words = f"Histogram of the scores, whose median is {median}; a line marks the threshold"
    return Drawing("scores", words, x, y, marks, [Line(float(x.along(cutoff)), "b strong")])


class Plane(NamedTuple):
    """Examples in two principal components: coloured by score, by cluster, and what scripts say of each.

    Attributes:
        by_score: drawing.
        by_cluster: drawing of the same points.
        facts: place from left and from top, row, score and cluster of each point.
    """

    by_score: Drawing
    by_cluster: Drawing
    facts: list[tuple[int, int, int, float, int]]


def plane(scan: Scan, good: NDArray[np.int64]) -> Plane:
    """At most `POINTS` examples of the positions `good`, the most difficult on top."""
    chosen = np.random.default_rng(0).choice(good, min(POINTS, len(good)), replace=False)
    chosen = chosen[np.argsort(scan.scores[chosen], kind="stable")]
    place, value, cluster = scan.plane[chosen].astype(np.float64), scan.scores[chosen], scan.clusters[chosen]
    x, y = (_around(place[:, i], f"{name} component") for i, name in enumerate(("first", "second")))
    shade = np.minimum((value * SHADES).astype(int), SHADES - 1)
    by_score = [
        Mark(points(x, y, *place[shade == i].T), f"points s{i}", f"score from {i / SHADES:g}") for i in range(SHADES)
    ]
    named = scan.n_classes <= 2 * len(COLOURS)
    by_cluster = [
        Mark(points(x, y, *place[cluster == each].T), _look(each), f"cluster {each}" if named else None)
        for each in np.unique(cluster).tolist()
    ]
    words = f"{len(chosen):,} examples in the plane of their first two principal components, coloured by"
    across, down = x.along(place[:, 0]).round().astype(int), (1000 - y.along(place[:, 1])).round().astype(int)
    facts = zip(across.tolist(), down.tolist(), scan.rows[chosen].tolist(), np.round(value, 3).tolist(),
                cluster.tolist(), strict=True)  # fmt: skip
    return Plane(
        Drawing("by-score", f"{words} score", x, y, by_score),
        Drawing("by-cluster", f"{words} cluster", x, y, by_cluster), list(facts),
    )  # fmt: skip


class Bridges(NamedTuple):
    """Shares of links from cluster to cluster: names of both, and a row of shares for each, None inside a cluster."""

    names: list[int]
    rows: list[list[float | None]]
    largest: float


def bridges(scan: Scan) -> Bridges:
    """Share of links that lead from each cluster to each other one, for the `CLUSTERS` with the most links."""
    totals = scan.bridges.sum(axis=1)
    chosen = np.sort(np.argsort(-totals, kind="stable")[:CLUSTERS])
    shares = (scan.bridges / np.maximum(totals[:, None], 1))[np.ix_(chosen, chosen)]
    np.fill_diagonal(shares, np.nan)
    rows = [[None if np.isnan(share) else float(share) for share in row] for row in shares]
    return Bridges(chosen.tolist(), rows, float(np.nan_to_num(shares).max(initial=0)) or 1.0)


def _around(values: NDArray[np.float64], title: str) -> Axis:
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    margin = 0.03 * (high - low) or 1.0
    return Axis(low - margin, high + margin, title)


def _look(cluster: int) -> str:
    """Colours, then the same with square ends."""
    square = " square" if cluster // len(COLOURS) % 2 else ""
    return f"points {COLOURS[cluster % len(COLOURS)]}{square}"
