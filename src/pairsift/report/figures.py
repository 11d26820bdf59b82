"""The look of figures: colours, dashes and symbols that stay apart in grey, and axes that are named."""

from __future__ import annotations

import plotly.graph_objects as go

# Okabe-Ito colours of clearly different lightness; every use also differs by dash or symbol, for print in grey.
INK = ("#000000", "#d55e00", "#0072b2", "#56b4e9", "#e69f00", "#009e73")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")


def styled(figure: go.Figure, x: str, y: str) -> go.Figure:
    """The house's look: axes named, grid light, legend below."""
    figure.update_layout(
        template="plotly_white", height=460, margin={"l": 70, "r": 20, "t": 30, "b": 60}, font={"size": 13},
        legend={"orientation": "h", "y": -0.22},
    )  # fmt: skip
    figure.update_xaxes(title=x, showline=True, linecolor="#444", ticks="outside")
    figure.update_yaxes(title=y, showline=True, linecolor="#444", ticks="outside")
    return figure
