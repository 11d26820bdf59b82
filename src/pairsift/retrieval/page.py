"""The page of an inspection: its figures, and examples that can be filtered by kind and text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pairsift.report.drawing import Axis, Drawing, Line, Mark, points, polyline, stairs, whiskers
from pairsift.report.page import page_template, write_page
from pairsift.retrieval.columns import FloatArray, IntArray
from pairsift.retrieval.config import PairsConfig
from pairsift.retrieval.findings import BATCHES, Findings, Rate
from pairsift.retrieval.index import Pairing
from pairsift.retrieval.near import NearDuplicates
from pairsift.retrieval.read import PairsSource
from pairsift.retrieval.report import Summary, expectations, notes, numbers, quantile_names, text_lengths

_BINS = 80
# Longer texts are cut on the page.
_MOST_LETTERS = 300
_SETTING = re.compile(r"`(\w+)(?:=(\w+))?`")


def pairs_page(path: Path, summary: Summary, galleries: Sequence[Gallery]) -> None:
    """Write the page of an inspection; see `InspectedPairs.report`.

    Raises:
        OSError: not writable.
    """
    reasons = {reason: int(mask.sum()) for reason, mask in summary.findings.reasons.items() if mask.any()}
    write_page(
        path, page_template("pairs.html", "pairsift.retrieval"), title="Pairs to train a retriever on",
        words=f"{summary.source.name}: {len(summary.findings):,} rows of {summary.source.kind} "
        f"({', '.join(column.name for column in summary.source.columns.all)}), {_compared(summary)}.",
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
    return "compared with each other" if guided.name == summary.source.name else f"compared by {guided.name}"


# Figures


def similarities(found: Findings) -> Drawing | None:
    """Histograms of three kinds of similarities, with the floor as a line; None without a guide."""
    if found.guided is None:
        return None
    scores, likely = found.guided.scores, found.guided.false_negatives
    kinds = [
        ("unrelated pairs", "d", scores.unrelated), ("known positives", "c dash", scores.own),
        ("likely false negatives", "b dot", likely.similarity[likely.counts > 0]),
    ]  # fmt: skip
    kinds = [each for each in kinds if len(each[2])]
    low, high = min(values.min() for *_, values in kinds), max(values.max() for *_, values in kinds)
    edges = np.linspace(low, high + 1e-6, _BINS + 1)
    shares = [np.histogram(values, edges)[0] / len(values) for *_, values in kinds]
    x = Axis(float(edges[0]), float(edges[-1]), "cosine similarity under the guide")
    y = Axis(0.0, 1.05 * max(float(each.max()) for each in shares), "share")
    marks = [
        Mark(stairs(x, y, edges, each), f"line {look}", name)
        for (name, look, _), each in zip(kinds, shares, strict=True)
    ]
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
    likely = found.rates.likely if found.guided is not None else None
    rates: list[tuple[str, str, Rate | None]] = [
        # Drawn in this order, no line hides another one: the later ones have gaps.
        ("by identical texts", "c strong", found.rates.identical),
        ("likely, by identical texts or by the guide", "b dash", likely),
        ("the same without the floor", "e dot", found.rates.margin_alone),
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


# Examples


class ShownText(NamedTuple):
    """A text as the page shows it.

    Attributes:
        role: "anchor", "its positive" and so on.
        row, column: where it lies in the table.
        figure: a similarity or a remark.
        place: in the list of its cell.
        text: cut to `_MOST_LETTERS`; None for embeddings.
    """

    role: str
    row: int
    column: int
    figure: str = ""
    place: int = 0
    text: str | None = None


class Gallery(NamedTuple):
    """Examples of one kind, of `total` in all; `action` says what happens to them.

    `reasons` are those of the first row of each example.
    """

    heading: str
    words: str
    action: str
    total: int
    examples: list[list[ShownText]]
    reasons: list[list[str]]


_APART = "`DistinctBatchSampler` keeps them out of one batch."


def galleries(source: PairsSource, found: Findings, most: int) -> list[Gallery]:
    """At most `most` examples of each kind, the worst first; kinds without any are left out."""
    guided, config = found.guided, found.config
    near = found.close.anchors, found.close.positives
    counts = [np.bincount(side) for side in (found.pairing.anchors, found.pairing.positives)]
    bad = {"refill": "Other texts take their place.", "drop": "Their rows are left out.", "null": "They become empty."}
    twice = "They stay, and only full duplicates leave. "
    kinds = [
        ("Likely false negatives", "Texts of other rows that the guide finds as good as the row's own positive. In a "
         "batch they count as negatives.", _APART,
         0 if guided is None else int((guided.false_negatives.counts > 0).sum()),
         _false_negatives(found, most)),
        ("Mined negatives that look like positives", "The most similar to their anchors first.",
         bad[config.bad_negatives] + " `bad_negatives` decides.", int(found.negatives.bad.sum()),
         _mined_examples(found, most)),
        ("Positives that may be wrong", "The guide ranks the positive below many candidates, or the judge rejects it: "
         "the pair is wrong, or they do not understand it.",
         "They are left out." if config.wrong_positives == "drop" else
         "They stay; `wrong_positives=drop` leaves them out.", int(found.wrong.sum()), _wrong(found, most)),
        ("Duplicate rows", "Rows with the same anchor, positive and negatives as an earlier row.",
         "They are left out.", int(found.duplicates.sum()), _duplicates(found, most)),
        ("Labels that contradict", "The same two texts are labelled as a pair and as no pair.",
         "Rows that are labelled as a pair stay.", int(found.contradicted.sum()), _contradictions(found, most)),
        ("Texts of the evaluation set", "The anchor or the positive is a text of the evaluation set, or nearly one.",
         "They are left out." if config.leaks == "drop" else "They stay; `leaks=drop` leaves them out.",
         0 if found.close.leaks is None else int((found.close.leaks.same | found.close.leaks.near).sum()),
         _leak_examples(found, most)),
        ("Near-duplicate anchors", "Different rows ask nearly the same.", _APART, len(near[0].pairs),
         _near_examples(found, near[0], 0, most)),
        ("Near-duplicate positives", "Different rows answer nearly the same.", _APART, len(near[1].pairs),
         _near_examples(found, near[1], 1, most)),
        ("Anchors that repeat", "The most frequent first.", twice + _APART, int((counts[0] > 1).sum()),
         _repeat_examples(found.pairing, 0, most)),
        ("Positives that repeat", "The most frequent first.", twice + _APART, int((counts[1] > 1).sum()),
         _repeat_examples(found.pairing, 1, most)),
    ]  # fmt: skip
    reasons, shown = found.reasons, []
    for heading, words, action, total, cells in kinds:
        examples = list(cells)
        if examples:
            given = [[name for name, mask in reasons.items() if mask[example[0].row]] for example in examples]
            shown.append(Gallery(heading, words, action, total, examples, given))
    if source.columns.kind == "embeddings":
        return shown
    texts = _texts(source, [cell for gallery in shown for example in gallery.examples for cell in example])
    return [
        gallery._replace(examples=[[cell._replace(text=next(texts)) for cell in each] for each in gallery.examples])
        for gallery in shown
    ]


def _false_negatives(found: Findings, most: int) -> Iterable[list[ShownText]]:
    if found.guided is None or most == 0:
        return
    likely, scores, pairing = found.guided.false_negatives, found.guided.scores, found.pairing
    holder = _holders(pairing.positives, pairing)
    seen: set[int] = set()
    order = np.argsort(np.where(np.isnan(likely.similarity), np.inf, -likely.similarity), kind="stable")
    for at in order[: int((likely.counts > 0).sum())].tolist():
        texts = {int(pairing.anchors[at]), int(likely.worst[at])}
        if seen & texts:
            continue
        seen |= texts
        row, other = int(pairing.rows[at]), int(pairing.rows[holder[likely.worst[at]]])
        another = ShownText("another positive", other, 1, f"{likely.similarity[at]:.3f}")
        yield [*_pair(row, of_positive=f"{scores.own[at]:.3f}"), another]
        most -= 1
        if most == 0:
            return


def _mined_examples(found: Findings, most: int) -> Iterable[list[ShownText]]:
    mined, checks, pairing = found.pairing.mined, found.negatives, found.pairing
    bad = np.flatnonzero(checks.bad)
    strength = np.where(checks.identical, 2.0, np.nan_to_num(checks.similarity))[bad]
    for at in bad[np.argsort(-strength, kind="stable")][:most].tolist():
        pair = mined.pairs[at]
        row = int(pairing.rows[pair])
        own = "" if found.guided is None else f"{found.guided.scores.own[pair]:.3f}"
        figure = "the same text as a positive" if checks.identical[at] else _figure(found, int(at))
        column, place = 2 + int(mined.columns[at]), int(mined.places[at])
        yield [*_pair(row, of_positive=own), ShownText("mined negative", row, column, figure, place)]


def _figure(found: Findings, at: int) -> str:
    """Similarity and the judge's score of a mined negative, where there are any."""
    checks = found.negatives
    parts = [] if np.isnan(checks.similarity[at]) else [f"{checks.similarity[at]:.3f}"]
    if checks.scored is not None and not np.isnan(checks.scored.negatives[at]):
        parts.append(f"judged {checks.scored.negatives[at]:.2f}")
    return ", ".join(parts)


