"""The report of an inspection: figures for JSON, the same in sentences, and examples of each kind."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pairsift._base import extras
from pairsift.retrieval.checks import BATCHES, Findings, GuideScores, Rate, Rates
from pairsift.retrieval.index import Pairing
from pairsift.retrieval.near import NearDuplicates
from pairsift.retrieval.read import FloatArray, IntArray, PairsSource

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Longer texts are cut on the page.
_MOST_LETTERS = 300


@dataclass(frozen=True)
class Summary:
    """The figures of an inspection.

    Attributes:
        name, kind, columns: of the pairs.
        split, other_splits: the one that was read, and those that were not; None and empty where there are none.
        findings: of the checks.
        clean_rows: rows of clean.parquet.
        conflicts: pairs of rows that must not share a batch.
    """

    name: str
    kind: str
    columns: list[str]
    split: str | None
    other_splits: list[str]
    findings: Findings
    conflicts: int

    @property
    def clean_rows(self) -> int:
        """Rows of clean.parquet."""
        return int(self.findings.kept.sum()) + len(self.findings.relabelled)

    @property
    def bad_negatives(self) -> int:
        """Mined negatives that look like positives."""
        return int(self.findings.negatives.bad.sum())

    def facts(self) -> dict[str, Any]:
        """Everything that pairs.json holds."""
        found, guided = self.findings, self.findings.guided
        pairing = found.pairing
        search: dict[str, Any] = {} if guided is None else {"exact": guided.recall is None}
        if guided is not None and guided.recall is not None:
            search["recall"] = guided.recall
        return {
            "rows": len(found), "usable_rows": len(pairing),
            "reasons": {reason: int(mask.sum()) for reason, mask in found.reasons.items() if mask.any()},
            "labels": _labels(found),
            "duplicates": {
                "anchors": _repeats(pairing.anchors), "positives": _repeats(pairing.positives),
                "rows": _repeats(found.duplicate_of),
                "pairs": _repeats(pairing.code(pairing.anchors, pairing.positives)),
            },
            "near_duplicates": {
                "anchors": _near(found.close.anchors), "positives": _near(found.close.positives),
                "rows": int(found.near.sum()),
            },
            "evaluation": _leaks(found), "text_lengths": _lengths(found),
            "guide": None if guided is None else _guide(guided.scores),
            "false_negatives": None if found.rates is None else _rates(found.rates) | _counts(found),
            "mined_negatives": _mined(found), "conflicts": self.conflicts, "clean_rows": self.clean_rows,
            "pairs": self.name, "kind": self.kind, "columns": self.columns, "split": self.split,
            "other_splits": self.other_splits, "guide_name": None if guided is None else guided.name, "search": search,
            "settings": found.config.model_dump(mode="json", exclude={"overwrite"}), "versions": _versions(),
        }  # fmt: skip


def _versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    found = extras.versions("faiss-cpu", "numpy", "pyarrow", "torch", "sentence-transformers")
    return {"python": platform.python_version(), **found}


def _labels(found: Findings) -> dict[str, Any] | None:
    if found.labels is None:
        return None
    return {
        "column": found.labels.column, "rule": found.labels.rule, "positive": int(found.labels.positive.sum()),
        "negative": int(found.labels.negative.sum()), "missing": int(found.labels.missing.sum()),
        "contradicting": int(found.contradicted.sum()),
    }  # fmt: skip


def _repeats(values: IntArray) -> dict[str, int]:
    """Different values, rows beyond the first of each, and the most rows of one value."""
    counts = np.unique(values, return_counts=True)[1]
    return {"different": len(counts), "repeats": len(values) - len(counts), "most": int(counts.max(initial=0))}


def _near(near: NearDuplicates) -> dict[str, Any]:
    texts = np.union1d(near.pairs.first, near.pairs.second)
    return {"threshold": near.threshold, "pairs": len(near.pairs), "texts": len(texts)}


def _leaks(found: Findings) -> dict[str, Any] | None:
    leaks = found.close.leaks
    return None if leaks is None else {
        "against": leaks.name, "texts": leaks.texts, "same_rows": int(leaks.same.sum()),
        "near_rows": int(leaks.near.sum()), "near_pairs": len(leaks.pairs),
    }  # fmt: skip


def _lengths(found: Findings) -> dict[str, Any] | None:
    """Quantiles of the texts' numbers of words, and how many rows are longer than the guide reads."""
    words, pairing = found.close.words, found.pairing
    if words is None:
        return None
    sides = {"anchors": np.unique(pairing.anchors), "positives": pairing.candidates}
    out: dict[str, Any] = {
        name: dict(zip(map(str, _QUANTILES), np.quantile(words[texts], _QUANTILES).tolist(), strict=True))
        for name, texts in sides.items()
    }
    return out | {"longer_than_the_guide_reads": int(found.close.cut.sum())}


