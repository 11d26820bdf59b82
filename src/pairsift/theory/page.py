"""Figures of the theory: spectra, bounds over gamma - beta and over n_d / n, and where each treatment wins."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from pairsift.report.figures import DASHES, INK, SYMBOLS, styled
from pairsift.report.page import Section, write_figures
from pairsift.theory import bounds, population
from pairsift.theory.graph import SimilarityGraph

_POINTS = 60
# Population computations are dense: examples a class, and standard deviations of the noise.
_POPULATION = 40
_NOISE = (0.0, 0.05, 0.1, 0.2)
# Which treatments lower the bound of the untreated graph, from none to all: shades that keep their order in grey.
_REGIONS = ("none", "margin", "margin, removal", "margin, temperature", "all three", "removal without margin")
_SHADES = ("#ffffff", "#d9d9d9", "#9ecae1", "#4292c6", "#08519c", "#000000")


def theory_page(path: Path, graph: SimilarityGraph, delta: float, k: int) -> None:
    """Write all figures of a graph as one page.

    Raises:
        ValueError: delta or k out of range.
        OSError: the file cannot be written.
    """
    bounds.exact(graph, delta, k)  # refuses what none of the figures could show
    lifted = sum(mode.multiplicity for mode in graph.slow_modes())
    facts = (
        f"n = {graph.n:,}, r = {graph.r}, n_d = {graph.n_d:,}, alpha = {graph.alpha:g}, beta = {graph.beta:g}, "
        f"gamma = {graph.gamma:g}, {graph.pairing} pairing; delta = {delta:g}, k = {k}."
    )
    sections = [
        Section(
            "Spectrum",
            f"Difficult examples lift {lifted:,} eigenvalues above the floor (1 - alpha) / c2.",
            spectrum(graph),
        ),
        Section(
            "Bounds over gamma - beta",
            "The printed statements, and the exact bound of the untreated graph. Above 1 a bound says nothing.",
            bounds_over_gap(graph, delta, k),
        ),
        Section(
            "Bounds over the share of difficult examples",
            "The same over n_d / n.",
            bounds_over_share(graph, delta, k),
        ),
        Section(
            "Where each treatment wins",
            "Treatments whose printed bound lies below the exact bound of the untreated graph at this k. A margin "
            "restores the graph without difficult examples, so it wins wherever they hurt.",
            phases(graph, delta, k),
        ),
        Section(
            "How loose the bound is",
            "Exact bound against the true error of the linear probe on the whole population, for this graph reduced to "
            f"{_POPULATION} examples a class, with noise; delta is the smallest that each graph allows.",
            looseness(graph),
        ),
    ]
    write_figures(path, "The similarity graph and its bounds", facts, sections)


def spectrum(graph: SimilarityGraph) -> go.Figure:
    """Eigenvalues over their rank, with and without difficult examples; lifted modes are marked and counted."""
    figure = go.Figure()
    for i, (name, each) in enumerate((("with difficult examples", graph), ("without", graph.without_difficult()))):
        values, counts = each.spectrum()
        last = np.cumsum(counts)
        first = last - counts + 1
        x = np.stack([first, last, last], axis=1).ravel().astype(float)
        y = np.stack([values, values, np.full(len(values), np.nan)], axis=1).ravel()
        words = np.repeat([f"{count:,} x {value:.6g}" for value, count in zip(values, counts, strict=True)], 3)
        figure.add_scatter(
            x=x, y=y, name=name, text=words, hoverinfo="text+name", mode="lines+markers",
            line={"color": INK[2 * i], "width": 3 - i, "dash": DASHES[2 * i]},
            marker={"symbol": SYMBOLS[i], "size": 8 - 2 * i},
        )  # fmt: skip
    modes = graph.slow_modes()
    if modes:
        starts = [_first_rank(graph, mode.value) for mode in modes]
        figure.add_scatter(
            x=starts, y=[mode.value for mode in modes], mode="markers+text", name="lifted by difficult examples",
            text=[f"{mode.multiplicity:,} x" for mode in modes], textposition="top center",
            marker={"symbol": "star", "size": 14, "color": INK[1], "line": {"width": 1, "color": "#000"}},
        )  # fmt: skip
    styled(figure, "rank of the eigenvalue (1 = largest, logarithmic)", "eigenvalue of the normalised adjacency")
    return figure.update_xaxes(type="log")


def bounds_over_gap(graph: SimilarityGraph, delta: float, k: int) -> go.Figure:
    """Every printed bound, and the exact one, over gamma - beta from 0 to alpha - beta."""
    gaps = np.linspace(0, 0.995 * (graph.alpha - graph.beta), _POINTS)
    graphs = [replace(graph, gamma=graph.beta + gap) for gap in gaps.tolist()]
    figure = _curves(gaps, graphs, delta, k)
    figure.add_vline(x=graph.gamma - graph.beta, line_dash="dot", line_color="#888", annotation_text="this graph")
    return styled(figure, "gamma - beta (cosine similarity)", "bound on the linear-probe error (probability)")


def bounds_over_share(graph: SimilarityGraph, delta: float, k: int) -> go.Figure:
    """Every printed bound, and the exact one, over n_d / n."""
    counts = np.unique(np.linspace(0, graph.n, _POINTS).astype(int))
    graphs = [replace(graph, n_d=int(count)) for count in counts]
    figure = _curves(counts / graph.n, graphs, delta, k)
    figure.add_vline(x=graph.n_d / graph.n, line_dash="dot", line_color="#888", annotation_text="this graph")
    return styled(figure, "share of difficult examples, n_d / n", "bound on the linear-probe error (probability)")


def phases(graph: SimilarityGraph, delta: float, k: int) -> go.Figure:
    """Which treatments lower the bound, over gamma - beta and n_d / n: printed treated against exact untreated."""
    gaps = np.linspace(0, 0.995 * (graph.alpha - graph.beta), _POINTS)
    counts = np.unique(np.linspace(0, graph.n - 1, _POINTS).astype(int))
    region = [
        [_region(replace(graph, n_d=int(count), gamma=graph.beta + gap), delta, k) for gap in gaps.tolist()]
        for count in counts
    ]
    # Two stops a shade make steps of what plotly would blend.
    shades = [[(i + end) / len(_SHADES), shade] for i, shade in enumerate(_SHADES) for end in (0, 1)]
    figure = go.Figure(go.Heatmap(
        x=gaps, y=counts / graph.n, z=region, zmin=-0.5, zmax=len(_SHADES) - 0.5, colorscale=shades,
        text=[[_REGIONS[value] for value in row] for row in region], hovertemplate="%{text}<extra></extra>",
        colorbar={"tickvals": list(range(len(_REGIONS))), "ticktext": list(_REGIONS), "title": "lower the bound"},
    ))  # fmt: skip
    figure.add_scatter(
        x=[graph.gamma - graph.beta], y=[graph.n_d / graph.n], mode="markers", name="this graph",
        marker={"symbol": "x", "size": 12, "color": INK[1], "line": {"width": 1, "color": "#fff"}},
    )  # fmt: skip
    return styled(figure, "gamma - beta (cosine similarity)", "share of difficult examples, n_d / n")


def looseness(graph: SimilarityGraph, seed: int = 0) -> go.Figure:
    """True population error of the probe against the exact bound, over k and noise."""
    scale = min(1.0, _POPULATION / graph.n)
    small = replace(graph, n=max(1, round(graph.n * scale)), n_d=round(graph.n_d * scale))
    labels, figure = small.labels(), go.Figure()
    for i, epsilon in enumerate(_NOISE):
        adjacency = population.relax(small.adjacency(), epsilon, seed)
        delta, points = population.labelling_error(adjacency, labels), []
        most = min(2 * small.n_classes, len(small) - 1)
        values = population.leading_eigenpairs(population.normalize(adjacency), most + 1)[0]
        for k in range(1, most + 1):
            error = population.linear_probe_error(adjacency, population.optimal_features(adjacency, k), labels)
            points.append((bounds.from_eigenvalue(float(values[k]), delta), error, f"k = {k}"))
        x, y, words = zip(*points, strict=True)
        figure.add_scatter(
            x=x, y=y, text=words, name=f"noise {epsilon:g}", mode="markers",
            marker={"symbol": SYMBOLS[i], "color": INK[i], "size": 9},
        )  # fmt: skip
    figure.add_scatter(
        x=[0.01, 1], y=[0.01, 1], mode="lines", name="bound = error", line={"color": "#888", "dash": "dot"}
    )
    styled(figure, "exact bound (logarithmic; above 1 it says nothing)", "error of the probe (probability)")
    return figure.update_xaxes(type="log")


def _curves(x: np.ndarray, graphs: list[SimilarityGraph], delta: float, k: int) -> go.Figure:
    curves: list[tuple[str, Callable[[SimilarityGraph], float]]] = [
        ("untreated, exact", lambda g: bounds.exact(g, delta, k)),
        ("untreated, Thm 3.4", lambda g: float(bounds.with_difficult(g, delta, k))),
        ("removal, Cor 4.1", lambda g: _removal(g, delta, k)),
        ("margin, Thm 4.3", lambda g: float(bounds.margin(g, delta, k))),
        ("temperature, Thm 4.5", lambda g: _temperature(g, delta, k)),
    ]
    figure = go.Figure()
    for i, (name, value) in enumerate(curves):
        figure.add_scatter(
            x=x, y=[value(graph) for graph in graphs], name=name, mode="lines+markers",
            line={"color": INK[i], "dash": DASHES[i]}, marker={"symbol": SYMBOLS[i], "size": 7, "maxdisplayed": 12},
        )  # fmt: skip
    # Thm 4.5's factor grows past everything else; the axis is for the curves that can be compared.
    heights = [y for curve in figure.data[:-1] for y in curve.y if math.isfinite(y)]
    low, high = min(heights), max(heights)
    pad = 0.15 * (high - low) or 0.05
    return figure.update_yaxes(range=[low - pad, high + 2 * pad])


def _region(graph: SimilarityGraph, delta: float, k: int) -> int:
    untreated = bounds.exact(graph, delta, k)

    def lower(value: float) -> bool:
        return value < untreated and not math.isclose(value, untreated, rel_tol=1e-12)

    margin = lower(float(bounds.margin(graph, delta, k)))
    removal, temperature = lower(_removal(graph, delta, k)), lower(_temperature(graph, delta, k))
    if not margin:
        return 5 if removal else 0
    return 1 + removal + 2 * temperature


def _removal(graph: SimilarityGraph, delta: float, k: int) -> float:
    if graph.n_d == graph.n or k >= len(graph.remove_difficult()):
        return math.nan
    return float(bounds.removed(graph, delta, k))


def _temperature(graph: SimilarityGraph, delta: float, k: int) -> float:
    return float(bounds.temperature(graph, delta, k)) if graph.beta > 0 else math.nan


def _first_rank(graph: SimilarityGraph, value: float) -> int:
    values, counts = graph.spectrum()
    before = int(counts[values > value * (1 + 1e-12)].sum())
    return max(before, graph.n_classes if before < graph.n_classes else before) + 1
