"""`inspect_pairs` and `InspectedPairs`: an inspection from the table of pairs to the files that it writes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pairsift._base.extras import needs
from pairsift._base.files import replacing, write_json
from pairsift.data import DataError, arrow
from pairsift.data.tables import format_of, write_table
from pairsift.pairs.guide_table import FEATURE_KEYS, FEATURES
from pairsift.retrieval.checks import (
    Compared,
    Findings,
    GuideChecks,
    NegativeChecks,
    Rates,
    check_negatives,
    find_false_negatives,
    measure_rates,
    score_pairs,
)
from pairsift.retrieval.config import PairsConfig, PairsError
from pairsift.retrieval.guides import Encoder, Guide, Judge, Score, open_guide, open_judge
from pairsift.retrieval.index import Pairing, Search, UnitFeatures, first_contents, pair_up, texts_of
from pairsift.retrieval.layouts import Edits, write_as
from pairsift.retrieval.near import (
    NO_PAIRS,
    CloseTexts,
    NearDuplicates,
    NearTexts,
    Spelling,
    TextPairs,
    find_leaks,
)
from pairsift.retrieval.page import pairs_page
from pairsift.retrieval.read import (
    NO_KEY,
    Cells,
    IntArray,
    PairLabels,
    PairsSource,
    State,
    TextsSource,
    read_cells,
    read_labels,
)
from pairsift.retrieval.report import Gallery, Summary, galleries

Tell = Callable[[str, int, int], None]

# The files of a finished inspection; pairs.json is last.
FILES = (
    "rows.parquet", "conflicts.parquet", "clean.parquet", "report.html", FEATURES, FEATURE_KEYS, "pairs.json",
)  # fmt: skip
# The folder of the clean pairs in the layout in which they came.
LAYOUT = "clean"
# Features of a killed inspection may be left here.
_SCRATCH = ".features"
# Words from which on the whole text is compared, where nobody knows how much of it the guide has read.
_UNKNOWN_READS = 192
# Bytes of a row group before they are packed.
_GROUP_BYTES = 2**26
_LIKELY, _NEAR_ANCHORS, _NEAR_POSITIVES = "likely false negative", "near-duplicate anchors", "near-duplicate positives"


def inspect_pairs(
    pairs: Any, config: PairsConfig | None = None, *, encoder: Encoder | None = None, judge: Score | None = None,
    say: Callable[[str], None] | None = None, progress: Tell | None = None, **settings: Any,
) -> InspectedPairs:  # fmt: skip
    """Find duplicates, likely false negatives and bad mined negatives among pairs that a retriever is trained on.

    The pairs are read batch by batch. Features lie in a file meanwhile, at most twice the size of the pairs' own, and
    faiss searches for similar texts. Nothing of size N x N is made.

    Args:
        pairs: N rows of an anchor, a positive and any number of mined negatives, as texts or as embeddings: a file
            (parquet, jsonl, csv, tsv or arrow), a folder of parquet shards, a `pyarrow.Table`, a pandas DataFrame, a
            `datasets.Dataset` or `DatasetDict`. A column of labels or scores says which rows are positive pairs.
        config: the settings; keywords may give all of them instead.
        encoder: the guide as an object with `encode`, a `SentenceTransformer` for example, instead of `guide_model`.
        judge: a function that takes (query, text) pairs and gives a score in [0, 1] for each, instead of the setting.
        say: called with a sentence about each step.
        progress: called with the step, how much of it is done, and how much there is.
        **settings: fields of `PairsConfig`, which win over `config`: `guide_model`, `out`, `margin` and so on.

    Returns:
        What was found; with `out` it is saved there.

    Raises:
        DataError: pairs or features that cannot be read, or no row with both an anchor and a positive.
        PairsError: settings out of range, labels of unknown meaning, a guide that does not fit, an `out` in use.
        TypeError: a keyword that is no setting, or pairs of another type.

    Example:
        >>> import numpy as np
        >>> import pyarrow as pa
        >>> import pairsift as ps
        >>> rng, topics = np.random.default_rng(0), np.eye(40, 64).repeat(5, axis=0)
        >>> questions, answers = topics + 0.05 * rng.standard_normal((2, 200, 64))
        >>> found = ps.retrieval.inspect_pairs(pa.table({"anchor": list(questions), "positive": list(answers)}))
        >>> found.facts["guide"]["off_because"], found.facts["false_negatives"]["rows_with_some"] > 30
        ('', True)
    """
    config = (PairsConfig() if config is None else config).with_keywords(settings)
    if encoder is not None and (config.guide_model is not None or config.guide_features is not None):
        raise TypeError(
            f"give an encoder or a guide, got both: {config.guide_model or str(config.guide_features)!r} as well"
        )
    if judge is not None and config.judge is not None:
        raise TypeError(f"give a judge or its name, got both: {config.judge!r} as well")
    say, progress = say or (lambda line: None), progress or (lambda what, done, total: None)
    source = PairsSource(pairs, config)
    if config.out is not None:
        _check_folder(config.out, config.overwrite)
    for role, part in (("against", "queries"), ("corpus", "corpus")):
        if getattr(config, role) is not None:
            texts = TextsSource(getattr(config, role), source, getattr(config, f"{role}_column"), role, part)
            source.further[role] = texts
        elif getattr(config, f"{role}_column") is not None:
            raise PairsError(f"`{role}_column` names a column of texts: give their file as `{role}`")
    opened = open_judge(source, config, judge)
    guide = open_guide(source, config, encoder)
    with _scratch(config.out) as place, threadpool_limits(config.threads) if config.threads else nullcontext():
        result = _inspected(source, guide, opened, config, place, say, progress)
        if config.out is not None:
            if guide is not None and source.columns.kind == "texts":
                with replacing(config.out / FEATURE_KEYS) as temporary, temporary.open("wb") as file:
                    np.save(file, result.findings.pairing.keys)
                (place / FEATURES).replace(config.out / FEATURES)
            result.save(config.out)
    return result


def _inspected(
    source: PairsSource, guide: Guide | None, judge: tuple[str, Score] | None, config: PairsConfig, place: Path,
    say: Callable[[str], None], progress: Tell,
) -> InspectedPairs:  # fmt: skip
    if source.others:
        say(f"the split {source.split!r} is read, not {', '.join(source.others)}: `split` names another")
    labels, cells = read_labels(source, config), []
    if labels is not None:
        say(
            f"column {labels.column!r}: {labels.rule}; {int(labels.positive.sum()):,} of {source.rows:,} rows are "
            f"pairs, {int(labels.negative.sum()):,} are none"
        )
    for done, column in enumerate(source.columns.all):
        progress("reading", done, len(source.columns.all))
        cells.append(read_cells(source, column))
    further = {role: read_cells(each, each.column) for role, each in source.further.items()}
    pairing = pair_up(cells[0], cells[1], cells[2:], labels, further)
    if not len(pairing):
        raise _no_pairs(source, cells, labels)
    tools = _Tools(source, pairing, guide, config, place, say, progress)
    if judge is not None:
        tools.judge = Judge(*judge, source, pairing, lambda done, total: progress("judging", done, total))
    guided, negatives, rates, close = tools.unguided(cells[2:]) if guide is None else tools.guided(cells[2:])
    findings = Findings(cells, labels, pairing, negatives, guided, close, rates, config)
    return InspectedPairs(source, findings)


def _no_pairs(source: PairsSource, cells: list[Cells], labels: PairLabels | None) -> DataError:
    counts = {each.column.name: int((each.states != State.FINE).sum()) for each in cells[:2]}
    words = ", ".join(f"{name!r} in {count:,}" for name, count in counts.items())
    labelled = ""
    if labels is not None and not labels.positive.all():
        labelled = (
            f"; in {labels.column!r} {labels.rule}, which {int(labels.positive.sum()):,} rows are: `label='none'` "
            "ignores the column"
        )
    return DataError(
        f"{source.name}: none of {source.rows:,} rows has both an anchor and a positive (missing, empty or not finite: "
        f"{words}){labelled}"
    )


class _Tools:
    """Runs the checks of an inspection one after the other.

    Args:
        source: the table.
        pairing: its usable pairs.
        guide: compares texts; None compares their spelling alone.
        config: the settings.
        place: folder for features.
        say, progress: see `inspect_pairs`.
    """

    def __init__(
        self, source: PairsSource, pairing: Pairing, guide: Guide | None, config: PairsConfig, place: Path,
        say: Callable[[str], None], progress: Tell,
    ) -> None:  # fmt: skip
        self._source, self._pairing, self._guide, self._config = source, pairing, guide, config
        self._place, self._say, self._progress = place, say, progress
        self._spelling: Spelling | None = None
        self.judge: Judge | None = None

    def unguided(self, cells: list[Cells]) -> tuple[None, NegativeChecks, Rates | None, CloseTexts]:
        """All checks, by spelling alone."""
        self._say("no guide: texts are compared by their spelling alone; see `guide_model`")
        pairing, config = self._pairing, self._config
        near, sides = self._near_texts(None), (np.unique(pairing.anchors), pairing.candidates)
        close = self._close(near, [near.among(None, side, pairing.n_texts) for side in sides],
                            [near.between(None, side, self._others, pairing.n_texts) for side in sides])  # fmt: skip
        rates = measure_rates(pairing, None, None, config.sample, config.seed)
        return None, check_negatives(pairing, cells, config, judge=self.judge), rates, close

    def guided(self, cells: list[Cells]) -> tuple[GuideChecks, NegativeChecks, Rates | None, CloseTexts]:
        """All checks, under the guide."""
        guide, pairing, config = self._guide, self._pairing, self._config
        assert guide is not None
        self._say(f"{guide.name}: {pairing.n_texts:,} different {self._source.kind}")
        features = UnitFeatures(
            self._place / FEATURES,
            guide.features(pairing, lambda done: self._progress("features", done, pairing.n_texts)), pairing.n_texts,
        )  # fmt: skip
        scores = score_pairs(pairing, features, config)
        if scores.off_because:
            self._say(scores.off_because)
        rates = measure_rates(pairing, features, scores, config.sample, config.seed)
        search = Search(features, pairing.candidates, config.seed)
        likely = find_false_negatives(
            pairing, features, scores, search, config, lambda done: self._progress("searching", done, len(pairing))
        )
        if likely.cut:
            self._say(f"{likely.cut:,} rows have more likely false negatives than the `neighbours` that are compared")
        recall = None if search.exact else search.recall(pairing.anchors)
        pool, corpus = search, pairing.further.get("corpus")
        if corpus is not None:
            pool = Search(features, np.union1d(pairing.candidates, corpus), config.seed)
        negatives = check_negatives(pairing, cells, config, Compared(features, scores, pool), self.judge)
        del pool
        near, askers = self._near_texts(features), np.unique(pairing.anchors)
        positives, leaks = self._side(near, search, pairing.candidates)
        del search  # one index at a time
        anchors, more = self._side(near, Search(features, askers, config.seed), askers)
        close = self._close(near, [anchors, positives], [leaks, more])
        return GuideChecks(guide.name, scores, likely, recall), negatives, rates, close

    @property
    def _others(self) -> IntArray:
        """Texts of the evaluation set that are none of the pairs' own."""
        return self._pairing.further.get("against", np.zeros(0, np.int64))

    def _near_texts(self, features: UnitFeatures | None) -> NearTexts:
        """What near-duplicates are looked for with."""
        pairing, config, cut = self._pairing, self._config, np.zeros(self._pairing.n_texts, bool)
        alike = NO_PAIRS
        if self._source.kind == "texts":
            self._progress("spelling", 0, pairing.n_texts)
            self._spelling = Spelling(first_contents(self._source, pairing))
            alike = self._spelling.alike()
            if self._guide is not None:
                cut = self._spelling.words > (_UNKNOWN_READS if self._guide.reads is None else self._guide.reads)
        return NearTexts(features, self._spelling, alike, cut, config.near, config.spelling, config.seed)

    def _side(self, near: NearTexts, search: Search, texts: IntArray) -> tuple[NearDuplicates, TextPairs]:
        """Near-duplicates of one side, and pairs of its texts with those of the evaluation set."""
        n = self._pairing.n_texts
        return near.among(search, texts, n), near.between(search, texts, self._others, n)

    def _close(self, near: NearTexts, sides: list[NearDuplicates], found: list[TextPairs]) -> CloseTexts:
        against, spelling = self._source.further.get("against"), self._spelling
        leaks = None if against is None else find_leaks(self._pairing, against.name, found)
        words, lengths = (None, None) if spelling is None else (spelling.words, spelling.lengths)
        return CloseTexts(sides[0], sides[1], leaks, words, lengths, near.cut)