def _guide(scores: GuideScores) -> dict[str, Any]:
    quantiles = np.quantile(scores.own, _QUANTILES).round(4).tolist()
    return {
        "margin": scores.margin, "floor": scores.floor,
        "similarity_of_positives": dict(zip(map(str, _QUANTILES), quantiles, strict=True)),
        "median_rank": float(np.median(scores.ranks)), "cap": scores.cap,
        "unreliable_rows": int((~scores.reliable).sum()), "off_because": scores.off_because,
    }  # fmt: skip


def _rates(rates: Rates) -> dict[str, Any]:
    out: dict[str, Any] = {"sample_rows": rates.sample}
    for name, rate in (("identical", rates.identical), ("likely", rates.likely), ("margin_alone", rates.margin_alone)):
        out[name] = None if rate is None else {
            "rate": rate.mean, "half_width": rate.half_width,
            "expected": {
                str(batch): dict(zip(("mean", "low", "high"), rate.expected(batch), strict=True)) for batch in BATCHES
            },
        }  # fmt: skip
    return out


def _counts(found: Findings) -> dict[str, Any]:
    if found.guided is None:
        return {}
    likely = found.guided.false_negatives
    return {
        "rows_with_some": int((likely.counts > 0).sum()), "rows_cut_at_neighbours": likely.cut,
        "conflicts_left_out": likely.left_out,
    }  # fmt: skip


def _mined(found: Findings) -> dict[str, Any] | None:
    checks = found.negatives
    if not len(checks.identical):
        return None
    return {
        "negatives": len(checks.identical), "identical": int(checks.identical.sum()),
        "likely": int(checks.likely.sum()), "margin_alone": int(checks.alone.sum()), "rows": int((found.bad > 0).sum()),
        "refilled": int((checks.refills >= 0).sum()), "bad": int(checks.bad.sum()),
        "bad_without_floor": int(checks.bad_without_floor.sum()),
    } | _judge(found)  # fmt: skip


def _judge(found: Findings) -> dict[str, Any]:
    judgement, checks = found.negatives.judgement, found.negatives
    return {} if judgement is None else {"judge": {
        "name": judgement.name, "asked": judgement.asked, "negatives": int(np.isfinite(judgement.negatives).sum()),
        "bad_negatives": int(checks.judged.sum()), "relabelled": len(found.relabelled),
        "positives": int(np.isfinite(judgement.positives).sum()), "wrong_positives": int(judgement.wrong.sum()),
    }}  # fmt: skip


# Sentences


