"""Figures of a scan."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from pairsift.report.figures import DASHES, INK, SYMBOLS, styled

if TYPE_CHECKING:
    from pairsift.curate.result import Scan

# How many examples and clusters are shown.
POINTS, CLUSTERS = 3000, 40


def histogram(scan: Scan) -> go.Figure:
    """Shares of similarities above, in and below the band, and the three levels."""
    edges, figure = scan.histogram.edges, go.Figure()
    used = np.flatnonzero(scan.histogram.counts.sum(axis=0))
    low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, len(edges) - 1)
    middles = (edges[1:] + edges[:-1])[low:high] / 2
    names = (("above the band", INK[2], ""), ("in the band", INK[1], "/"), ("below the band", INK[3], "."))
    total = max(1, int(scan.histogram.counts.sum()))
    for counts, (name, colour, pattern) in zip(scan.histogram.counts, names, strict=True):
        marker = {"color": colour, "pattern": {"shape": pattern, "fgcolor": "#fff", "size": 5}}
        figure.add_bar(x=middles, y=counts[low:high] / total, name=name, marker=marker)
    levels = (("alpha", scan.levels.alpha), ("gamma", scan.levels.gamma), ("beta", scan.levels.beta))
    for i, (name, level) in enumerate(levels):
        if np.isfinite(level.mean):
            figure.add_vline(
                x=level.mean, line={"dash": DASHES[i], "color": INK[0]}, annotation_text=name,
                annotation_position="top", annotation_yshift=14 * (i % 2),
            )  # fmt: skip
    figure.update_layout(barmode="stack", bargap=0)
    return styled(figure, "cosine similarity", "share of pairs").update_layout(margin={"t": 50})


def scores(scan: Scan, good: NDArray[np.int64], cutoff: float) -> go.Figure:
    """How many of the examples at positions `good` score how much; the first shape is the threshold's line."""
    counts, edges = np.histogram(scan.scores[good], 100, (0, 1))
    figure = go.Figure(
        go.Bar(x=(edges[1:] + edges[:-1]) / 2, y=counts, marker={"color": INK[2]}, name="examples", showlegend=False)
    )
    figure.add_vline(x=cutoff, line={"color": INK[1], "width": 3})
    figure.update_layout(bargap=0)
    return styled(figure, "score", "examples").update_layout(height=320)


def plane(scan: Scan, good: NDArray[np.int64]) -> go.Figure:
    """At most `POINTS` examples of the positions `good` in two principal components, with both their colourings."""
    chosen = np.sort(np.random.default_rng(0).choice(good, min(POINTS, len(good)), replace=False))
    clusters = scan.clusters[chosen]
    scale = {"title": "score", "orientation": "h", "y": -0.35, "thickness": 14}
    scatter = go.Scatter(
        x=scan.plane[chosen, 0], y=scan.plane[chosen, 1], mode="markers", name="examples", showlegend=False,
        marker={
            "color": scan.scores[chosen].tolist(), "colorscale": "Cividis", "colorbar": scale, "size": 6,
            "opacity": 0.8,
            "symbol": [SYMBOLS[cluster // len(INK) % len(SYMBOLS)] for cluster in clusters],
        },
        text=[
            f"row {row}<br>score {score:.3f}<br>cluster {cluster}"
            for row, score, cluster in zip(scan.rows[chosen], scan.scores[chosen], clusters, strict=True)
        ],
        hoverinfo="text", customdata=[INK[cluster % len(INK)] for cluster in clusters],
    )  # fmt: skip
    figure = styled(go.Figure(scatter), "first component", "second component")
    return figure.update_layout(height=560, margin={"b": 110})


def bridges(scan: Scan) -> go.Figure:
    """Share of links that lead from each cluster to each other one, for the `CLUSTERS` with the most links."""
    totals = scan.bridges.sum(axis=1)
    chosen = np.sort(np.argsort(-totals, kind="stable")[:CLUSTERS])
    shares = scan.bridges / np.maximum(totals[:, None], 1)
    inside = np.eye(len(shares), dtype=bool)
    values = np.where(inside, np.nan, shares)[np.ix_(chosen, chosen)]
    names = [str(each) for each in chosen]
    text = [["" if np.isnan(v) else f"{100 * v:.0f}" for v in row] for row in values] if len(chosen) <= 15 else None
    figure = go.Figure(
        go.Heatmap(
            z=[[None if np.isnan(v) else v for v in row] for row in values], x=names, y=names, colorscale="Cividis",
            text=text, texttemplate=None if text is None else "%{text}", xgap=1, ygap=1,
            colorbar={"tickformat": ".0%", "thickness": 14},
            hovertemplate="from %{y} to %{x}: %{z:.1%}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", type="category").update_xaxes(type="category")
    return styled(figure, "to cluster", "from cluster").update_layout(height=520)