class InspectedPairs:
    """What is wrong with N pairs.

    Args:
        source: the table.
        findings: of its rows.

    Attributes:
        findings: what the checks found, as arrays.
        rows: a table of the N input rows: `kept` and `clean_row` (whether and where in clean.parquet), `reasons`
            (words), `anchor_key` and `positive_key` (equal where texts are), `duplicate_of`, `near_duplicate_of`;

            - with mined negatives `bad_negatives` (number), `negative_keys` (of those in clean.parquet) and
              `negatives`, a list of {key, column, place, similarity, judged, likely_without_floor, decision};
            - with a judge `positive_judged` (its score) and `relabelled_keys` (negatives that are positives of rows at
              the end of clean.parquet);
            - with a guide `similarity` (of anchor and positive), `rank` (share of the candidates above the positive),
              `reliable`, `false_negatives` (texts found), `worst_row`, `worst_similarity` (of the most similar one).
        conflicts: pairs of kept rows that must not share a batch besides those that hold the same text: `row`, `other`,
            `clean_row`, `clean_other`, `similarity`, `reason`. Each stands for its text: `key` and `other_key`, which
            other rows may hold too (`DistinctBatchSampler` heeds that).
        facts: every figure, with settings and versions, as pairs.json has them.
    """

    def __init__(self, source: PairsSource, findings: Findings) -> None:
        self._source, self.findings = source, findings

    def __len__(self) -> int:
        return len(self.findings)

    @cached_property
    def rows(self) -> pa.Table:
        """Every row of the input; see the class."""
        return _rows_table(self.findings)

    @cached_property
    def conflicts(self) -> pa.Table:
        """Pairs of kept rows that must not share a batch; see the class."""
        return _conflicts_table(self.findings)

    @cached_property
    def galleries(self) -> list[Gallery]:
        """Examples of each kind."""
        return galleries(self._source, self.findings, self.findings.config.examples)

    @cached_property
    def summary(self) -> Summary:
        """The figures as attributes."""
        source = self._source
        names = [column.name for column in source.columns.all]
        return Summary(
            source.name, source.columns.kind, names, source.split or None, source.others, self.findings,
            len(self.conflicts),
        )  # fmt: skip

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The figures as pairs.json has them."""
        return self.summary.facts()

    def save(self, folder: Path | str) -> None:
        """Write rows.parquet, conflicts.parquet, clean.parquet, report.html and pairs.json, each whole or not at all.

        Args:
            folder: made where missing; files of an earlier inspection in it are replaced.

        Raises:
            OSError: not writable.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pairs.json").unlink(missing_ok=True)
        for name, table in (("rows", self.rows), ("conflicts", self.conflicts)):
            write_table(folder / f"{name}.parquet", table)
        self.clean(folder / "clean.parquet")
        shutil.rmtree(folder / LAYOUT, ignore_errors=True)
        write_layout(self._source, self.findings, folder / "clean.parquet", folder / LAYOUT)
        self.report(folder / "report.html")
        write_json(folder / "pairs.json", self.facts)

    def clean(self, path: Path | str) -> int:
        """Write the input without what is left out; returns the number of rows.

        Raises:
            OSError: not writable.
        """
        return _Cleaning(self._source, self.findings).write(Path(path))

    def report(self, path: Path | str) -> None:
        """Write the page: one file to look at, without network.

        Raises:
            OSError: not writable.
        """
        pairs_page(Path(path), self.summary, self.galleries)