def numbers(summary: Summary) -> list[tuple[str, str]]:
    """Name and value of the main figures."""
    found, guided, pairing = summary.findings, summary.findings.guided, summary.findings.pairing
    lines = [("rows", f"{len(found):,}"), ("usable pairs", f"{len(pairing):,}")]
    if found.labels is not None:
        lines.append(("labelled as no pair", f"{int(found.labels.negative.sum()):,}"))
    lines += [
        ("duplicate rows", f"{int(found.duplicates.sum()):,}"),
        ("anchors that repeat one", f"{_repeats(pairing.anchors)['repeats']:,}"),
        ("positives that repeat one", f"{_repeats(pairing.positives)['repeats']:,}"),
    ]
    if found.close.words is not None or guided is not None:
        lines.append(("near-duplicate rows", f"{int(found.near.sum()):,}"))
    if found.close.leaks is not None:
        leaks = found.close.leaks
        lines.append(("rows in the evaluation set, or near it", f"{int((leaks.same | leaks.near).sum()):,}"))
    if guided is not None:
        lines += [
            ("rows with likely false negatives", f"{int((guided.false_negatives.counts > 0).sum()):,}"),
            ("rows the guide is unreliable for", f"{int((~guided.scores.reliable).sum()):,}"),
        ]
    if len(found.negatives.identical):
        lines.append(("bad mined negatives", f"{summary.bad_negatives:,} of {len(found.negatives.identical):,}"))
        if guided is not None:
            without = int(found.negatives.bad_without_floor.sum())
            lines.append(("bad mined negatives without the floor", f"{without:,}"))
    if found.negatives.judgement is not None:
        lines += [
            ("pairs that the judge scored", f"{found.negatives.judgement.asked:,}"),
            ("positives that the judge calls none", f"{int(found.negatives.judgement.wrong.sum()):,}"),
            ("negatives that become positives", f"{len(found.relabelled):,}"),
        ]
    return [*lines, ("conflicts", f"{summary.conflicts:,}"), ("rows of clean.parquet", f"{summary.clean_rows:,}")]


def expectations(summary: Summary) -> list[tuple[str, list[str]]]:
    """For each rule, the false negatives that a row meets in batches of `BATCHES`; empty for a single row."""
    rates = summary.findings.rates
    if rates is None:
        return []
    rules: list[tuple[str, Rate | None]] = [("by identity of texts", rates.identical)]
    if summary.findings.guided is not None:
        rules += [("likely, by identity or guide", rates.likely), ("the same without the floor", rates.margin_alone)]
    return [
        (words, [_expected(*rate.expected(batch)) for batch in BATCHES]) for words, rate in rules if rate is not None
    ]


def _expected(mean: float, low: float, high: float) -> str:
    """Mean and half of the interval, to three digits."""
    return _short(mean) + (f" ± {_short(high - mean)}" if high > mean else "")


