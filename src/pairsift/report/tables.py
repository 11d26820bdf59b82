"""Results as tables for the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich import box
from rich.table import Table

from pairsift.theory import Levels, SimilarityGraph
from pairsift.theory.bounds import Comparison
from pairsift.theory.laboratory import Report, Row


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
        verdict = row.verdict + ("" if row.printed.holds else " *")
        table.add_row(f"{row.printed.source}, {row.statement}", *(_number(value) for value in numbers), verdict)
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


def laboratory_table(report: Report) -> Table:
    """Gains of all arms over the untreated graph of the same draw, a column a gamma."""
    table = Table(
        box=box.SIMPLE_HEAD, title=f"accuracy %, and differences from untreated in points, {report.draws} draws",
        title_justify="left", caption_justify="left",
        caption="* knows difficult vertices or labels: a yardstick; purity: of pairs flagged, minus base",
    )  # fmt: skip
    table.add_column("arm", no_wrap=True)
    for gamma in report.setting.gammas:
        name = f"gamma {gamma:g}" if gamma != report.setting.beta else "gamma = beta"
        table.add_column(name, justify="right", min_width=12)
    table.add_column("purity", justify="right")
    arms: dict[str, list[Row]] = {}
    for row in report.rows:
        arms.setdefault(row.arm, []).append(row)
    for arm, rows in arms.items():
        cells = [_gain(row) if arm != "with" else f"{100 * row.accuracy:.1f}" for row in rows]
        excess = "" if rows[0].excess is None else f"{100 * rows[0].excess:+.1f}"
        table.add_row(arm + (" *" if rows[0].uses_labels else ""), *cells, excess)
    return table


def _gain(row: Row) -> str:
    half = "" if row.half_width is None else f" ± {100 * row.half_width:.1f}"
    return f"{100 * row.difference:+.1f}{half}"


def _number(value: float) -> str:
    return f"{value:.5g}" if math.isfinite(value) else "-" if math.isnan(value) else "unbounded"
