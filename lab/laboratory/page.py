"""Figures of the noisy-graph laboratory: what each arm changes, and whether gains follow purity."""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go

from lab.laboratory.run import Report, Row
from lab.laboratory.setting import TREATMENTS
from pairsift.report.figures import INK, SYMBOLS, styled
from pairsift.report.page import Section, write_figures


def laboratory_page(path: Path, report: Report) -> None:
    """Write the figures of a laboratory run as one page.

    Raises:
        OSError: the file cannot be written.
    """
    setting = report.setting
    facts = (
        f"n = {setting.n}, r = {setting.r}, n_d = {setting.n_d}, alpha = {setting.alpha:g}, beta = {setting.beta:g}, "
        f"noise {setting.epsilon:g}, band {setting.ranks.start:g} to {setting.ranks.stop:g}, {setting.rounds} rounds; "
        f"{report.draws} draws, seed {report.seed}."
    )
    sections = [
        Section(
            "What each arm changes",
            "Accuracy of the probe minus that of the untreated graph of the same draw, with 95 % intervals. Open "
            "symbols know difficult vertices or labels: yardsticks, not treatments. gamma = beta is the control "
            "without difficulty.",
            gains(report),
        ),
        Section(
            "Gain over purity",
            "The same gains over the purity of the flagged pairs minus the base rate, for what knows nothing.",
            gain_over_purity(report),
        ),
    ]
    write_figures(path, "The noisy-graph laboratory", facts, sections)


def gains(report: Report) -> go.Figure:
    """Difference from the untreated graph of every arm, at every gamma."""
    figure = go.Figure()
    for i, gamma in enumerate(report.setting.gammas):
        rows = [row for row in report.rows if row.gamma == gamma and row.arm != "with"][::-1]
        symbols = [SYMBOLS[i] + ("-open" if row.uses_labels else "") for row in rows]
        figure.add_scatter(
            x=[100 * row.difference for row in rows], y=[row.arm for row in rows], mode="markers",
            name=f"gamma = {gamma:g}" + (" (control)" if gamma == report.setting.beta else ""),
            error_x=_interval(rows, INK[i]), marker={"symbol": symbols, "color": INK[i], "size": 9},
        )  # fmt: skip
    figure.add_vline(x=0, line_color="#888")
    styled(figure, "difference in accuracy (percentage points)", "")
    return figure.update_layout(height=700, margin={"l": 150, "r": 20, "t": 30, "b": 60}, legend_y=-0.12)


def gain_over_purity(report: Report) -> go.Figure:
    """Gain of the band-selected and random treatments over purity minus base rate."""
    figure = go.Figure()
    for i, treatment in enumerate(TREATMENTS):
        for name, suffix in ((treatment, ""), (f"random {treatment}", "-open")):
            rows = [row for row in report.rows if row.arm == name and row.excess is not None]
            figure.add_scatter(
                x=[100 * (row.excess or 0) for row in rows], y=[100 * row.difference for row in rows], name=name,
                text=[f"gamma = {row.gamma:g}" for row in rows], mode="markers", error_y=_interval(rows, INK[i]),
                marker={"symbol": SYMBOLS[i] + suffix, "color": INK[i], "size": 9},
            )  # fmt: skip
    return styled(figure, "purity minus base rate (percentage points)", "difference in accuracy (percentage points)")


def _interval(rows: list[Row], colour: str) -> dict[str, object]:
    return {"array": [100 * (row.half_width or 0) for row in rows], "color": colour, "thickness": 1}