def _pair(row: int, of_anchor: str = "", of_positive: str = "") -> list[ShownText]:
    return [ShownText("anchor", row, 0, of_anchor), ShownText("its positive", row, 1, of_positive)]


def _wrong(found: Findings, most: int) -> Iterable[list[ShownText]]:
    scored, bad = found.negatives.scored, np.flatnonzero(found.wrong)
    ranks = np.zeros(len(found.pairing)) if found.guided is None else found.guided.scores.ranks
    for at in bad[np.argsort(-ranks[bad], kind="stable")][:most].tolist():
        parts = []
        if found.guided is not None:
            parts.append(f"{found.guided.scores.own[at]:.3f}, below {ranks[at]:.0%} of the candidates")
        if scored is not None and not np.isnan(scored.positives[at]):
            parts.append(f"judged {scored.positives[at]:.2f}")
        yield _pair(int(found.pairing.rows[at]), of_positive=", ".join(parts))


def _duplicates(found: Findings, most: int) -> Iterable[list[ShownText]]:
    rows = found.pairing.rows
    for at in np.flatnonzero(found.duplicates)[:most].tolist():
        yield _pair(int(rows[at]), f"as row {int(rows[found.duplicate_of[at]]):,}")


def _contradictions(found: Findings, most: int) -> Iterable[list[ShownText]]:
    for row in np.flatnonzero(found.contradicted)[:most].tolist():
        yes = found.labels is not None and found.labels.positive[row]
        yield _pair(row, of_positive="labelled as a pair" if yes else "labelled as no pair")


