"""A laboratory run as a table for the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table

from lab.laboratory.run import Report, Row


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
