"""The worst of each kind, with their texts, to look at."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from pairsift.retrieval.cells import IntArray
from pairsift.retrieval.near import Near
from pairsift.retrieval.pairing import Pairing
from pairsift.retrieval.source import PairsSource
from pairsift.retrieval.verdict import Evidence

# Longer texts are cut on the page.
_MOST_LETTERS = 400


class Line(NamedTuple):
    """A text as the page shows it: what it is, row, text (None for embeddings), and a figure or none."""

    role: str
    row: int
    text: str | None
    figure: str = ""


class Gallery(NamedTuple):
    """Examples of one kind, each of some lines."""

    heading: str
    words: str
    examples: list[list[Line]]


class _Cell(NamedTuple):
    """A text by the column of its role and a row that holds it; `place` is that in a list of mined negatives."""

    role: str
    row: int
    column: int
    figure: str = ""
    place: int = 0


def galleries(source: PairsSource, evidence: Evidence, most: int) -> list[Gallery]:
    """At most so many examples of each kind; kinds without any are left out."""
    kinds = [
        ("Likely false negatives", "Texts of other rows that the guide holds for as good as the row's own positive, "
         "the most similar first. In a batch they count as wrong.", _false_negatives(evidence, most)),
        ("Mined negatives that look like positives", "The most similar to their anchors first; they are taken out of "
         "clean.parquet.", _mined(evidence, most)),
        ("Near-duplicate anchors", "Different rows ask nearly the same.", _near(evidence, 0, most)),
        ("Near-duplicate positives", "Different rows answer nearly the same.", _near(evidence, 1, most)),
        ("Anchors that repeat", "The most frequent first.", _repeats(evidence.pairing, 0, most)),
        ("Positives that repeat", "The most frequent first.", _repeats(evidence.pairing, 1, most)),
        ("Pairs that the guide does not understand", "Their positive is ranked below many candidates: a wrong pair, or "
         "one that this guide cannot judge.", _unreliable(evidence, most)),
    ]  # fmt: skip
    found = [(heading, words, list(cells)) for heading, words, cells in kinds]
    texts = _texts(source, [cell for _, _, examples in found for example in examples for cell in example])
    return [
        Gallery(heading, words, [
            [Line(cell.role, cell.row, texts.get((cell.column, cell.row, cell.place)), cell.figure) for cell in example]
            for example in examples
        ])
        for heading, words, examples in found if examples
    ]  # fmt: skip


def _false_negatives(evidence: Evidence, most: int) -> Iterable[list[_Cell]]:
    if evidence.found is None or evidence.judged is None:
        return
    found, pairing = evidence.found, evidence.pairing
    holder = _holders(pairing.positives, pairing)
    seen: set[int] = set()
    order = np.argsort(np.where(np.isnan(found.similarity), np.inf, -found.similarity), kind="stable")
    for at in order[: int((found.counts > 0).sum())].tolist():
        texts = {int(pairing.anchors[at]), int(found.worst[at])}
        if seen & texts:
            continue
        if most == 0:
            return
        seen |= texts
        most -= 1
        row, other = int(pairing.rows[at]), int(pairing.rows[holder[found.worst[at]]])
        yield [
            _Cell("anchor", row, 0), _Cell("its positive", row, 1, f"{evidence.judged.own[at]:.3f}"),
            _Cell("candidate", other, 1, f"{found.similarity[at]:.3f}"),
        ]  # fmt: skip


def _mined(evidence: Evidence, most: int) -> Iterable[list[_Cell]]:
    mined, suspects, pairing = evidence.pairing.mined, evidence.suspects, evidence.pairing
    bad = np.flatnonzero(suspects.bad)
    strength = np.where(suspects.identical, 2.0, np.nan_to_num(suspects.similarity))[bad]
    for at in bad[np.argsort(-strength, kind="stable")][:most].tolist():
        pair = mined.pairs[at]
        row = int(pairing.rows[pair])
        own = "" if evidence.judged is None else f"{evidence.judged.own[pair]:.3f}"
        figure = "the same text as a positive" if suspects.identical[at] else f"{suspects.similarity[at]:.3f}"
        yield [
            _Cell("anchor", row, 0), _Cell("its positive", row, 1, own),
            _Cell("mined negative", row, 2 + int(mined.columns[at]), figure, int(mined.places[at])),
        ]  # fmt: skip


def _near(evidence: Evidence, side: int, most: int) -> Iterable[list[_Cell]]:
    near: Near | None = (evidence.near_anchors, evidence.near_positives)[side]
    if near is None:
        return
    pairing = evidence.pairing
    holder = _holders((pairing.anchors, pairing.positives)[side], pairing)
    role = ("anchor", "positive")[side]
    for first, second, similarity in zip(*(each[:most] for each in (
        near.pairs.first, near.pairs.second, near.pairs.similarity
    )), strict=True):  # fmt: skip
        rows = [int(pairing.rows[holder[text]]) for text in (first, second)]
        yield [_Cell(role, rows[0], side), _Cell(role, rows[1], side, f"{similarity:.3f}")]


def _repeats(pairing: Pairing, side: int, most: int) -> Iterable[list[_Cell]]:
    texts = (pairing.anchors, pairing.positives)[side]
    counts, holder = np.bincount(texts), _holders(texts, pairing)
    order = np.argsort(-counts, kind="stable")[:most]
    for text in order[counts[order] > 1].tolist():
        yield [_Cell(("anchor", "positive")[side], int(pairing.rows[holder[text]]), side, f"{counts[text]:,} rows")]


def _unreliable(evidence: Evidence, most: int) -> Iterable[list[_Cell]]:
    judged = evidence.judged
    if judged is None:
        return
    bad = np.flatnonzero(judged.ranks > judged.cap)
    for at in bad[np.argsort(-judged.ranks[bad], kind="stable")][:most].tolist():
        row = int(evidence.pairing.rows[at])
        figure = f"{judged.own[at]:.3f}, below {judged.ranks[at]:.0%} of the candidates"
        yield [_Cell("anchor", row, 0), _Cell("its positive", row, 1, figure)]


def _holders(texts: IntArray, pairing: Pairing) -> IntArray:
    """(T,) position of the first row that holds a text."""
    out = np.zeros(pairing.n_texts, np.int64)
    out[texts[::-1]] = np.arange(len(texts))[::-1]
    return out


def _texts(source: PairsSource, cells: list[_Cell]) -> dict[tuple[int, int, int], str]:
    """The text of each cell, cut; nothing for embeddings."""
    if source.columns.kind == "embeddings":
        return {}
    columns = source.columns.all
    rows = source.take(np.array([cell.row for cell in cells], np.int64), [column.name for column in columns])
    out = {}
    for cell in cells:
        value: Any = rows[cell.row][columns[cell.column].name]
        if columns[cell.column].listed:
            value = value[cell.place]
        out[cell.column, cell.row, cell.place] = (
            value if len(value) <= _MOST_LETTERS else value[:_MOST_LETTERS] + " ..."
        )
    return out
