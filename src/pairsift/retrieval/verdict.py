"""What is said of every row, which rows are kept, and what repeats."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from pairsift.retrieval.cells import Cells, IntArray, State
from pairsift.retrieval.config import PairsConfig
from pairsift.retrieval.conflicts import Found
from pairsift.retrieval.judging import Judged
from pairsift.retrieval.mined import Suspects
from pairsift.retrieval.near import Near
from pairsift.retrieval.pairing import Pairing

BoolArray = NDArray[np.bool_]
_STATES = {State.MISSING: "missing", State.EMPTY: "empty", State.NOT_FINITE: "not finite"}


@dataclass(frozen=True)
class Evidence:
    """Everything that was found out about the rows of a table; what needs a guide is None without one."""

    anchors: Cells
    positives: Cells
    pairing: Pairing
    suspects: Suspects
    judged: Judged | None = None
    found: Found | None = None
    near_anchors: Near | None = None
    near_positives: Near | None = None


class Verdict:
    """Rows and reasons.

    Args:
        evidence: of the rows.
        config: says what leaves clean.parquet.

    Attributes:
        duplicate_of: (n,) position of the first usable row with the same cells, itself for that one.
        near_of: (n,) position of the first usable row whose texts are near or equal to both of a row's; itself where
            there is no such row before it, or that has the same two texts.
        bad: (n,) bad negatives of each row.
        kept: (n,) rows of clean.parquet.
    """

    def __init__(self, evidence: Evidence, config: PairsConfig) -> None:
        pairing = evidence.pairing
        self._evidence = evidence
        self.duplicate_of = _first_of(_row_numbers(pairing))
        self.near_of = np.arange(len(pairing))
        if evidence.near_anchors is not None and evidence.near_positives is not None:
            groups = (evidence.near_anchors.groups[pairing.anchors], evidence.near_positives.groups[pairing.positives])
            first, same = _first_of(pairing.code(*groups)), _first_of(pairing.code(pairing.anchors, pairing.positives))
            self.near_of = np.where(same[first] == same, self.near_of, first)
        self.bad = np.bincount(pairing.mined.pairs[evidence.suspects.bad], minlength=len(pairing))
        self.kept = ~self.duplicates
        if config.drop_near:
            self.kept &= ~self.near
        if config.bad_negatives == "drop":
            self.kept &= self.bad == 0

    @property
    def duplicates(self) -> BoolArray:
        """(n,) rows that repeat an earlier one."""
        return np.asarray(self.duplicate_of != np.arange(len(self.duplicate_of)))

    @property
    def near(self) -> BoolArray:
        """(n,) rows that nearly repeat an earlier one."""
        return np.asarray(self.near_of != np.arange(len(self.near_of)))

    @cached_property
    def reasons(self) -> dict[str, BoolArray]:
        """For each reason, (N,) the rows of the table it holds for."""
        evidence, pairing = self._evidence, self._evidence.pairing
        out = {
            f"{name} {word}": cells.states == state
            for name, cells in (("anchor", evidence.anchors), ("positive", evidence.positives))
            for state, word in _STATES.items()
        }
        mine: dict[str, BoolArray] = {
            "duplicate": self.duplicates, "near-duplicate": self.near,
            "anchor repeats": np.bincount(pairing.anchors)[pairing.anchors] > 1,
            "positive repeats": pairing.carriers[pairing.positives] > 1,
            "positive is the anchor": pairing.anchors == pairing.positives, "bad negatives": self.bad > 0,
        }  # fmt: skip
        if evidence.judged is not None:
            mine["guide unreliable"] = ~evidence.judged.reliable
        if evidence.found is not None:
            mine["false negatives likely"] = evidence.found.counts > 0
        return out | {name: self.spread(mask, False) for name, mask in mine.items()}

    def spread(self, values: NDArray[np.generic], missing: object) -> NDArray[np.generic]:
        """Values of usable rows as values of all rows of the table."""
        out = np.full(len(self._evidence.anchors.keys), missing, values.dtype)
        out[self._evidence.pairing.rows] = values
        return out


def _row_numbers(pairing: Pairing) -> IntArray:
    """(n,) equal where rows have the same anchor, positive and negatives in the same order."""
    numbers = np.unique(pairing.code(pairing.anchors, pairing.positives), return_inverse=True)[1]
    order = np.argsort(pairing.mined.pairs, kind="stable")
    owners = pairing.mined.pairs[order]
    place = np.arange(len(owners)) - np.searchsorted(owners, owners)
    for slot in range(int(place.max(initial=-1)) + 1):
        texts = np.zeros(len(pairing), np.int64)
        texts[owners[place == slot]] = pairing.mined.texts[order[place == slot]] + 1
        numbers = np.unique(numbers * np.int64(pairing.n_texts + 1) + texts, return_inverse=True)[1]
    return np.asarray(numbers, np.int64)


def _first_of(values: IntArray) -> IntArray:
    """(n,) position of the first equal value."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return np.asarray(first[inverse], np.int64)