# Tables


def _rows_table(found: Findings) -> pa.Table:
    pairing, n, guided = found.pairing, len(found), found.guided
    rows: dict[str, Any] = {
        "row": np.arange(n), "kept": found.kept,
        "clean_row": _or_null(np.where(found.kept, np.cumsum(found.kept) - 1, -1)), "reasons": _reasons(found),
        "anchor_key": _or_null(found.anchors.keys, NO_KEY), "positive_key": _or_null(found.positives.keys, NO_KEY),
        "duplicate_of": _row_of(found, found.duplicate_of, found.duplicates),
        "near_duplicate_of": _row_of(found, found.near_of, found.near),
    }  # fmt: skip
    if len(pairing.mined.pairs) or len(found.negatives.refills):
        rows["bad_negatives"] = found.spread(found.bad, 0)
        rows["negative_keys"] = _negative_keys(found, n)
        rows["negatives"] = _negatives(found, n)
    judgement = found.negatives.judgement
    if judgement is not None:
        rows["positive_judged"] = _or_null(found.spread(judgement.positives, np.nan))
        rows["relabelled_keys"] = _lists_of(
            pairing.rows[pairing.mined.pairs[found.relabelled]],
            pa.array(pairing.keys[pairing.mined.texts[found.relabelled]]), n,
        )  # fmt: skip
    if guided is not None:
        worst = guided.false_negatives.worst
        holder = np.full(pairing.n_texts, -1)
        holder[pairing.positives[::-1]] = pairing.rows[::-1]
        rows["similarity"] = _or_null(found.spread(guided.scores.own, np.nan))
        rows["rank"] = _or_null(found.spread(guided.scores.ranks.astype(np.float32), np.nan))
        rows["reliable"] = found.spread(guided.scores.reliable, False)
        rows["false_negatives"] = found.spread(guided.false_negatives.counts, 0)
        rows["worst_row"] = _or_null(found.spread(np.where(worst < 0, -1, holder[worst]), -1))
        rows["worst_similarity"] = _or_null(found.spread(guided.false_negatives.similarity, np.nan))
    return pa.table(rows)