def _leak_examples(found: Findings, most: int) -> Iterable[list[ShownText]]:
    leaks = found.close.leaks
    for at in [] if leaks is None else np.flatnonzero(leaks.same | leaks.near)[:most].tolist():
        word = "in the evaluation set" if leaks is not None and leaks.same[at] else "near a text of the evaluation set"
        yield _pair(int(found.pairing.rows[at]), word)


def _near_examples(found: Findings, near: NearDuplicates, side: int, most: int) -> Iterable[list[ShownText]]:
    pairing = found.pairing
    holder = _holders((pairing.anchors, pairing.positives)[side], pairing)
    role = ("anchor", "positive")[side]
    sides: tuple[IntArray, IntArray, FloatArray] = near.pairs.first, near.pairs.second, near.pairs.similarity
    for first, second, similarity, guided in zip(*(each[:most] for each in (*sides, near.by_guide)), strict=True):
        rows = [int(pairing.rows[holder[text]]) for text in (first, second)]
        rule = "by guide" if guided else "by spelling"
        figure = f"{rule}, {similarity:.3f}" if guided or found.guided is None else f"{rule}; guide {similarity:.3f}"
        yield [ShownText(role, rows[0], side), ShownText(role, rows[1], side, figure)]


def _repeat_examples(pairing: Pairing, side: int, most: int) -> Iterable[list[ShownText]]:
    texts = (pairing.anchors, pairing.positives)[side]
    counts, holder = np.bincount(texts), _holders(texts, pairing)
    order = np.argsort(-counts, kind="stable")[:most]
    for text in order[counts[order] > 1].tolist():
        yield [ShownText(("anchor", "positive")[side], int(pairing.rows[holder[text]]), side, f"{counts[text]:,} rows")]


def _holders(texts: IntArray, pairing: Pairing) -> IntArray:
    """(T,) position of the first row that holds a text."""
    out = np.zeros(pairing.n_texts, np.int64)
    out[texts[::-1]] = np.arange(len(texts))[::-1]
    return out


def _texts(source: PairsSource, cells: list[ShownText]) -> Iterator[str]:
    """The text of each cell, cut."""
    columns = source.columns.all
    rows = source.take(np.array([cell.row for cell in cells], np.int64), [column.name for column in columns])
    for cell in cells:
        value: Any = rows[cell.row][columns[cell.column].name]
        text = value[cell.place] if columns[cell.column].listed else value
        yield text if len(text) <= _MOST_LETTERS else text[:_MOST_LETTERS] + " ..."
