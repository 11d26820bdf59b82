"""Figures of the studies' committed runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.benchmarks._study_tables import MEASURES, found, study_runs
from lab.small import BEST, PARTS, excess_at
from pairsift.evaluate import t_interval
from pairsift.report.figures import DASHES, INK, SYMBOLS

SETS = {"pendigits": "pen strokes", "digits": "images of digits", "fsdd": "spoken digits",
        "gaussians": "mixtures of Gaussians", "banking77": "questions to a bank"}  # fmt: skip
# What is shown of the vector studies and of CIFAR-10: the arm's title in either, "" where it has none.
SHOWN = {
    "plain, its best temperature": (BEST, BEST), "all pairs": ("all pairs", ""),
    "random pairs": ("random pairs, as many", "combined, random pairs"),
    "the paper's band": ("band 0.15 to 0.22", "combined"), "band from 0.05": ("band 0.05 to 0.22", ""),
    "labels say which (oracle)": ("oracle", "combined, oracle"),
}  # fmt: skip
Gains = Mapping[str, Mapping[str, Sequence[float]]]


def treatments() -> go.Figure:
    """Gains of treatments and controls on plain training at the same temperature, set by set."""
    panels: dict[str, Gains] = {}
    sets = [*(("band", group, title) for group, title in SETS.items()), ("combined", "", "CIFAR-10, 16 pixels")]
    for name, group, title in sets:
        lines = study_runs(name)[1]
        own = {row: titles[name == "combined"] for row, titles in SHOWN.items()}
        panels[title] = {row: found(lines, group, arm).differences for row, arm in own.items() if arm}
    return forest(panels, list(SHOWN), "points beyond plain training, temperature 0.5", columns=3)


def methods() -> go.Figure:
    """Gains of methods at their best on plain training at its best, set by set."""
    lines = study_runs("hard-negatives")[1]
    rows = [
        method for line in lines if line.group == "pendigits" and (method := line.title.partition(":")[0]) != "plain"
    ]
    panels = {title: {row: found(lines, group, row).differences for row in rows} for group, title in SETS.items()}
    return forest(panels, rows, "points beyond plain training at its best temperature", columns=3)


def forest(panels: Mapping[str, Gains], rows: Sequence[str], title: str, columns: int) -> go.Figure:
    """Means of gains with their 95 % intervals, a panel a set: filled where the interval leaves 0 out."""
    figure = make_subplots(
        -(-len(panels) // columns), columns, subplot_titles=list(panels), shared_yaxes=True, vertical_spacing=0.16,
        horizontal_spacing=0.02,
    )  # fmt: skip
    for place, gains in enumerate(panels.values()):
        at = {"row": place // columns + 1, "col": place % columns + 1}
        for i, (measure, name) in enumerate(MEASURES.items()):
            told = {row: t_interval(gains[row][measure]) for row in rows if row in gains}
            colour = INK[i + 1]
            figure.add_scatter(
                x=[mean for mean, _ in told.values()],
                y=[rows.index(row) + 0.15 - 0.3 * i for row in told], name=name, mode="markers",
                error_x={"array": [half for _, half in told.values()], "thickness": 1.2, "width": 0},
                marker={"size": 9, "symbol": SYMBOLS[i], "line": {"color": colour, "width": 1.5},
                        "color": [colour if abs(mean) > half else "#ffffff" for mean, half in told.values()]},
                line={"color": colour}, error_x_color=colour, legendgroup=name, showlegend=place == 0, **at,
            )  # fmt: skip
        figure.add_vline(0, line={"color": "#888", "width": 1}, **at)
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=list(rows), range=[len(rows) - 0.5, -0.5])
    figure.update_yaxes(showgrid=False, zeroline=False)
    figure.update_xaxes(showline=True, linecolor="#444", zeroline=False, nticks=6)
    figure.add_annotation(text=title, x=0.5, y=0, yshift=-48, xref="paper", yref="paper", showarrow=False)
    return _wide(figure, 90 + -(-len(panels) // columns) * (60 + 26 * len(rows)), left=200, legend=1.16)


def _wide(figure: go.Figure, height: int, left: int, legend: float) -> go.Figure:
    """As wide as a page, the legend at this height above the panels."""
    return figure.update_layout(
        width=1000, height=height, template="plotly_white", margin={"l": left, "r": 20, "t": 80, "b": 60},
        legend={"orientation": "h", "y": legend}, font={"size": 13},
    )  # fmt: skip


def _curve(figure: go.Figure, i: int, name: str, told: Mapping[float, tuple[float, float]], column: int) -> None:
    """Means with their intervals over x, the i-th curve of a panel; curves stand a little apart."""
    apart = 0.012 * (max(told) - min(told)) * (i - 1)
    figure.add_scatter(
        x=[x + apart for x in told], y=[mean for mean, _ in told.values()], name=name, mode="lines+markers",
        error_y={"array": [half for _, half in told.values()], "thickness": 1, "width": 0},
        line={"color": INK[i], "dash": DASHES[i]}, marker={"symbol": SYMBOLS[i], "size": 8}, legendgroup=name,
        showlegend=column == 1, row=1, col=column,
    )  # fmt: skip


def mixing() -> go.Figure:
    """Accuracy on CIFAR-10 by the share of mixed images, and the theory's eigenvalue of the measured levels."""
    lines = study_runs("mixing")[1]
    shares = {group: float(group.split("%")[0]) for group in dict.fromkeys(line.group for line in lines)}
    told = {"linear": "linear probe %", "knn20": "20-NN %", "eigenvalue": "eigenvalue x 10^5, as printed"}
    figure = make_subplots(1, len(told), subplot_titles=list(told.values()), horizontal_spacing=0.07)
    for column, measure in enumerate(told, 1):
        for i, title in enumerate(("plain", "without the mixes", "combined", "combined, random pairs")):
            own = {shares[line.group]: line.values[measure] for line in lines if line.title == title}
            _curve(figure, i, title, {x: t_interval([*values.values()]) for x, values in own.items()}, column)
    figure.update_xaxes(title_text="% of images mixed", tickvals=list(shares.values()), showline=True, linecolor="#444")
    return _wide(figure, 360, left=50, legend=1.28)


