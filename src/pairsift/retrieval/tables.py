"""The tables of an inspection: every row with its reasons, and texts that must not share a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pairsift.retrieval.cells import NO_KEY, IntArray
from pairsift.retrieval.conflicts import Conflicts
from pairsift.retrieval.verdict import Evidence, Verdict

_LIKELY, _NEAR_ANCHORS, _NEAR_POSITIVES = "likely false negative", "near-duplicate anchors", "near-duplicate positives"


def rows_table(evidence: Evidence, verdict: Verdict) -> pa.Table:
    """Every row of the input, see `InspectedPairs.rows`."""
    pairing, n = evidence.pairing, len(evidence.anchors.keys)
    kept = verdict.spread(verdict.kept, False)
    rows: dict[str, Any] = {
        "row": np.arange(n), "kept": kept, "clean_row": _or_null(np.where(kept, np.cumsum(kept) - 1, -1)),
        "reasons": _reasons(verdict, n),
        "anchor_key": _or_null(evidence.anchors.keys, NO_KEY),
        "positive_key": _or_null(evidence.positives.keys, NO_KEY),
        "duplicate_of": _row_of(verdict, evidence, verdict.duplicate_of, verdict.duplicates),
        "near_duplicate_of": _row_of(verdict, evidence, verdict.near_of, verdict.near),
    }  # fmt: skip
    if len(pairing.mined.pairs):
        rows["bad_negatives"] = verdict.spread(verdict.bad, 0)
        rows["negative_keys"] = _negative_keys(evidence, n)
    if evidence.judged is not None:
        rows["similarity"] = _or_null(verdict.spread(evidence.judged.own, np.nan))
        rows["rank"] = _or_null(verdict.spread(evidence.judged.ranks.astype(np.float32), np.nan))
        rows["reliable"] = verdict.spread(evidence.judged.reliable, False)
    if evidence.found is not None:
        worst = evidence.found.worst
        holder = np.full(pairing.n_texts, -1)
        holder[pairing.positives[::-1]] = pairing.rows[::-1]
        rows["false_negatives"] = verdict.spread(evidence.found.counts, 0)
        rows["worst_row"] = _or_null(verdict.spread(np.where(worst < 0, -1, holder[worst]), -1))
        rows["worst_similarity"] = _or_null(verdict.spread(evidence.found.similarity, np.nan))
    return pa.table(rows)


def conflicts_table(evidence: Evidence, verdict: Verdict) -> pa.Table:
    """Pairs of kept rows that must not share a batch, see `InspectedPairs.conflicts`."""
    pairing = evidence.pairing
    first_rows = [_first_rows(texts, verdict.kept, pairing.n_texts) for texts in (pairing.anchors, pairing.positives)]
    sides = {_LIKELY: (0, 1), _NEAR_ANCHORS: (0, 0), _NEAR_POSITIVES: (1, 1)}
    clean = np.cumsum(verdict.kept) - 1
    parts = []
    for number, (reason, conflicts) in enumerate(_all_conflicts(evidence).items()):
        first, second = (first_rows[side][texts] for side, texts in zip(
            sides[reason], (conflicts.first, conflicts.second), strict=True
        ))  # fmt: skip
        both = (first >= 0) & (second >= 0) & (first != second)
        first, second = first[both], second[both]
        parts.append({
            "row": pairing.rows[first], "other": pairing.rows[second],
            "similarity": conflicts.similarity[both], "reason": np.full(len(first), number, np.int8),
            "clean_row": clean[first], "clean_other": clean[second],
            "key": pairing.keys[conflicts.first[both]], "other_key": pairing.keys[conflicts.second[both]],
        })  # fmt: skip
    empty = {name: np.zeros(0, np.int64) for name in ("row", "other", "clean_row", "clean_other", "key", "other_key")}
    columns = {
        name: np.concatenate([part[name] for part in parts]) for name in parts[0]
    } if parts else empty | {"similarity": np.zeros(0, np.float32), "reason": np.zeros(0, np.int8)}  # fmt: skip
    names = [*_all_conflicts(evidence)] or [_LIKELY]
    reason = pa.DictionaryArray.from_arrays(pa.array(columns.pop("reason")), pa.array(names))
    return pa.table(columns | {"reason": reason})


def _all_conflicts(evidence: Evidence) -> dict[str, Conflicts]:
    found: dict[str, Conflicts] = {}
    if evidence.found is not None:
        found[_LIKELY] = evidence.found.conflicts
    for name, near in ((_NEAR_ANCHORS, evidence.near_anchors), (_NEAR_POSITIVES, evidence.near_positives)):
        if near is not None:
            found[name] = near.pairs
    return found


def _first_rows(texts: IntArray, kept: NDArray[np.bool_], n_texts: int) -> IntArray:
    """(T,) position of the first kept row that holds a text, -1 where none does."""
    out = np.full(n_texts, -1)
    places = np.flatnonzero(kept)[::-1]
    out[texts[places]] = places
    return out


def _reasons(verdict: Verdict, n: int) -> pa.Array:
    matrix = np.stack(list(verdict.reasons.values()), axis=1)
    offsets = np.concatenate([[0], np.cumsum(matrix.sum(axis=1))]).astype(np.int32)
    words = pa.DictionaryArray.from_arrays(
        pa.array(np.nonzero(matrix)[1].astype(np.int8)), pa.array(list(verdict.reasons))
    )
    return pa.ListArray.from_arrays(pa.array(offsets), words)


def _negative_keys(evidence: Evidence, n: int) -> pa.Array:
    """Keys of the negatives of every row that are not bad."""
    mined = evidence.pairing.mined
    good = np.flatnonzero(~evidence.suspects.bad)
    good = good[np.argsort(mined.pairs[good], kind="stable")]
    counts = np.bincount(evidence.pairing.rows[mined.pairs[good]], minlength=n)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(evidence.pairing.keys[mined.texts[good]]))


def _row_of(verdict: Verdict, evidence: Evidence, positions: IntArray, there: NDArray[np.bool_]) -> pa.Array:
    return _or_null(verdict.spread(np.where(there, evidence.pairing.rows[positions], -1), -1))


def _or_null(values: NDArray[Any], missing: int = -1) -> pa.Array:
    absent = np.isnan(values) if values.dtype.kind == "f" else values == missing
    return pa.array(values, mask=absent)
