"""The page of `pairsift adapt`: rankings of held-out pairs, the spectrum, the choice, and first hits that changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pairsift._base.extras import needs
from pairsift.spectral.choice import HeldOut, Ranking, Setting

with needs("report", "the page of an adaptation"):
    from pairsift.report.drawing import Axis, Drawing, Mark, polyline, whiskers
    from pairsift.report.page import page_template, write_page

_Z = 1.96
_TICKS = 9
# Settings that differ by less are shown as equal.
_LEAST_SPAN = 0.01


def write_adapt_page(
    path: Path,
    title: str,
    held: HeldOut,
    rankings: Sequence[tuple[str, Ranking]],
    lines: Sequence[str],
    changed: Sequence[tuple[str, str, str]],
) -> None:
    """Write the page whole or not at all.

    Args:
        path: file to write.
        title: heading.
        held: what held-out pairs said.
        rankings: name and ranking of frozen and adapted features.
        lines: what was chosen and found, a paragraph each.
        changed: query, first hit before and first hit after.

    Raises:
        OSError: not writable.
    """
    write_page(
        path,
        page_template("adapt.html", "pairsift.spectral"),
        title=title,
        words=f"A linear map of frozen embeddings in closed form, measured on {held.pairs:,} held-out pairs.",
        rankings=[(name, *cells_of(ranking)) for name, ranking in rankings],
        lines=lines,
        spectrum=spectrum_of(held),
        choice=choice_of(held),
        changed=changed,
    )


def cells_of(ranking: Ranking) -> tuple[str, str]:
    """Mean reciprocal rank and recall@10 in percent, with their intervals."""
    return (
        f"{100 * ranking.mrr:.1f} ± {100 * ranking.mrr_interval:.1f}",
        f"{100 * ranking.recall10:.1f} ± {100 * ranking.recall10_interval:.1f}",
    )


def spectrum_of(held: HeldOut) -> Drawing:
    """Eigenvalues of the sample, and correlations of the same directions on held-out pairs."""
    count = len(held.eigenvalues)
    at = np.arange(1, count + 1)
    both = np.concatenate([held.eigenvalues, held.correlations])
    x = Axis(1, max(count, 2), "direction", at=range(1, count + 1, -(-count // _TICKS)))
    y = Axis(min(0.0, float(both.min())), max(1.0, float(both.max())), "correlation")
    marks = (
        Mark(polyline(x, y, at, held.eigenvalues), "line a", "eigenvalue in the sample"),
        Mark(polyline(x, y, at, held.correlations), "line b", "correlation on held-out pairs"),
    )
    return Drawing("spectrum", "Eigenvalues and held-out correlations by direction", x, y, marks)


def choice_of(held: HeldOut) -> Drawing:
    """Mean log rank or loss by width, for the best ridge and power at each."""
    best: dict[int, Setting] = {}
    for setting in held.settings:  # best first
        best.setdefault(setting.dimensions, setting)
    widths = sorted(best)
    ranks = np.array([-best[width].score for width in widths])
    halves = np.array([_Z * best[width].error for width in widths])
    x = Axis(widths[0] / 1.2, widths[-1] * 1.2, "dimensions", log=True, at=widths)
    low, high = float((ranks - halves).min()), float((ranks + halves).max())
    title = "mean log rank" if held.criterion == "rank" else "loss"
    pad = 0.05 * max(high - low, _LEAST_SPAN)
    y = Axis(low - pad, max(high, low + _LEAST_SPAN) + pad, title)
    marks = (
        Mark(polyline(x, y, widths, ranks), "line a"),
        Mark(whiskers(x, y, widths, ranks - halves, ranks + halves), "line b"),
    )
    return Drawing("choice", f"{title.capitalize()} of held-out pairs by width", x, y, marks)
