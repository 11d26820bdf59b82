"""The page of an inspection: what is wrong with pairs, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pairsift.report.page import page_template, write_page
from pairsift.retrieval.page import figures
from pairsift.retrieval.page.figures import Distributions
from pairsift.retrieval.rates import BATCHES
from pairsift.retrieval.words import expectations, notes, numbers

if TYPE_CHECKING:
    from pairsift.retrieval.examples import Gallery

__all__ = ["Distributions", "pairs_page"]


def pairs_page(
    path: Path, facts: dict[str, Any], galleries: Sequence[Gallery], distributions: Distributions | None
) -> None:
    """Write the page of an inspection; see `InspectedPairs.report`.

    Raises:
        OSError: not writable.
    """
    guide = facts["guide"]
    write_page(
        path, page_template("pairs.html", __name__), title="Pairs to train a retriever on",
        words=f"{facts['pairs']}: {facts['rows']:,} rows of {facts['kind']} "
        f"({', '.join(facts['columns'])}), {_judged(facts)}.",
        numbers=numbers(facts), notes=notes(facts), batches=[f"{batch:,}" for batch in BATCHES],
        expectations=expectations(facts), reasons=sorted(facts["reasons"].items(), key=lambda each: -each[1]),
        expected=None if facts["false_negatives"] is None else figures.expected(facts["false_negatives"]),
        similarities=None if distributions is None
        else figures.similarities(distributions, None if guide["off_because"] else guide["floor"]),
        galleries=galleries,
    )  # fmt: skip


def _judged(facts: dict[str, Any]) -> str:
    name = facts["guide_name"]
    if name is None:
        return "compared as texts only"
    return "which judge themselves" if name == facts["pairs"] else f"judged by {name}"