def _conflicts_table(found: Findings) -> pa.Table:
    pairing, kept = found.pairing, found.kept[found.pairing.rows]
    first_rows = [_first_rows(texts, kept, pairing.n_texts) for texts in (pairing.anchors, pairing.positives)]
    sides = {_LIKELY: (0, 1), _NEAR_ANCHORS: (0, 0), _NEAR_POSITIVES: (1, 1)}
    clean = (np.cumsum(found.kept) - 1)[pairing.rows]
    parts = []
    for number, (reason, conflicts) in enumerate(_all_conflicts(found).items()):
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
    names = [*_all_conflicts(found)] or [_LIKELY]
    reason = pa.DictionaryArray.from_arrays(pa.array(columns.pop("reason")), pa.array(names))
    return pa.table(columns | {"reason": reason})


def _all_conflicts(found: Findings) -> dict[str, TextPairs]:
    likely = {} if found.guided is None else {_LIKELY: found.guided.false_negatives.conflicts}
    return likely | {_NEAR_ANCHORS: found.close.anchors.pairs, _NEAR_POSITIVES: found.close.positives.pairs}


def _first_rows(texts: IntArray, kept: NDArray[np.bool_], n_texts: int) -> IntArray:
    """(T,) position of the first kept row that holds a text, -1 where none does."""
    out = np.full(n_texts, -1)
    places = np.flatnonzero(kept)[::-1]
    out[texts[places]] = places
    return out


