"""Figures of an inspection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from pairsift.report.figures import DASHES, INK, SYMBOLS, styled

if TYPE_CHECKING:
    from pairsift.retrieval.verdict import Evidence

_BINS = 80
_RULES = {"margin_alone": "without the floor", "likely": "likely, by identity or guide", "identical": "identical texts"}


@dataclass(frozen=True)
class Distributions:
    """Shares of similarities between `edges`: of known positives, unrelated pairs and the most similar candidates."""

    edges: NDArray[np.float64]
    shares: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, evidence: Evidence) -> Distributions:
        """Of everything that was judged."""
        assert evidence.judged is not None
        values = {"unrelated pairs": evidence.judged.unrelated, "known positives": evidence.judged.own}
        if evidence.found is not None and (evidence.found.counts > 0).any():
            values["likely false negatives"] = evidence.found.similarity[evidence.found.counts > 0]
        filled = [each for each in values.values() if len(each)]
        edges = np.linspace(min(each.min() for each in filled), max(each.max() for each in filled) + 1e-6, _BINS + 1)
        return cls(edges, {
            name: np.histogram(each, edges)[0] / len(each) for name, each in values.items() if len(each)
        })  # fmt: skip


def similarities(distributions: Distributions, floor: float | None) -> go.Figure:
    """How similar known positives are, and others; the floor as a line."""
    figure, middles = go.Figure(), (distributions.edges[1:] + distributions.edges[:-1]) / 2
    colours = {"unrelated pairs": INK[3], "known positives": INK[2], "likely false negatives": INK[1]}
    for i, (name, shares) in enumerate(distributions.shares.items()):
        line = {"color": colours[name], "dash": DASHES[i], "shape": "hvh", "width": 2}
        figure.add_scatter(x=middles, y=shares, name=name, mode="lines", line=line)
    if floor is not None:
        figure.add_vline(
            x=floor, line={"color": INK[0], "dash": "dot"}, annotation_text="floor", annotation_position="top"
        )
    return styled(figure, "cosine similarity under the guide", "share").update_layout(margin={"t": 50})


def expected(facts: dict[str, Any]) -> go.Figure:
    """False negatives that a row meets by the size of its batch; nothing is drawn where there are none."""
    figure = go.Figure()
    for i, (rule, name) in enumerate(_RULES.items()):
        if facts[rule] is None or facts[rule]["rate"] == 0 or (rule == "likely" and facts["margin_alone"] is None):
            continue
        batches = [int(batch) for batch in facts[rule]["expected"]]
        values = list(facts[rule]["expected"].values())
        means = [value["mean"] for value in values]
        error = {
            "array": [value["high"] - value["mean"] for value in values],
            "arrayminus": [value["mean"] - value["low"] for value in values],
        }
        figure.add_scatter(
            x=batches, y=means, error_y=error, name=name, mode="lines+markers",
            line={"color": INK[i], "dash": DASHES[i]}, marker={"symbol": SYMBOLS[i], "size": 9},
        )  # fmt: skip
    figure.add_hline(
        y=1, line={"color": "#888", "width": 1}, annotation_text="one a row", annotation_position="top left"
    )
    figure.update_xaxes(type="log", tickvals=list(map(int, facts["identical"]["expected"])), tickformat=",")
    figure.update_yaxes(type="log", exponentformat="power")
    return styled(figure, "batch size", "expected false negatives a row")
