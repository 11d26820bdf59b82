"""Cells become numbered texts: who is paired with whom, unit features of each text in a file, similar texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairsift.data import arrow
from pairsift.neighbors import FLAT_LIMIT, NearestIndex
from pairsift.pairs.text_keys import short_hash, text_keys
from pairsift.retrieval.columns import Column, FloatArray, IntArray, PairLabels
from pairsift.retrieval.config import PairsError
from pairsift.retrieval.read import PairsSource, TextsSource

# The key of a cell that holds nothing to compare. No other key is negative.
NO_KEY = -1
# Rows of a block of work: 12 MB of 384 dimensions.
BLOCK = 8192
# Lists are four times the root of the number of texts, of 125 texts at least. Each centre is learned from 48 rows: with
# fewer rows or iterations many lists mix unrelated texts, and more lists have to be read.
_LIST_ROWS, _LIST_SAMPLE, _ITERATIONS, PROBES = 125, 48, 16, 8
_RECALL_ROWS = 200


# Cells


class State(IntEnum):
    """What is wrong with a cell."""

    FINE, MISSING, EMPTY, NOT_FINITE = range(4)


@dataclass(frozen=True)
class Cells:
    """The cells of one column, in order; a cell of a list column is an element of a list.

    Attributes:
        column: that they belong to.
        rows: (C,) row of each cell.
        keys: (C,) int64, equal for equal contents: texts by `text_keys`, embeddings bit by bit. `NO_KEY` where there is
            nothing to compare.
        states: (C,) int8 of `State`.
    """

    column: Column
    rows: IntArray
    keys: IntArray
    states: NDArray[np.int8]


def read_cells(source: PairsSource | TextsSource, column: Column) -> Cells:
    """Read a column once, for its keys.

    Raises:
        DataError: the file is damaged, embeddings are of several lengths, or texts are no UTF-8.
    """
    read = _text_cells if source.kind == "texts" else _vector_cells
    parts, width = [], 0
    for start, values in source.cells(column.name):
        rows, keys, states, width = read(values, column, f"{source.name}, column {column.name!r}", start, width)
        parts.append((rows, keys, states))
    rows, keys, states = (np.concatenate(each) for each in zip(*parts, strict=True))
    return Cells(column, rows, keys, states)


def contents(source: PairsSource | TextsSource, column: Column) -> Iterator[Any]:
    """What the cells of a column hold, batch by batch and in the same order: lists of texts, or (C, D) rows."""
    name = f"{source.name}, column {column.name!r}"
    for start, values in source.cells(column.name):
        texts = source.kind == "texts"
        yield _elements(values, column, name)[1] if texts else arrow.vectors(values, name, start)


def _elements(values: Any, column: Column, name: str) -> tuple[IntArray, list[Any]]:
    """Place in the batch and text of each cell: one a row, or for lists one an element."""
    if not column.listed:
        return np.arange(len(values)), arrow.texts(values, name)
    places = np.repeat(np.arange(len(values)), np.asarray(values.value_lengths().fill_null(0)))
    return places, arrow.texts(values.filter(values.is_valid()).flatten(), name)


def _text_cells(values: Any, column: Column, name: str, start: int, width: int) -> tuple[Any, Any, Any, int]:
    places, texts = _elements(values, column, name)
    states = np.array(
        [State.MISSING if text is None else State.FINE if text.strip() else State.EMPTY for text in texts], np.int8
    )
    keys = np.full(len(texts), NO_KEY, np.int64)
    keys[states == State.FINE] = text_keys(text for text, state in zip(texts, states, strict=True) if not state)
    return start + places, keys, states, 0


def _vector_cells(values: Any, column: Column, name: str, start: int, width: int) -> tuple[Any, Any, Any, int]:
    features, there = arrow.vectors(values, name, start, width or None), np.asarray(values.is_valid())
    states = np.where(there, State.FINE, State.MISSING).astype(np.int8)
    states[there & ~features.any(axis=1)] = State.EMPTY
    # Entries above 1e19 are finite and their squares are not: such a row has no cosine either.
    with np.errstate(over="ignore", invalid="ignore"):
        states[there & ~np.isfinite(np.einsum("ij,ij->i", features, features))] = State.NOT_FINITE
    keys = np.full(len(features), NO_KEY, np.int64)
    fine = states == State.FINE
    keys[fine] = [short_hash(row.tobytes()) for row in features[fine] + np.float32(0)]  # + 0 makes -0 a 0
    return start + np.arange(len(features)), keys, states, features.shape[1] or width


# Pairs of texts


@dataclass(frozen=True)
class Mined:
    """M mined negatives of usable rows, column by column.

    Attributes:
        pairs: (M,) which pair's.
        texts: (M,) number of the text.
        columns: (M,) column, counted among those of negatives.
        cells: (M,) number of the cell in its column.
        places: (M,) place in the row's list; 0 where a cell is one text.
    """

    pairs: IntArray
    texts: IntArray
    columns: IntArray
    cells: IntArray
    places: IntArray


@dataclass(frozen=True)
class Pairing:
    """The n usable rows of a table: those with an anchor and a positive, and no label of a negative pair.

    Texts are numbered as they first appear.

    Attributes:
        rows: (n,) row of each pair in the table.
        anchors, positives: (n,) numbers of texts.
        labels: (n,) equal where the rows' labels or scores are; all 0 where there are none.
        mined: their negatives.
        keys: (T,) key of each text.
        first_cells: (T,) cell that holds a text first, counted over all columns in their order.
        refused: (R,) pairs of texts that some row labels as no pair, by `code`, ascending.
        further: by role, the different texts of each further source, ascending.
    """

    rows: IntArray
    anchors: IntArray
    positives: IntArray
    labels: IntArray
    mined: Mined
    keys: IntArray
    first_cells: IntArray
    refused: IntArray
    further: Mapping[str, IntArray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def n_texts(self) -> int:
        """Number of different texts."""
        return len(self.keys)

    @cached_property
    def codes(self) -> IntArray:
        """Different (anchor, positive) pairs as one number each, ascending: anchor * n_texts + positive."""
        return np.unique(self.code(self.anchors, self.positives))

    @cached_property
    def carriers(self) -> IntArray:
        """(T,) how many rows have a text as their positive."""
        return np.bincount(self.positives, minlength=self.n_texts)

    @cached_property
    def candidates(self) -> IntArray:
        """Different positives, ascending."""
        return np.flatnonzero(self.carriers)

    def code(self, anchors: IntArray, texts: IntArray) -> IntArray:
        """Pairs of texts as one number each."""
        return np.asarray(anchors * np.int64(self.n_texts) + texts)

    def identical(self, anchors: IntArray, texts: IntArray) -> NDArray[np.bool_]:
        """Where a text is the anchor itself, or in some row a known positive of it."""
        return np.asarray(self._paired(anchors, texts) | (anchors == texts))

    def denied(self, anchors: IntArray, texts: IntArray) -> NDArray[np.bool_]:
        """Where some row labels a text as no positive of the anchor."""
        return np.isin(self.code(anchors, texts), self.refused)

    def known(self, anchors: IntArray) -> tuple[IntArray, IntArray]:
        """Place among `anchors` and text of everything that is identical to each in the sense of `identical`."""
        places, texts = self._texts_of(self.codes, anchors)
        alone = np.flatnonzero(~self._paired(anchors, anchors))
        return np.concatenate([places, alone]), np.concatenate([texts, anchors[alone]])

    @cached_property
    def twins(self) -> IntArray:
        """(n,) how many other rows have a positive that is identical to a row's anchor or to a known positive of it."""
        owners = self.codes // self.n_texts
        weights = self.carriers[self.codes % self.n_texts]
        total = np.bincount(owners, weights, self.n_texts).astype(np.int64)
        own = np.arange(self.n_texts)
        total += np.where(self._paired(own, own), 0, self.carriers)
        return np.asarray(total[self.anchors] - 1)

    def positions(
        self, anchors: IntArray, candidates: IntArray, denied: bool = False
    ) -> tuple[IntArray, IntArray]:  # fmt: skip
        """Row and column, in a matrix of anchors and candidates, of every candidate that is identical to the anchor.

        Args:
            anchors: (R,) texts of the rows.
            candidates: (C,) texts of the columns, repeated ones too.
            denied: include candidates that some row labels as no positive of the anchor.
        """
        places, texts = self.known(anchors)
        if denied:
            more = self._texts_of(self.refused, anchors)
            places, texts = np.concatenate([places, more[0]]), np.concatenate([texts, more[1]])
        order = np.argsort(candidates, kind="stable")
        low, high = (np.searchsorted(candidates[order], texts, side) for side in ("left", "right"))
        counts = high - low
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(places, counts), order[np.repeat(low, counts) + within]

    def _texts_of(self, codes: IntArray, anchors: IntArray) -> tuple[IntArray, IntArray]:
        """Place among `anchors` and text of every pair in ascending codes that one of the anchors has."""
        low, high = (np.searchsorted(codes, self.code(anchors + more, 0 * anchors)) for more in (0, 1))
        places = np.repeat(np.arange(len(anchors)), high - low)
        within = np.arange(len(places)) - np.repeat(np.cumsum(high - low) - (high - low), high - low)
        return places, codes[low[places] + within] % self.n_texts

    def _paired(self, anchors: IntArray, texts: IntArray) -> NDArray[np.bool_]:
        """Where some row has this pair of texts."""
        codes = self.code(anchors, texts)
        at = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.asarray(self.codes[at] == codes)


