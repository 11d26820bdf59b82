"""The figures of an inspection, for JSON and in sentences."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pairsift._base import extras
from pairsift._base.words import counted
from pairsift.retrieval.checks import GuideScores
from pairsift.retrieval.columns import IntArray
from pairsift.retrieval.findings import BATCHES, Findings, Rate, Rates
from pairsift.retrieval.near import NearDuplicates
from pairsift.retrieval.read import PairsSource

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Summary:
    """The figures of an inspection.

    Attributes:
        source: the pairs.
        findings: of the checks.
        conflicts: pairs of rows that must not share a batch.
    """

    source: PairsSource
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
            "pairs": self.source.name, "kind": self.source.kind,
            "columns": [column.name for column in self.source.columns.all], "split": self.source.split,
            "other_splits": list(self.source.others), "search": search,
            "guide_name": None if guided is None else guided.name,
            "settings": found.config.model_dump(mode="json", exclude={"overwrite"}), "versions": _versions(),
        }  # fmt: skip


def _versions() -> dict[str, str]:
    """Versions of the packages that the figures depend on."""
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
    scored, checks = found.negatives.scored, found.negatives
    return {} if scored is None else {"judge": {
        "name": scored.name, "asked": scored.asked, "negatives": int(np.isfinite(scored.negatives).sum()),
        "bad_negatives": int(checks.judged.sum()), "relabelled": len(found.relabelled),
        "positives": int(np.isfinite(scored.positives).sum()), "wrong_positives": int(scored.wrong.sum()),
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
    if len(pairing) > 1:
        lines.append(("rows with false negatives by identical texts", f"{int((pairing.twins > 0).sum()):,}"))
    if found.close.words is not None or guided is not None:
        lines.append(("near-duplicate rows", f"{int(found.near.sum()):,}"))
    if found.close.leaks is not None:
        leaks = found.close.leaks
        lines.append(("rows in the evaluation set, or near it", f"{int((leaks.same | leaks.near).sum()):,}"))
    if guided is not None:
        lines += [
            ("rows with likely false negatives by the guide", f"{int((guided.false_negatives.counts > 0).sum()):,}"),
            ("rows the guide is unreliable for", f"{int((~guided.scores.reliable).sum()):,}"),
        ]
    if len(found.negatives.identical):
        lines.append(("bad mined negatives", f"{summary.bad_negatives:,} of {len(found.negatives.identical):,}"))
        if guided is not None:
            without = int(found.negatives.bad_without_floor.sum())
            lines.append(("bad mined negatives without the floor", f"{without:,}"))
    if found.negatives.scored is not None:
        lines += [
            ("pairs that the judge scored", f"{found.negatives.scored.asked:,}"),
            ("positives that the judge rejects", f"{int(found.negatives.scored.wrong.sum()):,}"),
            ("negatives that become positives", f"{len(found.relabelled):,}"),
        ]
    return [*lines, ("pairs that must not share a batch", f"{summary.conflicts:,}"),
            ("rows of clean.parquet", f"{summary.clean_rows:,}")]  # fmt: skip


def expectations(summary: Summary) -> list[tuple[str, list[str]]]:
    """For each rule, the false negatives that a row meets in batches of `BATCHES`; empty for a single row."""
    rates = summary.findings.rates
    if rates is None:
        return []
    rules: list[tuple[str, Rate | None]] = [("by identical texts", rates.identical)]
    if summary.findings.guided is not None:
        rules += [
            ("likely, by identical texts or by the guide", rates.likely),
            ("the same without the floor", rates.margin_alone),
        ]
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
    """Sentences on the figures and on the treatment of rows."""
    lines = [
        *_input_notes(summary), *_guide_notes(summary), *_close_notes(summary.findings), *_negative_notes(summary)
    ]  # fmt: skip
    rates = summary.findings.rates
    if rates is not None and len(summary.findings.pairing) < BATCHES[-1]:
        lines.append("Batches larger than the set stand for more data of this kind.")
    return lines


def _input_notes(summary: Summary) -> list[str]:
    found, lines = summary.findings, []
    if summary.source.others:
        others = ", ".join(summary.source.others)
        lines.append(f"Only the split {summary.source.split} was read, not {others}: `split` names another.")
    if found.labels is not None:
        labels, counts = found.labels, _labels(found) or {}
        done = "stay in clean.parquet" if found.config.labelled_negatives == "keep" else "are left out"
        lines.append(
            f"In column {labels.column!r} {labels.rule}: {counts['positive']:,} rows are pairs, {counts['negative']:,} "
            f"are not and {done}."
        )
        if counts["contradicting"]:
            lines.append(
                f"{counts['contradicting']:,} rows contradict each other: two texts are labelled as a pair and "
                "as no pair. Rows that are labelled as a pair stay; reasons in rows.parquet name them."
            )
    if summary.source.unread:
        note = unread_note(summary.source.unread)
        lines.append(note[0].upper() + note[1:] + ".")
    wrong = {
        reason: int(mask.sum()) for reason, mask in found.reasons.items()
        if reason.split()[-1] in ("missing", "empty", "finite") and mask.any()
    }  # fmt: skip
    if wrong:
        lines.append(
            "Left out: " + ", ".join(f"{reason} in {counted(count, 'row')}" for reason, count in wrong.items()) + "."
        )
    return lines


def unread_note(names: Sequence[str]) -> str:
    """Say that columns which may hold labels are not read."""
    shown = ", ".join(map(repr, names[:4])) + " and more" * (len(names) > 4)
    return f"not read: {shown}. If a column says which rows are positive pairs, name it with `label`"


def _guide_notes(summary: Summary) -> list[str]:
    guided = summary.findings.guided
    if guided is None:
        return ["Without a guide texts are compared by their spelling alone, so paraphrases are not found."]
    scores, likely, lines = guided.scores, guided.false_negatives, []
    if scores.off_because:
        lines.append(scores.off_because[0].upper() + scores.off_because[1:] + ".")
    else:
        lines.append(
            f"A candidate is a likely false negative if its similarity under {guided.name} is above {scores.floor:.3f} "
            f"and above the positive's, reduced by {scores.margin:.1%}."
        )
        if not likely.counts.any():
            most = (
                "" if np.isnan(likely.nearest)
                else f"no different text of another row is more similar than {likely.nearest:.3f}"
            )  # fmt: skip
            lines.append(f"There are no likely false negatives by the guide{': ' * bool(most)}{most}.")
        unreliable = int((~scores.reliable).sum())
        if unreliable:
            left_out = summary.findings.config.wrong_positives == "drop"
            lines.append(
                f"In {unreliable:,} of {len(scores.own):,} pairs the guide ranks the known positive below more than "
                f"{scores.cap:.0%} of the candidates. Their false negatives are unknown, and their positive may be "
                f"wrong: {'they are left out' if left_out else '`wrong_positives=drop` leaves them out'}."
            )
    if likely.cut:
        lines.append(
            f"Rows with more likely false negatives than the {summary.findings.config.neighbours} candidates that were "
            f"compared: {likely.cut:,}. Their conflicts are incomplete."
        )
    if guided.recall is not None:
        lines.append(f"The search is approximate: it finds {guided.recall:.1%} of the ten nearest.")
    return lines


def _close_notes(found: Findings) -> list[str]:
    close, lines = found.close, []
    by_spelling = f", or if they share {found.config.spelling:.0%} of their shingles" if close.words is not None else ""
    for name, near in (("Anchors", close.anchors), ("Positives", close.positives)) if found.guided is not None else ():
        if near.threshold is None:
            lines.append(f"There are too few different {name.lower()} for the guide to find near-duplicates.")
        else:
            lines.append(
                f"{name} are near-duplicates if their similarity under the guide is at least {near.threshold:.3f}"
                f"{by_spelling}."
            )
    if close.cut.any():
        lines.append(
            f"{counted(int(close.cut.sum()), 'text is', 'texts are')} longer than the guide reads. Near-duplicates of "
            "such texts must share half of the word pairs; likely false negatives are known from the beginning alone."
        )
    if close.leaks is not None:
        done = "are left out" if found.config.leaks == "drop" else "stay"
        lines.append(
            f"Rows with a text of {close.leaks.name}: {int(close.leaks.same.sum()):,}; with a near-duplicate of one: "
            f"{int(close.leaks.near.sum()):,}. They {done}."
        )
    return lines


def _judge_notes(found: Findings) -> list[str]:
    scored = found.negatives.scored
    if scored is None:
        return []
    wrong = {"drop": "are left out", "keep": "stay, and `wrong_positives=drop` leaves them out"}
    return [
        f"The judge {scored.name} scored {counted(scored.asked, 'pair')}. A negative is bad if it scores at least "
        f"{scored.floor:g} and at least {found.config.judge_share:.0%} of its row's positive.",
        f"Positives that score less than {scored.floor:g}: {int(scored.wrong.sum()):,}. They "
        f"{wrong[found.config.wrong_positives]}.",
    ]


def _negative_notes(summary: Summary) -> list[str]:
    found = summary.findings
    checks, mode = found.negatives, found.config.bad_negatives
    lines, rows = _judge_notes(found), int((found.bad > 0).sum())
    if rows:
        done = {"refill": "stay with other negatives", "drop": "are left out", "null": "stay without them"}[mode]
        lines.append(f"Rows with bad mined negatives: {rows:,}. They {done}.")
    if mode == "refill" and len(checks.refills):
        lines.append(
            f"Bad or missing negatives that are replaced: {int((checks.refills >= 0).sum()):,}, by positives of other "
            f"rows{' and texts of the corpus' if 'corpus' in found.pairing.further else ''}"
            + ("." if found.guided is None else ", similar to the anchor and below its positive.")
        )  # fmt: skip
    return lines