def _reasons(found: Findings) -> pa.Array:
    matrix = np.stack(list(found.reasons.values()), axis=1)
    offsets = np.concatenate([[0], np.cumsum(matrix.sum(axis=1))]).astype(np.int32)
    words = pa.DictionaryArray.from_arrays(
        pa.array(np.nonzero(matrix)[1].astype(np.int8)), pa.array(list(found.reasons))
    )
    return pa.ListArray.from_arrays(pa.array(offsets), words)


def _negative_keys(found: Findings, n: int) -> pa.Array:
    """Keys of the negatives of every row in clean.parquet: those that are not bad, and those put in their place."""
    pairing, checks = found.pairing, found.negatives
    good, filled = ~checks.bad, checks.refills >= 0
    pairs, texts = pairing.mined.pairs[good], pairing.mined.texts[good]
    if len(checks.refills):
        pairs = np.concatenate([pairs, checks.open_pairs[filled]])
        texts = np.concatenate([texts, checks.refills[filled]])
    order = np.argsort(pairs, kind="stable")
    return _lists_of(pairing.rows[pairs[order]], pa.array(pairing.keys[texts[order]]), n)


def _lists_of(rows: IntArray, values: Any, n: int) -> pa.Array:
    """(n,) lists of values by their rows, ascending."""
    offsets = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), values)


