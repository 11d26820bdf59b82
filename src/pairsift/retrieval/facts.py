"""The figures of an inspection."""

from __future__ import annotations

import platform
from typing import Any

import numpy as np

from pairsift._base import extras
from pairsift.retrieval.cells import IntArray
from pairsift.retrieval.judging import Judged
from pairsift.retrieval.near import Near
from pairsift.retrieval.pairing import Pairing
from pairsift.retrieval.rates import Rates
from pairsift.retrieval.verdict import Evidence, Verdict

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def collect(evidence: Evidence, verdict: Verdict, rates: Rates | None, conflicts: int) -> dict[str, Any]:
    """What pairs.json says, but for names, settings and versions."""
    pairing = evidence.pairing
    return {
        "rows": len(evidence.anchors.keys), "usable_rows": len(pairing),
        "reasons": {reason: int(mask.sum()) for reason, mask in verdict.reasons.items() if mask.any()},
        "duplicates": {
            "anchors": _repeats(pairing.anchors), "positives": _repeats(pairing.positives),
            "rows": _repeats(verdict.duplicate_of), "pairs": _repeats(pairing.code(pairing.anchors, pairing.positives)),
        },
        "near_duplicates": _near(evidence, verdict),
        "guide": None if evidence.judged is None else _guide(pairing, evidence.judged),
        "false_negatives": None if rates is None else _false_negatives(evidence, rates),
        "mined_negatives": _mined(evidence, verdict),
        "conflicts": conflicts, "clean_rows": int(verdict.kept.sum()),
    }  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    found = extras.versions("faiss-cpu", "numpy", "pyarrow", "torch", "sentence-transformers")
    return {"python": platform.python_version(), **found}


def _repeats(values: IntArray) -> dict[str, int]:
    """Different values, rows beyond the first of each, and the most rows of one value."""
    counts = np.unique(values, return_counts=True)[1]
    return {"different": len(counts), "repeats": len(values) - len(counts), "most": int(counts.max(initial=0))}


def _near(evidence: Evidence, verdict: Verdict) -> dict[str, Any] | None:
    sides = {"anchors": evidence.near_anchors, "positives": evidence.near_positives}
    known: dict[str, Near] = {name: near for name, near in sides.items() if near is not None}
    if not known:
        return None
    return {
        name: {"threshold": near.threshold, "pairs": len(near.pairs), "texts": _texts_in(near)}
        for name, near in known.items()
    } | {"rows": int(verdict.near.sum())}


def _texts_in(near: Near) -> int:
    return len(np.union1d(near.pairs.first, near.pairs.second))


def _guide(pairing: Pairing, judged: Judged) -> dict[str, Any]:
    return {
        "margin": judged.margin, "floor": judged.floor,
        "similarity_of_positives": dict(
            zip(map(str, _QUANTILES), np.quantile(judged.own, _QUANTILES).round(4).tolist(), strict=True)
        ),
        "median_rank": float(np.median(judged.ranks)), "cap": judged.cap,
        "unreliable_rows": int((~judged.reliable).sum()), "off_because": judged.off_because,
    }  # fmt: skip


def _false_negatives(evidence: Evidence, rates: Rates) -> dict[str, Any]:
    out = rates.facts()
    if evidence.found is not None:
        out |= {
            "rows_with_some": int((evidence.found.counts > 0).sum()), "rows_cut_at_neighbours": evidence.found.cut,
            "conflicts_left_out": evidence.found.left_out,
        }  # fmt: skip
    return out


def _mined(evidence: Evidence, verdict: Verdict) -> dict[str, Any] | None:
    suspects = evidence.suspects
    if not len(suspects.identical):
        return None
    return {
        "negatives": len(suspects.identical), "identical": int(suspects.identical.sum()),
        "likely": int(suspects.likely.sum()), "margin_alone": suspects.margin_alone,
        "rows": int((verdict.bad > 0).sum()),
    }  # fmt: skip
