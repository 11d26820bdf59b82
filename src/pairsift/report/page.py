"""One self-contained HTML page of figures with words around them."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from pairsift.files import replacing

# Okabe-Ito colours of clearly different lightness; every use also differs by dash or symbol, for print in grey.
INK = ("#000000", "#d55e00", "#0072b2", "#56b4e9", "#e69f00", "#009e73")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross")

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #111; background: #fff; max-width: 60rem; margin: 1.5rem auto;
  padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.5rem } p { max-width: 45rem }
"""


class Section(NamedTuple):
    """A figure, or markup, or one after the other, under a heading, and what they show in words.

    Scripts find the figure under `name`.
    """

    heading: str
    words: str
    figure: go.Figure | None = None
    markup: str = ""
    name: str | None = None


def styled(figure: go.Figure, x: str, y: str) -> go.Figure:
    """The house's look: axes named, grid light, legend below."""
    figure.update_layout(
        template="plotly_white", height=460, margin={"l": 70, "r": 20, "t": 30, "b": 60}, font={"size": 13},
        legend={"orientation": "h", "y": -0.22},
    )  # fmt: skip
    figure.update_xaxes(title=x, showline=True, linecolor="#444", ticks="outside")
    figure.update_yaxes(title=y, showline=True, linecolor="#444", ticks="outside")
    return figure


def write_page(
    path: Path, title: str, words: str, sections: Sequence[Section], *, top: str = "", style: str = "", script: str = ""
) -> None:
    """Write the page whole or not at all; plotly's script is inside, nothing is fetched.

    Args:
        path: file to write.
        title, words: heading and first paragraph, plain text.
        sections: what follows, in order.
        top: markup between the words and the first section.
        style, script: CSS and JavaScript added to the page; the script runs last.

    Raises:
        OSError: the file cannot be written.
    """
    parts = [
        f"<section><h2>{html.escape(section.heading)}</h2><p>{html.escape(section.words)}</p>"
        + ("" if section.figure is None else _figure(section.figure, section.name))
        + section.markup
        + "</section>"
        for section in sections
    ]
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="data:,">'  # without it browsers ask the network for one
        f"<style>{_STYLE}{style}</style><script>{get_plotlyjs()}</script></head>"
        f"<body><h1>{html.escape(title)}</h1><p>{html.escape(words)}</p>{top}"
        + "".join(parts)
        + (f"<script>{script}</script>" if script else "")
        + "</body></html>\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(page)


def _figure(figure: go.Figure, name: str | None) -> str:
    config = {"responsive": True, "displaylogo": False}
    markup: str = figure.to_html(full_html=False, include_plotlyjs=False, config=config, div_id=name)
    return markup