_DECISIONS = (
    "kept", "the text of a positive", "the guide takes it for a positive", "the judge takes it for a positive",
    "becomes the positive of a row of its own",
)  # fmt: skip


def _negatives(found: Findings, n: int) -> pa.Array:
    """Every mined negative of every row: where it stands, its scores, and what is done about it."""
    mined, checks = found.pairing.mined, found.negatives
    order = np.lexsort((mined.places, mined.columns, mined.pairs))
    decision = np.zeros(len(order), np.int8)
    decision[checks.likely & checks.bad] = 2
    decision[checks.judged] = 3
    decision[checks.identical] = 1
    decision[found.relabelled] = 4
    judged = np.full(len(order), np.nan) if checks.judgement is None else checks.judgement.negatives
    words = pa.DictionaryArray.from_arrays(pa.array(decision[order]), pa.array(_DECISIONS))
    names = pa.array([column.name for column in found.columns])
    columns = pa.DictionaryArray.from_arrays(pa.array(mined.columns[order].astype(np.int8)), names)
    values = pa.StructArray.from_arrays(
        [pa.array(found.pairing.keys[mined.texts[order]]), columns, pa.array(mined.places[order].astype(np.int32)),
         _or_null(checks.similarity[order]), _or_null(judged[order]), pa.array(checks.alone[order]), words],
        ["key", "column", "place", "similarity", "judged", "likely_without_floor", "decision"],
    )  # fmt: skip
    return _lists_of(found.pairing.rows[mined.pairs[order]], values, n)


def _row_of(found: Findings, positions: IntArray, there: NDArray[np.bool_]) -> pa.Array:
    return _or_null(found.spread(np.where(there, found.pairing.rows[positions], -1), -1))


def _or_null(values: NDArray[Any], missing: int = -1) -> pa.Array:
    absent = np.isnan(values) if values.dtype.kind == "f" else values == missing
    return pa.array(values, mask=absent)


# clean.parquet


