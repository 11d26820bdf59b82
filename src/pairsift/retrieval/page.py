"""The page of an inspection: its figures, and examples that can be filtered by kind and text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairsift.report.drawing import Axis, Drawing, Line, Mark, points, polyline, stairs, whiskers
from pairsift.report.page import page_template, write_page
from pairsift.retrieval.checks import BATCHES, Findings, Rate
from pairsift.retrieval.config import PairsConfig
from pairsift.retrieval.report import (
    Gallery,
    Summary,
    expectations,
    notes,
    numbers,
    quantile_names,
    text_lengths,
)

_BINS = 80
_SETTING = re.compile(r"`(\w+)(?:=(\w+))?`")


def pairs_page(path: Path, summary: Summary, galleries: Sequence[Gallery]) -> None:
    """Write the page of an inspection; see `InspectedPairs.report`.

    Raises:
        OSError: not writable.
    """
    reasons = {reason: int(mask.sum()) for reason, mask in summary.findings.reasons.items() if mask.any()}
    write_page(
        path, page_template("pairs.html", "pairsift.retrieval"), title="Pairs to train a retriever on",
        words=f"{summary.name}: {len(summary.findings):,} rows of {summary.kind} ({', '.join(summary.columns)}), "
        f"{_compared(summary)}.",
        numbers=numbers(summary), notes=[_in_flags(line) for line in notes(summary)],
        batches=[f"{batch:,}" for batch in BATCHES], expectations=expectations(summary),
        reasons=sorted(reasons.items(), key=lambda each: -each[1]), expected=expected(summary.findings),
        similarities=similarities(summary.findings), quantiles=quantile_names(), lengths=text_lengths(summary.findings),
        galleries=[each._replace(action=_in_flags(each.action)) for each in galleries],
    )  # fmt: skip


def _in_flags(text: str) -> str:
    """Settings in backquotes as options of the command."""
    return _SETTING.sub(_flag, text)


def _flag(found: re.Match[str]) -> str:
    name, value = found.groups()
    if name not in PairsConfig.model_fields:
        return name
    return f"--{name.replace('_', '-')}" + (f" {value}" if value else "")


def _compared(summary: Summary) -> str:
    guided = summary.findings.guided
    if guided is None:
        return "compared by their spelling alone"
    return "compared with each other" if guided.name == summary.name else f"compared by {guided.name}"


# Figures


@dataclass(frozen=True)
class Distribution:
    """Similarities of one kind: their name, and the share (B,) between each two edges."""

    name: str
    shares: NDArray[np.float64]


def distributions(found: Findings) -> tuple[NDArray[np.float64], list[Distribution]]:
    """Edges (B + 1,) and shares of the similarities of unrelated pairs, known positives and likely false negatives."""
    assert found.guided is not None
    scores, likely = found.guided.scores, found.guided.false_negatives
    values = {
        "unrelated pairs": scores.unrelated, "known positives": scores.own,
        "likely false negatives": likely.similarity[likely.counts > 0],
    }  # fmt: skip
    filled = {name: each for name, each in values.items() if len(each)}
    low, high = min(each.min() for each in filled.values()), max(each.max() for each in filled.values())
    edges = np.linspace(low, high + 1e-6, _BINS + 1)
    return edges, [Distribution(name, np.histogram(each, edges)[0] / len(each)) for name, each in filled.items()]


def similarities(found: Findings) -> Drawing | None:
    """How similar known positives are, and others, with the floor as a line; None without a guide."""
    if found.guided is None:
        return None
    edges, shown = distributions(found)
    x = Axis(float(edges[0]), float(edges[-1]), "cosine similarity under the guide")
    y = Axis(0.0, 1.05 * max(float(each.shares.max()) for each in shown), "share")
    looks = {"unrelated pairs": "d", "known positives": "c dash", "likely false negatives": "b dot"}
    marks = [Mark(stairs(x, y, edges, each.shares), f"line {looks[each.name]}", each.name) for each in shown]
    scores = found.guided.scores
    inside = not scores.off_because and x.low <= scores.floor <= x.high
    lines = [Line(float(x.along(scores.floor)), "a dot", "floor")] if inside else []
    words = (
        f"Similarities of known positives, of unrelated pairs and of likely false negatives; floor {scores.floor:.3f}"
    )
    return Drawing("similarities", words, x, y, marks, lines)


def expected(found: Findings) -> Drawing | None:
    """False negatives that a row meets by the size of its batch; None where there are none."""
    if found.rates is None:
        return None
    rates: list[tuple[str, str, Rate | None]] = [
        ("without the floor", "d dot", found.rates.margin_alone),
        ("likely, by identity or guide", "b dash", found.rates.likely if found.guided is not None else None),
        ("identical texts", "c", found.rates.identical),
    ]
    shown = [(name, look, np.array([rate.expected(batch) for batch in BATCHES]).T) for name, look, rate in rates
             if rate is not None and rate.mean > 0]  # fmt: skip
    if not shown:
        return None
    least = min(float(values[0].min()) for _, _, values in shown)
    x = Axis(BATCHES[0] / 1.3, BATCHES[-1] * 1.3, "batch size", log=True, at=BATCHES)
    most = max(2.0, *(float(values[2].max()) for _, _, values in shown))
    y = Axis(least / 2, most * 2, "expected false negatives a row", log=True)
    marks = []
    for name, look, (mean, low, high) in shown:
        marks.append(Mark(polyline(x, y, BATCHES, mean), f"line {look}", name))
        marks.append(Mark(points(x, y, BATCHES, mean), f"points {look.split()[0]}"))
        marks.append(Mark(whiskers(x, y, BATCHES, np.maximum(low, y.low), high), f"line {look.split()[0]}"))
    lines = [Line(float(y.along(1.0)), "faint", "one a row", across=True)] if y.low < 1 < y.high else []
    words = "Expected false negatives of a row by batch size, as in the table"
    return Drawing("batches", words, x, y, marks, lines)