def _short(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 0.001 else f"{value:.0e}"


def text_lengths(found: Findings) -> list[tuple[str, list[str]]]:
    """Quantiles of the number of words of anchors and of positives; empty for embeddings."""
    facts = _lengths(found) or {}
    return [(name, [f"{value:,.0f}" for value in facts[name].values()]) for name in ("anchors", "positives") if facts]


def quantile_names() -> list[str]:
    """The quantiles of `text_lengths`, in words."""
    return [f"{each:.0%}" for each in _QUANTILES]


def notes(summary: Summary) -> list[str]:
    """How to read the figures, and what was done with the rows."""
    lines = [
        *_input_notes(summary), *_guide_notes(summary), *_close_notes(summary.findings), *_negative_notes(summary)
    ]  # fmt: skip
    rates = summary.findings.rates
    if rates is not None and len(summary.findings.pairing) < BATCHES[-1]:
        lines.append("Batches larger than the set stand for more data of this kind.")
    return lines


def _input_notes(summary: Summary) -> list[str]:
    found, lines = summary.findings, []
    if summary.other_splits:
        others = ", ".join(summary.other_splits)
        lines.append(f"Only the split {summary.split} was read, not {others}: `split` names another.")
    if found.labels is not None:
        labels, counts = found.labels, _labels(found) or {}
        done = "stay in clean.parquet" if found.config.labelled_negatives == "keep" else "are left out"
        lines.append(
            f"In column {labels.column!r} {labels.rule}: {counts['positive']:,} rows are pairs, {counts['negative']:,} "
            f"are none and {done}."
        )
        if counts["contradicting"]:
            lines.append(
                f"{counts['contradicting']:,} rows contradict each other: the same two texts are labelled as a pair "
                "and as none. Rows that are labelled as a pair stay; reasons in rows.parquet name them."
            )
    wrong = {
        reason: int(mask.sum()) for reason, mask in found.reasons.items()
        if reason.split()[-1] in ("missing", "empty", "finite") and mask.any()
    }  # fmt: skip
    if wrong:
        lines.append("Left out: " + ", ".join(f"{reason} in {count:,} rows" for reason, count in wrong.items()) + ".")
    return lines


def _guide_notes(summary: Summary) -> list[str]:
    guided = summary.findings.guided
    if guided is None:
        return [
            "Without a guide texts are compared by their spelling alone: texts that mean the same in other words are "
            "not found."
        ]
    scores, likely, lines = guided.scores, guided.false_negatives, []
    if scores.off_because:
        lines.append(scores.off_because[0].upper() + scores.off_because[1:] + ".")
    else:
        lines.append(
            f"A candidate is a likely false negative where its similarity under {guided.name} exceeds "
            f"{scores.floor:.3f} and that of the row's own positive less {scores.margin:.1%} of it."
        )
        if not likely.counts.any():
            reached = (
                ""
                if np.isnan(likely.nearest)
                else f": no text of another row is more similar than {likely.nearest:.3f}"
            )
            lines.append(f"There are no likely false negatives{reached}.")
        unreliable = int((~scores.reliable).sum())
        if unreliable:
            left_out = summary.findings.config.wrong_positives == "drop"
            lines.append(
                f"The guide ranks the known positive below more than {scores.cap:.0%} of the candidates in "
                f"{unreliable:,} of {len(scores.own):,} pairs. Their false negatives are not known, and their positive "
                f"may be wrong: {'they are left out' if left_out else '`wrong_positives=drop` leaves them out'}."
            )
    if likely.cut:
        lines.append(
            f"{likely.cut:,} rows have more likely false negatives than the {summary.findings.config.neighbours} "
            "candidates that were compared: the conflicts do not hold them all."
        )
    if guided.recall is not None:
        lines.append(f"The search is approximate: it finds {guided.recall:.1%} of the ten nearest.")
    return lines


def _close_notes(found: Findings) -> list[str]:
    close, lines = found.close, []
    by_spelling = f", or share {found.config.spelling:.0%} of their shingles" if close.words is not None else ""
    for name, near in (("Anchors", close.anchors), ("Positives", close.positives)) if found.guided is not None else ():
        if near.threshold is None:
            lines.append(f"There are too few different {name.lower()} to tell by the guide which are near-duplicates.")
        else:
            lines.append(
                f"{name} are near-duplicates from a similarity of {near.threshold:.3f} under the guide on{by_spelling}."
            )
    if close.cut.any():
        lines.append(
            f"{int(close.cut.sum()):,} texts are longer than the guide reads. Their near-duplicates must share half of "
            "their word pairs, and their likely false negatives are known from their beginning alone."
        )
    if close.leaks is not None:
        done = "are left out" if found.config.leaks == "drop" else "stay"
        lines.append(
            f"{int(close.leaks.same.sum()):,} rows hold a text of {close.leaks.name}, and "
            f"{int(close.leaks.near.sum()):,} one that is nearly the same: they {done}."
        )
    return lines


def _judge_notes(found: Findings) -> list[str]:
    judgement = found.negatives.judgement
    if judgement is None:
        return []
    wrong = {"drop": "are left out", "keep": "stay, and `wrong_positives=drop` leaves them out"}
    return [
        f"The judge {judgement.name} scored {judgement.asked:,} pairs. A negative is bad from a score of "
        f"{judgement.floor:g} on that reaches {found.config.judge_share:.0%} of its row's positive.",
        f"{int(judgement.wrong.sum()):,} positives score less than {judgement.floor:g}: they "
        f"{wrong[found.config.wrong_positives]}.",
    ]


def _negative_notes(summary: Summary) -> list[str]:
    found = summary.findings
    checks, mode = found.negatives, found.config.bad_negatives
    lines, rows = _judge_notes(found), int((found.bad > 0).sum())
    if rows:
        done = {"refill": "stay with other negatives", "drop": "are left out", "null": "stay without them"}[mode]
        lines.append(f"{rows:,} rows have bad mined negatives and {done}.")
    if mode == "refill" and len(checks.refills):
        lines.append(
            f"{int((checks.refills >= 0).sum()):,} negatives that were bad or missing are replaced by positives of "
            f"other rows{'' if found.config.corpus is None else ' and texts of the corpus'}"
            + ("." if found.guided is None else ", similar to the anchor and below its positive.")
        )  # fmt: skip
    return lines


# Examples


class Line(NamedTuple):
    """A text as the page shows it: its role, its row, the text (None for embeddings), and a figure or none."""

    role: str
    row: int
    text: str | None
    figure: str = ""


class Gallery(NamedTuple):
    """Examples of one kind, each of some lines, of `total` in all, and what happens to them.

    `reasons` are those of the first row of each example.
    """

    heading: str
    words: str
    action: str
    total: int
    examples: list[list[Line]]
    reasons: list[list[str]]


class _Cell(NamedTuple):
    """A text by the column of its role and a row that holds it; `place` is that in a list of mined negatives."""

    role: str
    row: int
    column: int
    figure: str = ""
    place: int = 0


_APART = "`DistinctBatchSampler` keeps them out of one batch."


def galleries(source: PairsSource, found: Findings, most: int) -> list[Gallery]:
    """At most so many examples of each kind, the worst first; kinds without any are left out."""
    guided, config = found.guided, found.config
    near = found.close.anchors, found.close.positives
    counts = [np.bincount(side) for side in (found.pairing.anchors, found.pairing.positives)]
    bad = {"refill": "Other texts take their place.", "drop": "Their rows are left out.", "null": "They become empty."}
    twice = "They stay, and only full duplicates leave. "
    kinds = [
        ("Likely false negatives", "Texts of other rows that the guide finds as good as the row's own positive. In a "
         "batch they count as wrong.", _APART, 0 if guided is None else int((guided.false_negatives.counts > 0).sum()),
         _false_negatives(found, most)),
        ("Mined negatives that look like positives", "The most similar to their anchors first.",
         bad[config.bad_negatives] + " `bad_negatives` decides.", int(found.negatives.bad.sum()),
         _mined_examples(found, most)),
        ("Positives that may be wrong", "The guide ranks the positive below many candidates, or the judge calls it "
         "none: the pair is wrong, or they do not understand it.",
         "They are left out." if config.wrong_positives == "drop" else
         "They stay; `wrong_positives=drop` leaves them out.", int(found.wrong.sum()), _wrong(found, most)),
        ("Duplicate rows", "Rows with the same anchor, positive and negatives as an earlier row.",
         "They are left out.", int(found.duplicates.sum()), _duplicates(found, most)),
        ("Labels that contradict", "The same two texts are labelled as a pair and as none.",
         "Rows that are labelled as a pair stay.", int(found.contradicted.sum()), _contradictions(found, most)),
        ("Texts of the evaluation set", "The anchor or the positive is a text that the model is tested on, or nearly.",
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
    reasons = found.reasons
    listed = [(heading, words, action, total, list(cells)) for heading, words, action, total, cells in kinds]
    texts = _texts(source, [cell for *_, examples in listed for example in examples for cell in example])
    return [
        Gallery(heading, words, action, total, [
            [Line(cell.role, cell.row, texts.get((cell.column, cell.row, cell.place)), cell.figure) for cell in example]
            for example in examples
        ], [[name for name, mask in reasons.items() if mask[example[0].row]] for example in examples])
        for heading, words, action, total, examples in listed if examples
    ]  # fmt: skip


def _false_negatives(found: Findings, most: int) -> Iterable[list[_Cell]]:
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
        yield [
            _Cell("anchor", row, 0), _Cell("its positive", row, 1, f"{scores.own[at]:.3f}"),
            _Cell("positive of another row", other, 1, f"{likely.similarity[at]:.3f}"),
        ]  # fmt: skip
        most -= 1
        if most == 0:
            return


def _mined_examples(found: Findings, most: int) -> Iterable[list[_Cell]]:
    mined, checks, pairing = found.pairing.mined, found.negatives, found.pairing
    bad = np.flatnonzero(checks.bad)
    strength = np.where(checks.identical, 2.0, np.nan_to_num(checks.similarity))[bad]
    for at in bad[np.argsort(-strength, kind="stable")][:most].tolist():
        pair = mined.pairs[at]
        row = int(pairing.rows[pair])
        own = "" if found.guided is None else f"{found.guided.scores.own[pair]:.3f}"
        figure = "the same text as a positive" if checks.identical[at] else _figure(found, int(at))
        yield [
            _Cell("anchor", row, 0), _Cell("its positive", row, 1, own),
            _Cell("mined negative", row, 2 + int(mined.columns[at]), figure, int(mined.places[at])),
        ]  # fmt: skip


def _figure(found: Findings, at: int) -> str:
    """Similarity and the judge's score of a mined negative, where there are any."""
    checks = found.negatives
    parts = [] if np.isnan(checks.similarity[at]) else [f"{checks.similarity[at]:.3f}"]
    if checks.judgement is not None and not np.isnan(checks.judgement.negatives[at]):
        parts.append(f"judged {checks.judgement.negatives[at]:.2f}")
    return ", ".join(parts)


def _wrong(found: Findings, most: int) -> Iterable[list[_Cell]]:
    judgement, bad = found.negatives.judgement, np.flatnonzero(found.wrong)
    ranks = np.zeros(len(found.pairing)) if found.guided is None else found.guided.scores.ranks
    for at in bad[np.argsort(-ranks[bad], kind="stable")][:most].tolist():
        row, parts = int(found.pairing.rows[at]), []
        if found.guided is not None:
            parts.append(f"{found.guided.scores.own[at]:.3f}, below {ranks[at]:.0%} of the candidates")
        if judgement is not None and not np.isnan(judgement.positives[at]):
            parts.append(f"judged {judgement.positives[at]:.2f}")
        figure = ", ".join(parts)
        yield [_Cell("anchor", row, 0), _Cell("its positive", row, 1, figure)]


def _duplicates(found: Findings, most: int) -> Iterable[list[_Cell]]:
    rows = found.pairing.rows
    for at in np.flatnonzero(found.duplicates)[:most].tolist():
        row, first = int(rows[at]), int(rows[found.duplicate_of[at]])
        yield [_Cell("anchor", row, 0, f"as row {first:,}"), _Cell("its positive", row, 1)]


def _contradictions(found: Findings, most: int) -> Iterable[list[_Cell]]:
    if found.labels is None:
        return
    for row in np.flatnonzero(found.contradicted)[:most].tolist():
        label = "labelled as a pair" if found.labels.positive[row] else "labelled as none"
        yield [_Cell("anchor", row, 0), _Cell("its positive", row, 1, label)]


def _leak_examples(found: Findings, most: int) -> Iterable[list[_Cell]]:
    leaks, pairing = found.close.leaks, found.pairing
    if leaks is None:
        return
    for at in np.flatnonzero(leaks.same | leaks.near)[:most].tolist():
        word = "in the evaluation set" if leaks.same[at] else "near a text of the evaluation set"
        row = int(pairing.rows[at])
        yield [_Cell("anchor", row, 0, word), _Cell("its positive", row, 1)]


def _near_examples(found: Findings, near: NearDuplicates, side: int, most: int) -> Iterable[list[_Cell]]:
    pairing = found.pairing
    holder = _holders((pairing.anchors, pairing.positives)[side], pairing)
    role = ("anchor", "positive")[side]
    sides: tuple[IntArray, IntArray, FloatArray] = near.pairs.first, near.pairs.second, near.pairs.similarity
    for first, second, similarity in zip(*(each[:most] for each in sides), strict=True):
        rows = [int(pairing.rows[holder[text]]) for text in (first, second)]
        yield [_Cell(role, rows[0], side), _Cell(role, rows[1], side, f"{similarity:.3f}")]


def _repeat_examples(pairing: Pairing, side: int, most: int) -> Iterable[list[_Cell]]:
    texts = (pairing.anchors, pairing.positives)[side]
    counts, holder = np.bincount(texts), _holders(texts, pairing)
    order = np.argsort(-counts, kind="stable")[:most]
    for text in order[counts[order] > 1].tolist():
        yield [_Cell(("anchor", "positive")[side], int(pairing.rows[holder[text]]), side, f"{counts[text]:,} rows")]


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
        cut = value if len(value) <= _MOST_LETTERS else value[:_MOST_LETTERS] + " ..."
        out[cell.column, cell.row, cell.place] = cut
    return out