class _Cleaning:
    """Writes a table without the rows that are left out, its bad negatives replaced or taken out.

    Args:
        source: the table.
        found: which rows stay, and which negatives are bad.
    """

    def __init__(self, source: PairsSource, found: Findings) -> None:
        self._source, self._found = source, found
        mined, bad, checks = found.pairing.mined, found.negatives.bad, found.negatives
        self._bad = [np.sort(mined.cells[bad & (mined.columns == i)]) for i in range(len(source.columns.negatives))]
        self._refill = found.config.bad_negatives == "refill"
        new = np.concatenate([checks.refills[checks.refills >= 0], mined.texts[found.relabelled]])
        self._contents = texts_of(source, found.pairing, new)
        self._waiting_rows: list[tuple[pa.RecordBatch, IntArray]] = []

    def write(self, path: Path) -> int:
        """Write what stays, every column of the input; returns the number of rows.

        Raises:
            OSError: not writable.
        """
        schema, kept = self._source.schema, self._found.kept
        for column in self._source.columns.negatives:
            at = schema.get_field_index(column.name)
            schema = schema.set(at, schema.field(at).with_nullable(True))
        waiting: list[pa.RecordBatch] = []
        rows, seen = 0, [0] * len(self._bad)
        self._waiting_rows = []
        with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            for start, batch in self._source.batches():
                cleaned = self._cleaned(batch, start, seen, schema)
                self._keep_relabelled(cleaned, start)
                cleaned = cleaned.filter(pa.array(kept[start : start + len(batch)]))
                waiting.append(cleaned)
                rows += len(cleaned)
                if sum(each.nbytes for each in waiting) >= _GROUP_BYTES:
                    writer.write_table(pa.Table.from_batches(waiting, schema))
                    waiting = []
            for batch in self._added(schema):
                waiting.append(batch)
                rows += len(batch)
            writer.write_table(pa.Table.from_batches(waiting, schema))
        return rows

    def _keep_relabelled(self, cleaned: pa.RecordBatch, start: int) -> None:
        """Remember the rows of a batch that come once more with a mined negative as their positive."""
        pairing, chosen = self._found.pairing, self._found.relabelled
        rows = pairing.rows[pairing.mined.pairs[chosen]] - start
        here = (rows >= 0) & (rows < len(cleaned))
        if here.any():
            self._waiting_rows.append((cleaned.take(pa.array(rows[here])), pairing.mined.texts[chosen[here]]))

    def _added(self, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """Those rows, each with its new positive."""
        at = schema.get_field_index(self._source.columns.positive.name)
        for batch, texts in self._waiting_rows:
            values = pa.array([self._contents[text] for text in texts.tolist()]).cast(schema.field(at).type)
            yield pa.RecordBatch.from_arrays(
                [values if i == at else column for i, column in enumerate(batch.columns)], schema=schema
            )

    def _cleaned(self, batch: pa.RecordBatch, start: int, seen: list[int], schema: pa.Schema) -> pa.RecordBatch:
        """The batch with other negatives; `seen` counts the cells of each column so far."""
        arrays = list(batch.columns)
        for i, column in enumerate(self._source.columns.negatives):
            at = schema.get_field_index(column.name)
            first = seen[i] if column.listed else start
            cells = int(np.asarray(arrays[at].value_lengths().fill_null(0)).sum()) if column.listed else len(batch)
            low, high = np.searchsorted(self._bad[i], (first, first + cells))
            gone = np.zeros(cells, bool)
            gone[self._bad[i][low:high] - first] = True
            seen[i] += cells
            new = self._new(i, start, len(batch))
            if column.listed:
                arrays[at] = _lists(arrays[at], gone, new, self._refill)
            elif gone.any() or new:
                arrays[at] = _replaced(arrays[at], gone, new)
        return pa.RecordBatch.from_arrays(arrays, schema=schema)

    def _new(self, column: int, start: int, count: int) -> dict[int, Any]:
        """For some rows of a batch, the text or embedding to put into a column."""
        checks, pairing = self._found.negatives, self._found.pairing
        if not self._refill:
            return {}
        rows = pairing.rows[checks.open_pairs]
        chosen = (checks.open_columns == column) & (checks.refills >= 0) & (rows >= start) & (rows < start + count)
        return {
            int(rows[at]) - start: self._contents[int(checks.refills[at])] for at in np.flatnonzero(chosen).tolist()
        }


def _replaced(values: Any, gone: NDArray[np.bool_], new: dict[int, Any]) -> Any:
    """The array with new values in some places, and nulls in the others that are gone."""
    plain = arrow.plain_values(values)
    places = np.arange(len(values))
    chosen = np.array(sorted(new), np.int64)
    places[chosen] = len(values) + np.arange(len(chosen))
    more = pa.array([new[place] for place in chosen.tolist()], plain.type)
    gone = gone.copy()
    gone[chosen] = False
    return pa.concat_arrays([plain, more]).take(pa.array(places, mask=gone)).cast(values.type)


def _lists(values: Any, gone: NDArray[np.bool_], new: dict[int, Any], compact: bool) -> Any:
    """Lists without the elements that are gone, and with new ones.

    Args:
        values: the lists.
        gone: of each element, in order.
        new: an element to append, by the list's place.
        compact: also take out elements that are missing or empty.
    """
    lengths = np.asarray(values.value_lengths().fill_null(0))
    flat = values.filter(values.is_valid()).flatten()
    plain = arrow.plain_values(flat)
    if compact:
        gone = gone | np.array([text is None or not text.strip() for text in plain.to_pylist()], bool)
    if not gone.any() and not new:
        return values
    places = np.concatenate([np.repeat(np.arange(len(values)), lengths)[~gone], np.array(sorted(new), np.int64)])
    more = pa.array([new[place] for place in sorted(new)], plain.type)
    flat = pa.concat_arrays([plain.filter(pa.array(~gone)), more])
    flat = flat.take(pa.array(np.argsort(places, kind="stable"))).cast(values.type.value_type)
    offsets = pa.array(np.concatenate([[0], np.cumsum(np.bincount(places, minlength=len(values)))]), pa.int64())
    return pa.LargeListArray.from_arrays(offsets, flat, mask=values.is_null()).cast(values.type)


def write_layout(source: PairsSource, found: Findings, clean: Path, folder: Path) -> None:
    """Write the clean pairs as they came: the same files, columns, lists and compression.

    Nothing is written where clean.parquet is that already: for embeddings, a table in memory, a single parquet file.

    Args:
        source: the table.
        found: what leaves, and what takes its place.
        clean: clean.parquet.
        folder: to write to.

    Raises:
        OSError: not writable.
    """
    edits = _edits(source, found)
    if source.beir is not None:
        beir, qrels = source.beir
        beir.write(folder, qrels, found.kept)
        return
    plain = len(source.files) == 1 and format_of(source.files[0]) == "parquet"
    if source.nested is None and (not source.files or source.kind == "embeddings" or plain):
        return
    if source.nested is not None:
        table, starts = source.nested.restored(edits), source.nested.starts(found.kept, source.file_starts)
    else:
        table, counts = pq.read_table(clean), np.concatenate([[0], np.cumsum(found.kept)])
        starts = counts[source.file_starts]
    starts = np.concatenate([starts[:-1], [len(table)]])  # rows that were added are the last
    if not source.files:
        write_as(folder / "records.parquet", table)
    elif source.path is not None and any(source.path.glob("*.json")) and _saved(source.path):
        _save_dataset(source, table, folder)
    else:
        root = source.path if source.path is not None and source.path.is_dir() else None
        for file, start, stop in zip(source.files, starts[:-1], starts[1:], strict=True):
            name = file.name if root is None else file.relative_to(root)
            write_as(folder / name, table.slice(start, stop - start))


def _saved(path: Path) -> bool:
    """Whether `datasets` saved a folder to disk."""
    return (path / "state.json").exists() or (path / "dataset_dict.json").exists()


def _save_dataset(source: PairsSource, table: pa.Table, folder: Path) -> None:
    """Save a table as `datasets` does, under its split where there are splits."""
    with needs("text", "a data set that datasets saved", PairsError):
        from datasets import Dataset, DatasetDict
    data = Dataset(table)
    (data if source.split is None else DatasetDict({source.split: data})).save_to_disk(folder)


def _edits(source: PairsSource, found: Findings) -> Edits:
    """What the findings change, by row of the table."""
    edits, pairing, checks = Edits(found.kept), found.pairing, found.negatives
    mined, names = pairing.mined, [column.name for column in source.columns.negatives]
    for at in np.flatnonzero(checks.bad).tolist():
        key = int(pairing.rows[mined.pairs[at]]), names[mined.columns[at]]
        edits.gone.setdefault(key, set()).add(int(mined.places[at]))
    filled = np.flatnonzero(checks.refills >= 0) if source.nested is not None else np.zeros(0, np.int64)
    texts = np.concatenate([checks.refills[filled], mined.texts[found.relabelled]])
    held = texts_of(source, pairing, texts) if source.nested is not None else {}
    for at in filled.tolist():
        key = int(pairing.rows[checks.open_pairs[at]]), names[checks.open_columns[at]]
        edits.new.setdefault(key, []).append(held[int(checks.refills[at])])
    for at in found.relabelled.tolist() if source.nested is not None else ():
        edits.added.setdefault(int(pairing.rows[mined.pairs[at]]), []).append(held[int(mined.texts[at])])
    return edits


# The output folder


def _check_folder(folder: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something; with `overwrite`, remove an earlier inspection from it.

    Raises:
        PairsError: it is a file, or not empty.
    """
    if folder.exists() and not folder.is_dir():
        raise PairsError(f"{folder} is a file: name a folder")
    held = {each.name for each in folder.iterdir()} - {_SCRATCH} if folder.exists() else set()
    if held and not overwrite:
        what = "holds a finished inspection" if "pairs.json" in held else "exists and is not empty"
        raise PairsError(f"{folder} {what}: use `overwrite=True`, or another folder")
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    if "pairs.json" in held:
        shutil.rmtree(folder / LAYOUT, ignore_errors=True)


@contextmanager
def _scratch(folder: Path | None) -> Iterator[Path]:
    """A folder for features, in the output folder where there is one: they may be too large for the system's own."""
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="pairsift-pairs-") as temporary:
            yield Path(temporary)
        return
    place = folder / _SCRATCH
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        if not any(folder.iterdir()):
            folder.rmdir()
