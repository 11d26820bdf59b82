"""Bounds, spectra and levels as tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table

from pairsift.theory.bounds import Comparison
from pairsift.theory.collapse import collapse_temperature, collapse_threshold, within_class_share
from pairsift.theory.graph import SimilarityGraph
from pairsift.theory.levels import Levels


def comparison_table(rows: Sequence[Comparison], delta: float, k: int) -> Table:
    """Printed statements beside exact values, as `theory.bounds.compare` gives them."""
    table = Table(
        box=box.SIMPLE_HEAD,
        title=f"bounds on the linear-probe error, delta = {delta:g}, k = {k}", title_justify="left",
        caption=None if all(row.printed.holds for row in rows) else "* outside the statement's own conditions",
        caption_justify="left",
    )  # fmt: skip
    table.add_column("statement", no_wrap=True)
    for title in ("printed lambda", "exact", "printed bound", "exact"):
        table.add_column(title, justify="right")
    table.add_column("printed is")
    for row in rows:
        numbers = (row.printed.eigenvalue, row.eigenvalue, row.printed.value, row.exact)
        status = row.status + ("" if row.printed.holds else " *")
        table.add_row(f"{row.printed.source}, {row.statement}", *(_number(value) for value in numbers), status)
    return table


def spectrum_table(graph: SimilarityGraph) -> Table:
    """Eigenvalues with their multiplicities, lifted ones marked."""
    table = Table(title=f"spectrum of the normalised adjacency, {len(graph):,} vertices", title_justify="left")
    table.add_column("eigenvalue", justify="right")
    table.add_column("multiplicity", justify="right")
    table.add_column("lifted by difficult examples")
    lifted = {mode.value: mode for mode in graph.slow_modes()}
    for value, count in zip(*(array.tolist() for array in graph.spectrum()), strict=True):
        mode = lifted.get(value)
        table.add_row(_number(value), f"{count:,}", f"by {mode.lift:.4g}" if mode else "")
    return table


def levels_table(levels: Levels) -> Table:
    """Measured alpha, beta and gamma."""
    table = Table(title="similarity levels (cosine)", title_justify="left")
    table.add_column("level")
    for title in ("mean", "standard deviation", "pairs"):
        table.add_column(title, justify="right")
    with_labels = levels.difficult is not None
    names = {
        "alpha: same class" if with_labels else "alpha: ranked above the band": levels.alpha,
        "beta: different classes, easy" if with_labels else "beta: ranked below the band": levels.beta,
        "gamma: different classes, one difficult or both" if with_labels else "gamma: ranked in the band": levels.gamma,
    }
    if levels.gamma_both is not None:
        names["   both difficult"] = levels.gamma_both
    for name, level in names.items():
        table.add_row(name, _number(level.mean), _number(math.sqrt(level.variance)), f"{level.pairs:,}")
    return table


def collapse_table(n_classes: int, per_class: float, temperature: float, alphas: Sequence[float]) -> Table:
    """At which weights of the self-supervised part classes collapse, and how much variance they keep where not.

    Args:
        n_classes, per_class, temperature: see `collapse_threshold`.
        alphas: weights to show, beside the threshold.
    """
    threshold = collapse_threshold(n_classes, per_class, temperature)
    table = Table(
        title=f"classes fall on points up to alpha = {threshold:.4g}", title_justify="left",
        caption=f"{n_classes} classes of {per_class:g}, temperature {temperature:g}", caption_justify="left",
    )  # fmt: skip
    for title in ("alpha", "share within classes", "collapses from temperature"):
        table.add_column(title, justify="right")
    table.add_column("")
    for alpha in sorted({*alphas, threshold}):
        share = within_class_share(alpha, n_classes, per_class, temperature)
        hottest = collapse_temperature(alpha, n_classes, per_class)
        said = "collapsed" if alpha <= threshold else ""
        table.add_row(_number(alpha), f"{share:.4f}", "never" if alpha == 1 else _number(hottest), said)
    return table


def _number(value: float) -> str:
    return f"{value:.5g}" if math.isfinite(value) else "-" if math.isnan(value) else "unbounded"
