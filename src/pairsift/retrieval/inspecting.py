"""`inspect_pairs`: from a file of pairs to what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from threadpoolctl import threadpool_limits

from pairsift.data import DataError
from pairsift.retrieval.cells import Cells, State, read_cells
from pairsift.retrieval.clean import Cleaning
from pairsift.retrieval.config import PairsConfig
from pairsift.retrieval.conflicts import find_conflicts
from pairsift.retrieval.examples import galleries
from pairsift.retrieval.facts import collect, versions
from pairsift.retrieval.folder import check_folder, scratch
from pairsift.retrieval.guides import Encoder, Guide, open_guide
from pairsift.retrieval.judging import judge
from pairsift.retrieval.mined import suspect
from pairsift.retrieval.near import find_near
from pairsift.retrieval.page import Distributions
from pairsift.retrieval.pairing import Pairing, pair_up
from pairsift.retrieval.rates import Rates, measure_rates
from pairsift.retrieval.result import InspectedPairs
from pairsift.retrieval.search import Search
from pairsift.retrieval.source import PairsSource
from pairsift.retrieval.tables import conflicts_table, rows_table
from pairsift.retrieval.vectors import UnitFeatures
from pairsift.retrieval.verdict import Evidence, Verdict

Tell = Callable[[str, int, int], None]


def inspect_pairs(
    pairs: Path | str | pa.Table, config: PairsConfig | None = None, *, encoder: Encoder | None = None,
    say: Callable[[str], None] | None = None, progress: Tell | None = None, **settings: Any,
) -> InspectedPairs:  # fmt: skip
    """Find duplicates, likely false negatives and bad mined negatives among pairs that a retriever is trained on.

    Read batch by batch; features are kept in a file while it works, twice the size of the pairs' own at most, and
    similar texts are searched by faiss. Nothing of size N x N is made.

    Args:
        pairs: N rows of an anchor, a positive and any number of mined negatives, as texts or as embeddings: a parquet
            file, a folder of shards, or a table.
        config: the settings, all of which may be given as keywords instead.
        encoder: the guide as an object with `encode`, a `SentenceTransformer` say, instead of `guide`.
        say: told in words what is done.
        progress: told what is done, how much, and how much there is.
        **settings: fields of `PairsConfig`, which win over `config`: `guide`, `out`, `margin` and so on.

    Returns:
        What was found; with `out` it is saved there.

    Raises:
        DataError: pairs or features that cannot be read, or no row with both an anchor and a positive.
        PairsError: settings out of range, a guide that does not fit, an `out` in use.
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
    if encoder is not None and config.guide is not None:
        raise TypeError(f"give an encoder or `guide`, got both: {config.guide!r}")
    say, progress = say or (lambda line: None), progress or (lambda what, done, total: None)
    source = PairsSource(pairs, config.anchor, config.positive, config.negatives)
    if config.out is not None:
        check_folder(config.out, config.overwrite)
    guide = open_guide(encoder if encoder is not None else config.guide, source)
    with scratch(config.out) as place, threadpool_limits(config.threads) if config.threads else nullcontext():
        result = _inspected(source, guide, config, place, say, progress)
        if config.out is not None:
            result.save(config.out)
    return result


def _inspected(
    source: PairsSource, guide: Guide | None, config: PairsConfig, place: Path, say: Callable[[str], None],
    progress: Tell,
) -> InspectedPairs:  # fmt: skip
    cells = []
    for done, column in enumerate(source.columns.all):
        progress("reading", done, len(source.columns.all))
        cells.append(read_cells(source, column))
    pairing = _paired(source, cells)
    if guide is None:
        say("no guide: texts are compared as texts only, what says the same in other words is not found; see `guide`")
        evidence = Evidence(cells[0], cells[1], pairing, suspect(pairing, None, None))
        search: dict[str, Any] = {}
        rates = measure_rates(pairing, None, None, config.sample, config.seed)
    else:
        say(f"{guide.name}: {pairing.n_texts:,} different {source.columns.kind}")
        evidence, rates, search = _judged(cells, pairing, guide, config, place, say, progress)
    verdict = Verdict(evidence, config)
    conflicts = conflicts_table(evidence, verdict)
    facts = collect(evidence, verdict, rates, len(conflicts)) | {
        "pairs": source.name, "kind": source.columns.kind, "columns": [column.name for column in source.columns.all],
        "guide_name": None if guide is None else guide.name, "search": search,
        "settings": config.model_dump(mode="json", exclude={"overwrite"}), "versions": versions(),
    }  # fmt: skip
    distributions = None if evidence.judged is None else Distributions.of(evidence)
    return InspectedPairs(
        facts, rows_table(evidence, verdict), conflicts, galleries(source, evidence, config.examples), distributions,
        _cleaning(source, evidence, verdict),
    )  # fmt: skip


def _paired(source: PairsSource, cells: list[Cells]) -> Pairing:
    pairing = pair_up(cells[0], cells[1], cells[2:])
    if not len(pairing):
        counts = {each.column.name: int((each.states != State.FINE).sum()) for each in cells[:2]}
        words = ", ".join(f"{name!r} in {count:,}" for name, count in counts.items())
        raise DataError(
            f"{source.name}: none of {source.rows:,} rows has both an anchor and a positive (missing, empty or not "
            f"finite: {words})"
        )
    return pairing


def _judged(
    cells: list[Cells], pairing: Pairing, guide: Guide, config: PairsConfig, place: Path, say: Callable[[str], None],
    progress: Tell,
) -> tuple[Evidence, Rates | None, dict[str, Any]]:  # fmt: skip
    """Everything that needs features, and how texts were searched."""
    features = UnitFeatures(
        place / "features", guide.features(pairing, lambda done: progress("features", done, pairing.n_texts))
    )
    judged = judge(pairing, features, config)
    if judged.off_because:
        say(judged.off_because)
    rates = measure_rates(pairing, features, judged, config.sample, config.seed)
    search = Search(features, pairing.candidates, config.seed)
    found = find_conflicts(
        pairing, features, judged, search, config, lambda done: progress("searching", done, len(pairing))
    )
    if found.cut:
        say(f"{found.cut:,} rows have more likely false negatives than the `neighbours` that are looked at")
    how: dict[str, Any] = {"exact": search.exact}
    if not search.exact:
        how["recall"] = search.recall(pairing.anchors)
    positives = find_near(search, features, pairing.candidates, config.near, config.seed)
    del search  # one index at a time
    askers = np.unique(pairing.anchors)
    anchors = find_near(Search(features, askers, config.seed), features, askers, config.near, config.seed)
    return Evidence(
        cells[0], cells[1], pairing, suspect(pairing, features, judged), judged, found, anchors, positives
    ), rates, how  # fmt: skip


def _cleaning(source: PairsSource, evidence: Evidence, verdict: Verdict) -> Cleaning:
    mined, bad = evidence.pairing.mined, evidence.suspects.bad
    gone = [np.sort(mined.cells[bad & (mined.columns == i)]) for i in range(len(source.columns.negatives))]
    kept = np.asarray(verdict.spread(verdict.kept, False), bool)
    return Cleaning(source, kept, gone)