def mixtures() -> go.Figure:
    """Errors of untreated training against the theory's exact bound, and what treatments change, mixture by mixture."""
    lines = study_runs("gaussians")[1]
    groups = list(dict.fromkeys(line.group for line in lines))
    figure = make_subplots(
        1, 2, column_widths=[0.36, 0.64], horizontal_spacing=0.09,
        subplot_titles=["plain training: error % against the exact bound", "error minus plain, points"],
    )  # fmt: skip
    plain = [line for line in lines if line.title == "plain"]
    errors = [t_interval([*line.values["error"].values()]) for line in plain]
    figure.add_scatter(
        x=[next(iter(line.values["bound"].values())) for line in plain], y=[mean for mean, _ in errors], mode="markers",
        error_y={"array": [half for _, half in errors], "width": 0}, marker={"color": INK[0], "size": 9},
        showlegend=False, row=1, col=1,
    )  # fmt: skip
    for i, title in enumerate(("margin", "temperature", "difficult examples dropped")):
        own = [found(lines, group, title) for group in groups]
        gains = [t_interval(line.differences["error"]) for line in own]
        figure.add_scatter(
            x=[place + 0.18 * (i - 1) for place in range(len(groups))], y=[mean for mean, _ in gains], name=title,
            mode="markers", error_y={"array": [half for _, half in gains], "width": 0},
            marker={"color": INK[i + 1], "symbol": SYMBOLS[i + 1], "size": 9}, row=1, col=2,
        )  # fmt: skip
    figure.add_hline(0, line={"color": "#888", "width": 1}, row=1, col=2)
    figure.update_xaxes(showline=True, linecolor="#444").update_xaxes(title_text="exact bound", row=1, col=1)
    figure.update_xaxes(
        tickvals=list(range(len(groups))), ticktext=[group.replace(", ", "<br>") for group in groups], row=1, col=2
    )
    return _wide(figure, 380, left=50, legend=1.25)


def purity() -> go.Figure:
    """How much purer than all pairs the band is, over training."""
    lines = study_runs("purity")[1]
    groups = list(dict.fromkeys(line.group for line in lines))
    figure = make_subplots(1, len(groups), subplot_titles=[SETS[group] for group in groups], horizontal_spacing=0.07)
    titles = {"plain": "plain", "selected on h": "the paper's band", "oracle": "labels say which (oracle)"}
    for column, group in enumerate(groups, 1):
        for i, (title, name) in enumerate(titles.items()):
            values = found(lines, group, title).values
            told = {100 * part: t_interval([*values[excess_at(part)].values()]) for part in PARTS}
            _curve(figure, i, name, told, column)
    figure.update_xaxes(title_text="% of training", showline=True, linecolor="#444")
    figure.update_yaxes(title_text="points beyond all pairs", col=1)
    return _wide(figure, 340, left=60, legend=1.3)


STUDY_FIGURES = {
    "study-treatments": treatments, "study-methods": methods, "study-mixing": mixing, "study-mixtures": mixtures,
    "study-purity": purity,
}  # fmt: skip
