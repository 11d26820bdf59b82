"""The theory page: spectra, bounds over gamma - beta and over n_d / n, and the region where each treatment wins."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pairsift._base.words import counted
from pairsift.report.drawing import DASHES, SIDE, Axis, Drawing, Label, Line, Mark, heatmap, points, polyline
from pairsift.report.page import Section, write_figures
from pairsift.theory import bounds, population
from pairsift.theory.graph import FloatArray, IntArray, SimilarityGraph

_POINTS = 60
# Population computations are dense: the most examples of a class, the most vertices, and the noise (std).
_POPULATION, _VERTICES = 40, 2000
_NOISE = (0.0, 0.05, 0.1, 0.2)
_GAP, _SHARE = "gamma - beta (cosine similarity)", "share of difficult examples, n_d / n"
_BOUND = "bound on the linear-probe error (probability)"

# The sets of treatments that can lower the bound of the untreated graph, in the order of their codes.
REGIONS = ("none", "margin", "margin, removal", "margin, temperature", "all three", "removal without margin")


def theory_page(path: Path, graph: SimilarityGraph, delta: float, k: int) -> None:
    """Write all figures of a graph as one HTML page.

    Args:
        path: file to write.
        graph: with or without difficult examples.
        delta: labelling error, in [0, 1].
        k: feature dimension, 1 <= k < n (r + 1).

    Raises:
        ValueError: delta or k out of range.
        OSError: the file cannot be written.
    """
    bounds.exact(graph, delta, k)  # checks delta and k before any work
    lifted = sum(mode.multiplicity for mode in graph.slow_modes())
    sections = [
        Section(
            "Spectrum",
            f"Difficult examples lift {counted(lifted, 'eigenvalue')} above the floor (1 - alpha) / c2.",
            draw_spectrum(graph),
        ),
        Section(
            "Bounds over gamma - beta",
            "The printed statements, and the exact bound of the untreated graph. A bound above 1 is vacuous.",
            draw_bounds_over_gap(graph, delta, k),
        ),
        Section(
            "Bounds over the share of difficult examples",
            "The same curves over n_d / n, with gamma - beta as given.",
            draw_bounds_over_share(graph, delta, k),
        ),
        Section(
            "Where each treatment wins",
            "Treatments whose printed bound lies below the exact bound of the untreated graph at this k. A margin "
            "restores the graph without difficult examples, so it wins wherever they hurt.",
            draw_regions(graph, delta, k),
        ),
    ]
    if graph.n_classes <= _VERTICES:
        sections.append(Section(
            "How loose the bound is",
            "The true error of the linear probe on the whole population against the exact bound, one point per k. The "
            f"graph is this one with at most {_POPULATION} examples of a class and with noise. delta is the smallest "
            "value that each graph allows.",
            draw_looseness(graph),
        ))  # fmt: skip
    write_figures(path, "The similarity graph and its bounds", facts(graph, delta, k), sections)


def facts(graph: SimilarityGraph, delta: float, k: int) -> str:
    """The graph in words, with the symbols that the figures use."""
    partners = "all" if graph.pairing == "block" else "one"
    return (
        f"r + 1 = {graph.n_classes:,} classes of n = {graph.n:,} augmented examples, n_d = {graph.n_d:,} of them "
        f"difficult. The similarity is alpha = {graph.alpha:g} inside a class and beta = {graph.beta:g} "
        f"between classes, except gamma = {graph.gamma:g} between a difficult example and {partners} of the difficult "
        f"examples of each other class. The labels have an error of delta = {delta:g}, and the features have k = {k} "
        "dimensions."
    )


def draw_spectrum(graph: SimilarityGraph) -> Drawing:
    """Eigenvalues over their rank, with and without difficult examples. Lifted eigenvalues are marked and counted."""
    spectra = {"with difficult examples": graph.spectrum(), "without": graph.without_difficult().spectrum()}
    low = min(0.0, *(float(values.min()) for values, _ in spectra.values()))
    x = Axis(0.9, 1.1 * len(graph), "rank of the eigenvalue (1 = largest, logarithmic)", log=True)
    y = Axis(1.05 * low - 0.02, 1.05, "eigenvalue of the normalised adjacency")
    marks, labels = [], []
    for (name, (values, counts)), look in zip(spectra.items(), ("a", "c dot"), strict=True):
        first, last = _ranks(counts)
        for i, (value, count) in enumerate(zip(values.tolist(), counts.tolist(), strict=True)):
            ends, levels = [float(first[i]), float(last[i])], [value, value]
            tip = f"{name}: {count:,} x {value:.6g}"
            marks.append(Mark(polyline(x, y, ends, levels), f"line {look}", None if i else name, tip))
            marks.append(Mark(points(x, y, ends, levels), f"points {look[0]}", None, tip))
    modes = graph.slow_modes()
    if modes:
        ranks = [_first_slow_rank(graph, mode.value) for mode in modes]
        heights = [mode.value for mode in modes]
        marks.append(Mark(points(x, y, ranks, heights), "points b square", "lifted by difficult examples"))
        labels = [
            Label(float(x.along(rank)), SIDE - float(y.along(mode.value)), f"{mode.multiplicity:,} x")
            for rank, mode in zip(ranks, modes, strict=True)
        ]
    return Drawing("spectrum", "Eigenvalues over their rank", x, y, marks, (), labels)


def draw_bounds_over_gap(graph: SimilarityGraph, delta: float, k: int) -> Drawing:
    """Every printed bound, and the exact one, over gamma - beta from 0 to alpha - beta."""
    gaps = _gaps(graph)
    graphs = [replace(graph, gamma=graph.beta + gap) for gap in gaps.tolist()]
    x = Axis(0.0, graph.alpha - graph.beta, _GAP)
    return _draw_curves("bounds-over-gap", x, gaps, bound_curves(graphs, delta, k), graph.gamma - graph.beta)


def draw_bounds_over_share(graph: SimilarityGraph, delta: float, k: int) -> Drawing:
    """Every printed bound, and the exact one, over n_d / n."""
    counts = np.unique(np.linspace(0, graph.n, _POINTS).astype(int))
    graphs = [replace(graph, n_d=int(count)) for count in counts]
    curves = bound_curves(graphs, delta, k)
    return _draw_curves("bounds-over-share", Axis(0.0, 1.0, _SHARE), counts / graph.n, curves, graph.n_d / graph.n)


def draw_regions(graph: SimilarityGraph, delta: float, k: int) -> Drawing:
    """The treatments that lower the bound, over gamma - beta and n_d / n."""
    found = treatment_regions(graph, delta, k)
    columns, rows = _edges(found.gaps), _edges(found.shares)
    x, y = Axis(columns[0], columns[-1], _GAP), Axis(rows[0], rows[-1], _SHARE)
    marks = heatmap(x, y, columns, rows, found.codes, REGIONS)
    here = points(x, y, [graph.gamma - graph.beta], [graph.n_d / graph.n])
    marks.append(Mark(here, "points b square", "this graph"))
    return Drawing("regions", "Which treatments lower the bound, over gamma - beta and n_d / n", x, y, marks)


def draw_looseness(graph: SimilarityGraph, seed: int = 0) -> Drawing:
    """The exact error of the probe against the exact bound, over k and noise."""
    found = probe_errors(graph, seed)
    above = [pair[0] for pairs in found.values() for pair in pairs if math.isfinite(pair[0]) and pair[0] > 0]
    low, high = min(0.01, *above) if above else 0.01, max(1.0, *above) if above else 1.0
    most = max((pair[1] for pairs in found.values() for pair in pairs), default=1.0)
    x = Axis(low, 1.1 * high, "exact bound (logarithmic; vacuous above 1)", log=True)
    y = Axis(0.0, 1.05 * most or 1.0, "error of the probe (probability)")
    marks = []
    for i, (epsilon, pairs) in enumerate(found.items()):
        across, up = np.array(pairs, float).reshape(-1, 2).T
        look = f"points {'acde'[i]}" + (" square" if i % 2 else "")
        marks.append(Mark(points(x, y, across, up), look, f"noise {epsilon:g}"))
    equal = np.geomspace(low, y.high, _POINTS)
    marks.append(Mark(polyline(x, y, equal, equal), "line faint dot", "bound = error"))
    return Drawing("looseness", "Error of the probe against its bound", x, y, marks)


class Regions(NamedTuple):
    """The treatments that lower the bound, on a grid.

    Attributes:
        gaps: (C,) values of gamma - beta.
        shares: (R,) values of n_d / n.
        codes: (R, C) indices into `REGIONS`.
    """

    gaps: FloatArray
    shares: FloatArray
    codes: IntArray


def treatment_regions(graph: SimilarityGraph, delta: float, k: int) -> Regions:
    """Find the treatments whose printed bound lies below the exact bound of the untreated graph.

    Args:
        graph: gives n, r, alpha, beta and the pairing.
        delta: labelling error, in [0, 1].
        k: feature dimension, 1 <= k < n (r + 1).
    """
    gaps = _gaps(graph)
    counts = np.unique(np.linspace(0, graph.n - 1, _POINTS).astype(int))
    codes = [
        [_region(replace(graph, n_d=int(count), gamma=graph.beta + gap), delta, k) for gap in gaps.tolist()]
        for count in counts
    ]
    return Regions(gaps, counts / graph.n, np.array(codes))


def bound_curves(graphs: Sequence[SimilarityGraph], delta: float, k: int) -> dict[str, FloatArray]:
    """The exact untreated bound and every printed bound of G graphs, by name: (G,) each, nan where undefined."""
    curves: dict[str, Callable[[SimilarityGraph], float]] = {
        "untreated, exact": lambda g: bounds.exact(g, delta, k),
        "untreated, Thm 3.4": lambda g: float(bounds.with_difficult(g, delta, k)),
        "removal, Cor 4.1": lambda g: _removal(g, delta, k),
        "margin, Thm 4.3": lambda g: float(bounds.margin(g, delta, k)),
        "temperature, Thm 4.5": lambda g: _temperature(g, delta, k),
    }
    return {name: np.array([value(graph) for graph in graphs]) for name, value in curves.items()}


def probe_errors(graph: SimilarityGraph, seed: int = 0) -> dict[float, list[tuple[float, float]]]:
    """The exact bound and the probe's exact error for k = 1, 2, ... on a small graph, by standard deviation of noise.

    The small graph has the levels and the share of difficult examples of `graph`, with fewer examples of a class.
    """
    scale = min(1.0, _POPULATION / graph.n, _VERTICES / len(graph))
    small = replace(graph, n=max(1, round(graph.n * scale)), n_d=round(graph.n_d * scale))
    labels, most = small.labels(), min(2 * small.n_classes, len(small) - 1)
    found = {}
    for epsilon in _NOISE:
        adjacency = population.relax(small.adjacency(), epsilon, seed)
        delta = population.labelling_error(adjacency, labels)
        values = population.leading_eigenpairs(population.normalize(adjacency), most + 1)[0]
        features = population.optimal_features(adjacency, most)
        found[epsilon] = [
            (
                bounds.from_eigenvalue(float(values[k]), delta),
                population.linear_probe_error(adjacency, features[:, :k], labels),
            )
            for k in range(1, most + 1)
        ]
    return found


def _draw_curves(name: str, x: Axis, at: FloatArray, curves: dict[str, FloatArray], here: float) -> Drawing:
    # The factor of Thm 4.5 exceeds everything else, so it does not set the range of the axis.
    compared = np.concatenate([values for key, values in curves.items() if "Thm 4.5" not in key])
    finite = compared[np.isfinite(compared)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    pad = 0.15 * (high - low) or 0.05
    y = Axis(low - pad, high + 2 * pad, _BOUND)
    marks = []
    for (key, values), colour, dash in zip(curves.items(), "abcde", DASHES, strict=False):
        inside = np.where((values >= y.low) & (values <= y.high), values, np.nan)
        marks.append(Mark(polyline(x, y, at, inside), f"line {colour} {dash}".strip(), key, key))
    lines = [Line(float(x.along(here)), "faint dot", "this graph")]
    return Drawing(name, f"Bounds on the linear-probe error over {x.title}", x, y, marks, lines)


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


def _gaps(graph: SimilarityGraph) -> FloatArray:
    return np.linspace(0, 0.995 * (graph.alpha - graph.beta), _POINTS)


def _edges(centres: FloatArray) -> FloatArray:
    """Edges of the cells around centres, (C + 1,)."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    between = (centres[1:] + centres[:-1]) / 2
    ends = 2 * centres[0] - between[0], 2 * centres[-1] - between[-1]
    edges: FloatArray = np.concatenate([[ends[0]], between, [ends[1]]])
    return edges


def _ranks(counts: IntArray) -> tuple[IntArray, IntArray]:
    """The first and the last rank of every distinct eigenvalue."""
    last = np.cumsum(counts)
    return last - counts + 1, last


def _first_slow_rank(graph: SimilarityGraph, value: float) -> int:
    """The first rank after the r + 1 largest at which a slow eigenvalue stands."""
    values, counts = graph.spectrum()
    before = int(counts[values > value * (1 + 1e-12)].sum())
    return max(before, graph.n_classes) + 1