def pair_up(
    anchors: Cells,
    positives: Cells,
    negatives: list[Cells],
    labels: PairLabels | None,
    further: Mapping[str, Cells] | None = None,
) -> Pairing:
    """Number the texts of all usable rows, and then those of further sources."""
    fine = (anchors.states == State.FINE) & (positives.states == State.FINE)
    usable = fine if labels is None else fine & labels.positive
    rows = np.flatnonzero(usable)
    place = np.cumsum(usable) - 1
    used = [np.flatnonzero((each.states == State.FINE) & usable[each.rows]) for each in negatives]
    columns = [(anchors, rows), (positives, rows), *zip(negatives, used, strict=True)]
    further = further or {}
    columns += [(each, np.flatnonzero(each.states == State.FINE)) for each in further.values()]
    offsets = np.cumsum([0, *(len(each.keys) for each, _ in columns)])
    cells = np.concatenate([offset + chosen for offset, (_, chosen) in zip(offsets, columns, strict=False)])
    keys = np.concatenate([each.keys[chosen] for each, chosen in columns])
    distinct, first, numbers = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    numbers = rank[numbers]
    n, of = len(rows), np.split(numbers, np.cumsum([len(chosen) for _, chosen in columns])[:-1])
    mines = columns[2 : 2 + len(negatives)]
    mined = Mined(
        np.concatenate([place[each.rows[chosen]] for each, chosen in mines] or [rows[:0]]),
        np.concatenate([rows[:0], *of[2 : 2 + len(negatives)]]),
        np.repeat(np.arange(len(used)), [len(each) for each in used]), np.concatenate([*used, rows[:0]]),
        np.concatenate([chosen - np.searchsorted(each.rows, each.rows[chosen]) for each, chosen in mines]
                       or [rows[:0]]),
    )  # fmt: skip
    refused = rows[:0]
    if labels is not None:
        said = np.flatnonzero(fine & labels.negative)
        sides = [each.keys[said] for each in (anchors, positives)]
        held = np.isin(sides[0], distinct) & np.isin(sides[1], distinct)
        first_texts, second_texts = (rank[np.searchsorted(distinct, side[held])] for side in sides)
        refused = np.unique(first_texts * np.int64(len(distinct)) + second_texts)
    kinds = np.zeros(n, np.int64) if labels is None else labels.numbers[rows]
    more = {role: np.unique(each) for role, each in zip(further, of[2 + len(negatives) :], strict=True)}
    return Pairing(rows, of[0], of[1], kinds, mined, distinct[order], cells[first[order]], refused, more)


