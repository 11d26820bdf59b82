"""`pairsift theory`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

from pairsift.cli.app import console
from pairsift.cli.inputs import check_output

# Of the self-supervised part, shown unless one is given.
_WEIGHTS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)


def _option(panel: str | None, description: str, *names: str, **limits: Any) -> Any:
    return typer.Option(*names, help=description, rich_help_panel=panel, **limits)


def theory(
    alpha: Annotated[
        float | None, _option("Graph", "similarity inside a class; with --collapse the weight of NT-Xent")
    ] = None,
    beta: Annotated[float | None, _option("Graph", "similarity between classes")] = None,
    gamma: Annotated[float | None, _option("Graph", "similarity of difficult pairs")] = None,
    n: Annotated[int | None, _option("Graph", "augmented examples of a class (default: 10000)")] = None,
    r: Annotated[int | None, _option("Graph", "number of classes minus one (default: 9)")] = None,
    n_d: Annotated[int | None, _option("Graph", "difficult examples of a class (default: 800)")] = None,
    pairing: Annotated[Literal["block", "matched"], _option("Graph", "which of the paper's two graphs")] = "block",
    delta: Annotated[float, _option(None, "labelling error, in [0, 1]")] = 0.05,
    k: Annotated[int | None, _option(None, "feature dimension (default: r + 1)")] = None,
    plot: Annotated[Path | None, _option(None, "HTML page of figures to write")] = None,
    features: Annotated[Path | None, _option("Features", "measure the levels of these embeddings instead")] = None,
    label_column: Annotated[str | None, _option("Features", "column of the classes ('none': by the band)")] = None,
    fraction: Annotated[float, _option("Features", "share of each class taken as difficult")] = 0.08,
    pos_high: Annotated[float, _option("Features", "without labels: upper edge of the band")] = 0.15,
    pos_low: Annotated[float, _option("Features", "without labels: lower edge of the band")] = 0.22,
    n_classes: Annotated[int | None, _option("Features", "without labels: classes (default: 1 / pos-high)")] = None,
    collapse: Annotated[
        bool, _option("Collapse", "whether training with labels lets classes fall on points", "--collapse")
    ] = False,
    classes: Annotated[int, _option("Collapse", "classes of a batch")] = 10,
    per_class: Annotated[float, _option("Collapse", "images of a class in a batch of two views each")] = 26,
    temperature: Annotated[float, _option("Collapse", "of the loss")] = 0.1,
) -> None:
    """The similarity graph of given or measured levels: exact spectrum, printed bounds beside exact ones, advice;
    what labels in a loss do to classes."""
    check_output(plot)
    given = {"alpha": alpha, "beta": beta, "n": n, "r": r, "n_d": n_d, "gamma": gamma, "k": k}
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    from pairsift.theory import SimilarityGraph, bounds, tables
    from pairsift.theory.page import theory_page

    if collapse:
        weights = _WEIGHTS if alpha is None else (alpha,)
        console.print(tables.collapse_table(classes, per_class, temperature, weights))
        return

    if features is not None:
        graph = _measured_graph(features, label_column, fraction, (pos_high, pos_low), n_classes, pairing)
    else:
        missing = [f"--{name}" for name in ("alpha", "beta", "gamma") if name not in settings]
        if missing:
            raise ValueError(f"the graph needs {', '.join(missing)}; or give --features FILE to measure them")
        settings.pop("k", None)
        settings = {"n": 10_000, "r": 9, "n_d": 800, "pairing": pairing} | settings
        graph = SimilarityGraph(**settings)
    if graph is None:
        if plot is not None:
            raise ValueError("these levels make no similarity graph, so there is nothing to plot")
        return
    dimension = graph.n_classes if k is None else k
    console.print(tables.comparison_table(bounds.compare(graph, delta, dimension), delta, dimension))
    console.print(tables.spectrum_table(graph))
    if plot is not None:
        theory_page(plot, graph, delta, dimension)
        console.print(f"figures: {plot}", highlight=False, soft_wrap=True)


def _measured_graph(
    file: Path,
    label_column: str | None,
    fraction: float,
    edges: tuple[float, float],
    n_classes: int | None,
    pairing: str,
) -> Any:
    """Print the levels of embeddings and what they advise; the graph they make, or None where they make none."""
    from pairsift.data import UNLABELLED, open_features
    from pairsift.pairs import RankBand
    from pairsift.theory import advise, measure_levels, tables

    data, band = open_features(file, label_column), RankBand(*edges)
    rows, labels = np.arange(data.shape[0]), data.labels
    if labels is not None:
        rows, labels = rows[labels != UNLABELLED], labels[labels != UNLABELLED]
    levels = measure_levels(data.take(rows), labels, fraction=fraction, band=band, n_classes=n_classes)
    console.print(tables.levels_table(levels))
    if levels.t is not None:
        console.print(f"Welch's t of gamma against beta: {levels.t:.4g} (p = {levels.p:.3g})", highlight=False)
    for reason in advise(levels).reasons:
        console.print(f"- {reason}", highlight=False, soft_wrap=True)
    graph_like = levels.beta.mean <= levels.gamma.mean < levels.alpha.mean
    return levels.graph(pairing) if levels.n_d is not None and graph_like else None
