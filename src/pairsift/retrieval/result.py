"""`inspect_pairs` and `InspectedPairs`: an inspection from the table of pairs to the files that it writes."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from pairsift._base.files import replacing, write_json
from pairsift.data import DataError
from pairsift.data.tables import write_table
from pairsift.pairs.guide import Encoder
from pairsift.pairs.guide_table import FEATURE_KEYS, FEATURES
from pairsift.retrieval.checks import Compared, NegativeChecks, check_negatives, find_false_negatives, score_pairs
from pairsift.retrieval.columns import IntArray, PairLabels
from pairsift.retrieval.config import PairsConfig, PairsError
from pairsift.retrieval.findings import Findings, GuideChecks, Rates, measure_rates
from pairsift.retrieval.guides import Guide, PairScorer, Score, check_uses, open_guide, open_scorer
from pairsift.retrieval.index import Cells, Pairing, Search, State, UnitFeatures, first_contents, pair_up, read_cells
from pairsift.retrieval.near import NO_PAIRS, CloseTexts, NearDuplicates, NearTexts, Spelling, TextPairs, find_leaks
from pairsift.retrieval.page import Gallery, galleries, pairs_page
from pairsift.retrieval.read import PairsSource, TextsSource, read_labels
from pairsift.retrieval.report import Summary, unread_note
from pairsift.retrieval.write import CleanPairs, conflicts_table, rows_table, write_layout

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


def inspect_pairs(
    pairs: Any, config: PairsConfig | None = None, *, encoder: Encoder | None = None, judge: Score | str | None = None,
    against: Any = None, corpus: Any = None, say: Callable[[str], None] | None = None, progress: Tell | None = None,
    **settings: Any,
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
        judge: a function that turns (query, text) pairs into scores in [0, 1], or the setting of this name.
        against, corpus: texts as a path, a list, or a table like `pairs`; see the settings of these names.
        say: called with a sentence about each step.
        progress: called with the step, how much of it is done, and its size.
        **settings: fields of `PairsConfig`, which win over `config`: `guide_model`, `output`, `margin` and so on.

    Returns:
        What was found; with `output` it is saved there.

    Raises:
        DataError: pairs or features that cannot be read, or no row with both an anchor and a positive.
        PairsError: settings out of range, labels of unknown meaning, a guide that does not fit, an `output` in use.
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
    if "out" in settings and "output" not in settings:
        warnings.warn("`out` is `output` since 0.3, and goes with 0.4", DeprecationWarning, stacklevel=2)
        settings["output"] = settings.pop("out")
    objects = {"judge": judge, "against": against, "corpus": corpus}
    settings |= {name: objects.pop(name) for name in list(objects) if isinstance(objects[name], (str, Path))}
    objects = {name: each for name, each in objects.items() if each is not None}
    config = _configured(config, settings, encoder, objects)
    say, progress = say or (lambda line: None), progress or (lambda what, done, total: None)
    source = PairsSource(pairs, config)
    if config.output is not None:
        _check_folder(config.output, config.overwrite)
    for role in ("against", "corpus"):
        data = objects.get(role, getattr(config, role))
        unused = next((each for each in (f"{role}_column", f"{role}_split") if getattr(config, each) is not None), None)
        if data is not None:
            source.further[role] = TextsSource(data, source, role, config)
        elif unused is not None:
            raise PairsError(f"`{unused}` names a part of a set of texts: give the set as `{role}`")
    if source.scores is not None and config.bad_negatives == "refill":
        config = config.updated("inspect_pairs", {"bad_negatives": "drop"})
        say(
            f"column {source.scores!r} holds a score for each negative, which another text would not have: rows with "
            "bad negatives are left out (without the column their negatives are replaced)"
        )
    check_uses(source, config, encoder, objects.get("judge"))
    opened = open_scorer(source, config, objects.get("judge"))
    guide = open_guide(source, config, encoder)
    with _scratch(config.output) as place, threadpool_limits(config.threads) if config.threads else nullcontext():
        result = _inspected(source, guide, opened, config, place, say, progress)
        if config.output is not None:
            if guide is not None and source.columns.kind == "texts":
                with replacing(config.output / FEATURE_KEYS) as temporary, temporary.open("wb") as file:
                    np.save(file, result.findings.pairing.keys)
                (place / FEATURES).replace(config.output / FEATURES)
            result.save(config.output)
    return result


def _configured(
    config: PairsConfig | None, settings: dict[str, Any], encoder: Encoder | None, objects: dict[str, Any]
) -> PairsConfig:
    """The configuration with keywords.

    Raises:
        TypeError: a configuration or an encoder of another type, or an object that a setting names as well.
    """
    config = PairsConfig() if config is None else config
    if not isinstance(config, PairsConfig):
        got = type(config).__name__
        raise TypeError(f"config must be a PairsConfig, got {got}: PairsConfig(**settings), or PairsConfig.load(path)")
    config = config.updated("inspect_pairs", settings)
    if encoder is not None and (config.guide_model is not None or config.guide_features is not None):
        raise TypeError(
            f"give an encoder or a guide, got both: {config.guide_model or str(config.guide_features)!r} as well"
        )
    if isinstance(encoder, str) or (encoder is not None and not hasattr(encoder, "encode")):
        raise TypeError(
            f"encoder must have a method encode(texts), got {encoder!r}: the name of a model is `guide_model`"
        )
    for name in objects:
        if getattr(config, name) is not None:
            held = str(getattr(config, name))
            raise TypeError(f"give `{name}` as an object or as a setting, got both: {held!r} as well")
    return config


def _inspected(
    source: PairsSource, guide: Guide | None, judge: tuple[str, Score] | None, config: PairsConfig, place: Path,
    say: Callable[[str], None], progress: Tell,
) -> InspectedPairs:  # fmt: skip
    for each, option in ((source, "split"), *((more, f"{role}_split") for role, more in source.further.items())):
        if each.others:
            others = ", ".join(each.others)
            say(f"{each.name}: the split {each.split!r} is read, not {others}: `{option}` names another")
    labels, cells = read_labels(source, config), []
    if labels is not None:
        say(
            f"column {labels.column!r}: {labels.rule}; {int(labels.positive.sum()):,} of {source.rows:,} rows are "
            f"pairs, {int(labels.negative.sum()):,} are not"
        )
    if source.unread:
        say(unread_note(source.unread))
    for done, column in enumerate(source.columns.all):
        progress("reading", done, len(source.columns.all))
        cells.append(read_cells(source, column))
    further = {role: read_cells(each, each.column) for role, each in source.further.items()}
    pairing = pair_up(cells[0], cells[1], cells[2:], labels, further)
    if not len(pairing):
        raise _no_pairs(source, cells, labels)
    checks = _Checks(source, pairing, guide, config, place, say, progress)
    scorer = None
    if judge is not None:
        scorer = PairScorer(*judge, source, pairing, lambda done, total: progress("judging", done, total))
    guided, negatives, rates, close = (
        checks.by_spelling(cells[2:], scorer) if guide is None else checks.by_guide(guide, cells[2:], scorer)
    )
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


class _Checks:
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
        # Texts of the evaluation set.
        self._others = pairing.further.get("against", np.zeros(0, np.int64))

    def by_spelling(
        self, cells: list[Cells], scorer: PairScorer | None
    ) -> tuple[None, NegativeChecks, Rates | None, CloseTexts]:
        """All checks without a guide."""
        self._say("no guide: texts are compared by their spelling alone; see `guide_model`")
        pairing, config = self._pairing, self._config
        near, sides = self._near_texts(None), (np.unique(pairing.anchors), pairing.candidates)
        close = self._close(near, [self._side(near, None, side) for side in sides])
        rates = measure_rates(pairing, None, None, config.sample, config.seed)
        return None, check_negatives(pairing, cells, config, scorer=scorer), rates, close

    def by_guide(
        self, guide: Guide, cells: list[Cells], scorer: PairScorer | None
    ) -> tuple[GuideChecks, NegativeChecks, Rates | None, CloseTexts]:
        """All checks under a guide."""
        pairing, config = self._pairing, self._config
        self._say(f"{guide.name}: {pairing.n_texts:,} different {self._source.kind}")
        features = UnitFeatures(
            self._place / FEATURES,
            guide.features(pairing, lambda done: self._progress("features", done, pairing.n_texts)), pairing.n_texts,
        )  # fmt: skip
        scores = score_pairs(pairing, features, config)
        if scores.off_because:
            self._say(scores.off_because)
        rates = measure_rates(pairing, features, scores, config.sample, config.seed)
        askers = np.unique(pairing.anchors)
        search = Search(features, pairing.candidates, config.seed, others=askers)
        likely = find_false_negatives(
            pairing, features, scores, search, config, lambda done: self._progress("searching", done, len(pairing))
        )
        if likely.cut:
            self._say(f"{likely.cut:,} rows have more likely false negatives than the `neighbours` that are compared")
        recall = None if search.exact else search.recall(pairing.anchors)
        pool, corpus = search, pairing.further.get("corpus")
        if corpus is not None:
            pool = Search(features, np.union1d(pairing.candidates, corpus), config.seed)
        negatives = check_negatives(pairing, cells, config, Compared(features, scores, pool), scorer)
        del pool
        near = self._near_texts(features)
        positives = self._side(near, search, pairing.candidates)
        centres = search.centres
        del search  # one index at a time
        anchors = self._side(near, Search(features, askers, config.seed, centres=centres), askers)
        return (
            GuideChecks(guide.name, scores, likely, recall),
            negatives,
            rates,
            self._close(near, [anchors, positives]),
        )

    def _near_texts(self, features: UnitFeatures | None) -> NearTexts:
        """What near-duplicates are looked for with."""
        pairing, config, cut = self._pairing, self._config, np.zeros(self._pairing.n_texts, bool)
        spelling, alike = None, NO_PAIRS
        if self._source.kind == "texts":
            self._progress("spelling", 0, pairing.n_texts)
            spelling = Spelling(first_contents(self._source, pairing))
            alike = spelling.alike()
            if self._guide is not None:
                cut = spelling.words > (_UNKNOWN_READS if self._guide.reads is None else self._guide.reads)
        return NearTexts(features, spelling, alike, cut, config.near, config.spelling, config.seed)

    def _side(self, near: NearTexts, search: Search | None, texts: IntArray) -> tuple[NearDuplicates, TextPairs]:
        """Near-duplicates of one side, among its texts and with the evaluation set."""
        n = self._pairing.n_texts
        return near.among(search, texts, n), near.between(search, texts, self._others, n)

    def _close(self, near: NearTexts, sides: list[tuple[NearDuplicates, TextPairs]]) -> CloseTexts:
        against = self._source.further.get("against")
        leaks = None if against is None else find_leaks(self._pairing, against.name, [found for _, found in sides])
        words = None if near.spelling is None else near.spelling.words
        return CloseTexts(sides[0][0], sides[1][0], leaks, words, near.cut)


class InspectedPairs:
    """What is wrong with N pairs.

    Args:
        source: the table.
        findings: of its rows.

    Attributes:
        findings: the results of the checks, as arrays.
        rows: a table of the N input rows: `kept` and `clean_row` (whether and where in clean.parquet), `reasons`
            (words), `anchor_key` and `positive_key` (equal where texts are), `duplicate_of`, `near_duplicate_of`;

            - for records of several positives `record` and `place` (of the positive in its list);
            - with mined negatives `bad_negatives` (number), `negative_keys` (of those in clean.parquet) and
              `negatives`, a list of {key, column, place, similarity, judged, likely_without_floor, decision};
            - with a judge `positive_judged` (its score) and `relabelled_keys` (negatives that are positives of rows at
              the end of clean.parquet);
            - with a guide `similarity` (of anchor and positive), `rank` (share of the candidates above the positive),
              `reliable`, `false_negatives` (texts found), `worst_row`, `worst_similarity` (of the most similar one).
        conflicts: pairs of kept rows that must not share a batch besides those that hold the same text: `row`, `other`,
            `clean_row`, `clean_other`, `similarity`, `reason`. Each stands for its text: `key` and `other_key`, which
            other rows may hold too; `DistinctBatchSampler` keeps these apart as well.
        facts: every figure, with settings and versions, as pairs.json has them.
    """

    def __init__(self, source: PairsSource, findings: Findings) -> None:
        self._source, self.findings = source, findings

    def __len__(self) -> int:
        return len(self.findings)

    @cached_property
    def rows(self) -> pa.Table:
        """Every row of the input; see the class."""
        return rows_table(self.findings, self._source.nested)

    @cached_property
    def conflicts(self) -> pa.Table:
        """Pairs of kept rows that must not share a batch; see the class."""
        return conflicts_table(self.findings)

    @cached_property
    def galleries(self) -> list[Gallery]:
        """Examples of each kind."""
        return galleries(self._source, self.findings, self.findings.config.examples)

    @cached_property
    def summary(self) -> Summary:
        """The figures as attributes."""
        return Summary(self._source, self.findings, len(self.conflicts))

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
        """Write the rows that stay; returns their number.

        Raises:
            OSError: not writable.
        """
        return CleanPairs(self._source, self.findings).write(Path(path))

    def report(self, path: Path | str) -> None:
        """Write the page: one file to look at, without network.

        Raises:
            OSError: not writable.
        """
        pairs_page(Path(path), self.summary, self.galleries)


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