def first_contents(source: PairsSource, pairing: Pairing) -> Iterator[Any]:
    """Contents of the texts of a pairing, block by block and in the order of their numbers."""
    seen = 0
    for held, column in source.streams():
        for block in contents(held, column):
            low, high = np.searchsorted(pairing.first_cells, (seen, seen + len(block)))
            places = pairing.first_cells[low:high] - seen
            if len(places):
                yield block[places] if isinstance(block, np.ndarray) else [block[place] for place in places.tolist()]
            seen += len(block)


def texts_of(source: PairsSource, pairing: Pairing, texts: IntArray) -> dict[int, Any]:
    """What the cells of some texts hold, by the number of the text."""
    wanted, found, seen = np.unique(texts), dict[int, Any](), 0
    for block in first_contents(source, pairing) if len(wanted) else ():
        low, high = np.searchsorted(wanted, (seen, seen + len(block)))
        found |= {text: block[text - seen] for text in wanted[low:high].tolist()}
        seen += len(block)
    return found


# Features and search


class UnitFeatures:
    """(T, D) float32 rows of norm 1 in a .npy file, taken a block at a time so that memory holds no more than a block.

    Args:
        path: file to write.
        blocks: of features, (rows, D) each, in order; all finite and none zero.
        rows: T.

    Raises:
        PairsError: blocks of several widths.
        OSError: the disk is full, or the file not writable.
    """

    def __init__(self, path: Path, blocks: Iterable[FloatArray], rows: int) -> None:
        self._path, self._header, width = path, 0, 0
        with path.open("wb") as file:
            for block in blocks:
                if width not in (0, block.shape[1]):
                    raise PairsError(
                        f"columns have {width} and {block.shape[1]} dimensions: a guide needs features of one encoder"
                    )
                if not width:
                    width = block.shape[1]
                    kind = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
                    np.lib.format.write_array_header_1_0(file, kind)
                    self._header = file.tell()
                file.write(_unit(block).data)
        self.shape = (rows, width)

    def take(self, texts: IntArray) -> FloatArray:
        """(len(texts), D) features of some texts."""
        out = np.empty((len(texts), self.shape[1]), np.float32)
        starts = np.flatnonzero(np.diff(texts, prepend=-2) != 1).tolist()
        # Read, not mapped: the system maps whole neighbourhoods of the rows that are touched, and counts them as ours.
        with self._path.open("rb", buffering=0) as file:
            for start, stop in pairwise([*starts, len(texts)]):
                file.seek(self._header + int(texts[start]) * out[0].nbytes)
                file.readinto(out[start:stop].data.cast("B"))
        return out

    def blocks(self, texts: IntArray, rows: int = BLOCK) -> Iterator[tuple[int, FloatArray]]:
        """First place and features of one block of the texts after the other."""
        for start in range(0, len(texts), rows):
            yield start, self.take(texts[start : start + rows])


def _unit(features: FloatArray) -> FloatArray:
    """Rows of norm 1, contiguous."""
    wide = features.astype(np.float64)
    return np.ascontiguousarray(wide / np.linalg.norm(wide, axis=1, keepdims=True), dtype=np.float32)


def dots(a: FloatArray, b: FloatArray) -> FloatArray:
    """(N,) products of rows."""
    return np.asarray(np.einsum("ij,ij->i", a, b), np.float32)


class Search:
    """Finds the texts (C,) that are most similar by cosine.

    Args:
        features: of all texts.
        texts: (C,) that can be found.
        seed: of an inverted file.
        others: further texts that the lists of an inverted file are learned from.
        centres: of the lists of another search, which are taken where those lists hold about as many texts.

    Attributes:
        exact: whether every text is compared.
        centres: of the lists; None where it is exact.
    """

    def __init__(
        self, features: UnitFeatures, texts: IntArray, seed: int, others: IntArray | None = None,
        centres: Any = None,
    ) -> None:  # fmt: skip
        self._features, self._texts, self._seed = features, texts, seed
        self.exact = len(texts) <= FLAT_LIMIT
        lists = 0 if self.exact else int(min(4 * np.sqrt(len(texts)), len(texts) / _LIST_ROWS))
        if centres is not None and lists / 2 <= centres.ntotal <= lists * 2:
            lists = centres.ntotal
        else:
            centres = None
        self._index = NearestIndex(
            features.shape[1], lists=lists, probes=PROBES, half=True, iterations=_ITERATIONS, seed=seed, centres=centres
        )
        if centres is None and not self.exact:
            known = texts if others is None else np.union1d(texts, others)
            rng = np.random.default_rng(seed)
            sample = np.sort(rng.choice(known, min(len(known), lists * _LIST_SAMPLE), replace=False))
            self._index.train(features.take(sample))
        self.centres = self._index.centres
        for _, block in features.blocks(texts):
            self._index.add(block)

    def __call__(self, queries: FloatArray, most: int, probes: int = PROBES) -> tuple[FloatArray, IntArray]:
        """Cosines and texts, (Q, K), most similar first; K is `most`, or the number of texts if that is less.

        An inverted file reads `probes` of its lists; where it finds fewer it fills with cosine -inf and the last text.
        """
        cosines, places = self._index.search(queries, min(most, len(self._texts)), probes)
        cosines[places < 0] = -np.inf
        return cosines, self._texts[places]

    def recall(self, queries: IntArray, most: int = 10) -> float:
        """Share of the true nearest of some texts that are found, on at most 200 of them."""
        rng = np.random.default_rng(self._seed)
        chosen = self._features.take(rng.choice(queries, min(_RECALL_ROWS, len(queries)), replace=False))
        blocks = (block for _, block in self._features.blocks(self._texts))
        return self._index.recall(chosen, blocks, min(most, len(self._texts)))
