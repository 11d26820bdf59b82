"""`pairsift.scan`: from embeddings without labels to difficult examples and bridging pairs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairsift.data.features import bare_features
from pairsift.neighbors import FloatArray, generator
from pairsift.pairs import RankBand
from pairsift.same_class import AffinityError
from pairsift.scanning.bridges import PairModel
from pairsift.scanning.config import EXACT_ROWS, ScanConfig
from pairsift.scanning.copies import CopySearch, leaks_between_splits
from pairsift.scanning.estimates import (
    ClassEstimate,
    Histogram,
    estimate_classes,
    levels_by_labels,
    levels_by_ranks,
    usual_band,
)
from pairsift.scanning.labels import LabelModel, LabelScores, issue_table
from pairsift.scanning.maps import MAPPED_ROWS, mapped
from pairsift.scanning.plan import Plan, open_any, prepare
from pairsift.scanning.reference import INDICATORS, Reference
from pairsift.scanning.result import Scan
from pairsift.scanning.work import NEAR_COLUMNS, Part, Task, merge, run_local, run_ray
from pairsift.theory import Levels, advise


def scan(
    features: Any,
    config: ScanConfig | int | None = None,
    band: RankBand | None = None,
    *,
    labels: NDArray[Any] | None = None,
    graph: tuple[NDArray[Any], NDArray[Any]] | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    then: Callable[[Scan], None] | None = None,
    **settings: Any,
) -> Scan:
    """Score, without labels, how difficult every example of an embedding set is, and find pairs that bridge clusters.

    A seeded sample of rows (all of them up to `reference`) is the reference: centre, whitening, clusters, neighbour
    index and robust scales are learned on it, then every row is scored against it by itself. Nothing of size N x N is
    made, and the result does not depend on the number of threads or the engine.

    Args:
        features: (N, D) array or tensor, a path, a table, or a `FeatureSource`: all that `pairsift.data.open_features`
            reads.
        config: the settings, all of which may be given as keywords instead; a bare number is `n_classes`.
        band: rank band that the levels are measured with, `band_start` and `band_stop` in one; None takes the config's.
        labels: (N,) classes of an array, -1 where a row has none: for label errors and labelled levels. The difficulty
            score never looks at them.
        graph: neighbours (N, k) by descending cosine, positions without the row itself, and their cosines (N, k), to
            use instead of a search. Needs all rows in the reference.
        say: told in words what is done.
        progress: told how many rows of how many are scored.
        then: given the scan when it is saved, to write what goes with it (its page, say) before the folder counts as
            finished: a scan that is killed meanwhile calls it again.
        **settings: fields of `ScanConfig`, which win over `config`: `n_classes`, `output`, `memory_gb` and so on.

    Returns:
        The scan.

    Raises:
        DataError: features that cannot be read, or are not finite (the first row is named).
        ScanError: too few rows, constant features, settings out of range, too little memory, an `output` in use.
        TypeError: a keyword that is no setting.
        MissingExtraError: `engine="ray"` without Ray.

    Example:
        >>> import numpy as np
        >>> import pairsift as ps
        >>> rng, classes = np.random.default_rng(0), np.arange(1000) % 5
        >>> features = 4 * rng.standard_normal((5, 16))[classes] + rng.standard_normal((1000, 16))
        >>> features[:50] = (features[:50] + features[1:51]) / 2  # between two classes
        >>> found = ps.scan(features, n_classes=5, threads=1)
        >>> bool(found.scores[:50].mean() > found.scores[50:].mean())
        True
        >>> found.drop(0.05).shape
        (50,)
    """
    say = say or (lambda line: None)
    settled = _settle(config, band, settings)
    source = open_any(features, labels, settled)
    plan = prepare(source, settled, graph)
    fitted = fit(plan, say)
    with _part_files(plan) as parts:
        scores, pairs = merge(_score(plan, fitted, parts, say, progress), settled.max_pairs)
    result = _assemble(plan, fitted, scores, pairs)
    if settled.output is not None:
        result.save(settled.output, settled.drop_fraction)
    if then is not None:
        then(result)
    if plan.parts is not None:
        shutil.rmtree(plan.parts)
    return result


def _settle(config: ScanConfig | int | None, band: RankBand | None, settings: dict[str, Any]) -> ScanConfig:
    if config is None:
        config = ScanConfig()
    elif isinstance(config, (int, np.integer)):
        if "n_classes" in settings:
            raise TypeError("scan() got multiple values for argument 'n_classes'")
        config, settings = ScanConfig(), {"n_classes": config, **settings}
    if not isinstance(config, ScanConfig):
        raise TypeError(f"config must be a ScanConfig or a number of classes, got {type(config).__name__}")
    return config.with_keywords(settings, band)


@contextmanager
def _part_files(plan: Plan) -> Iterator[Path | None]:
    """The folder of part files; where none is wanted but workers elsewhere need one, it is temporary."""
    if plan.parts is not None or plan.config.engine == "local":
        yield plan.parts
        return
    with tempfile.TemporaryDirectory(prefix="pairsift-scan-") as folder:
        yield Path(folder)


def _score(
    plan: Plan, fitted: Fit, parts: Path | None, say: Callable[[str], None],
    progress: Callable[[int, int], None] | None,
) -> Iterator[Part]:  # fmt: skip
    """Score every row that no part file holds yet; all parts, in order."""
    task = Task(
        bare_features(plan.source), fitted.reference, fitted.pair_model, plan.checked.bad, plan.config.max_pairs, parts,
        fitted.label_model, None if fitted.label_model is None else plan.source.labels, plan.config.within,
    )  # fmt: skip
    n = plan.source.shape[0]
    done = n - sum(stop - start for start, stop in task.missing())
    if done:
        say(f"continuing: {done:,} of {n:,} rows are scored")
    report = _counter(progress, done, n)
    if plan.config.engine == "local":
        return run_local(task, plan.threads, report)
    return run_ray(task, plan.config.address, report)


def _assemble(plan: Plan, fitted: Fit, scores: Any, pairs: Any) -> Scan:
    """What was learned and what was scored, as one result."""
    source, reference = plan.source, fitted.reference
    search = CopySearch(
        bare_features(source), reference, plan.checked.bad, scores.column("spacing").to_numpy(), plan.config.seed
    )
    duplicates, leaks = search.duplicates(), None
    if plan.against is not None:
        leaks = search.copies_of(plan.against)
    elif "split" in plan.known.column_names:
        leaks = leaks_between_splits(duplicates, plan.known, source.rows)
    label_scores = label_issues = None
    if fitted.label_model is not None and source.labels is not None:
        by_label = LabelScores(*(scores.column(f"label_{name}").to_numpy() for name in LabelScores._fields))
        label_scores, label_issues = by_label.score, issue_table(source.labels, by_label)
    return Scan(
        scores=scores.column("score").to_numpy(), clusters=scores.column("cluster").to_numpy(),
        indicators=np.stack([scores.column(name).to_numpy() for name in INDICATORS], axis=1),
        plane=np.stack([scores.column(f"pca_{i}").to_numpy() for i in (1, 2)], axis=1),
        neighbours=np.stack([scores.column(name).to_numpy() for name in NEAR_COLUMNS], axis=1),
        pairs=pairs, levels=fitted.levels, levels_error=fitted.levels_error,
        advice=advise(fitted.labelled_levels or fitted.levels),
        labelled_levels=fitted.labelled_levels, n_classes=fitted.n_classes, classes=fitted.classes,
        bridges=reference.bridges, histogram=fitted.histogram, rows=source.rows, known=plan.known,
        settings=plan.identity | {
            "skipped": len(plan.checked.bad), "skipped_rows": plan.checked.bad[:_NAMED_ROWS].tolist(),
            "zero_rows": plan.checked.zeros, "recall": reference.recall,
            "weights": dict(zip(INDICATORS, reference.weights.tolist(), strict=True)),
            "balance": {"ratio": reference.balance.ratio, "distance": reference.balance.distance,
                        "power": reference.balance.power},
            "explained": reference.explained, "search": fitted.search, "map": plan.config.map,
        },
        label_scores=label_scores, label_issues=label_issues, duplicates=duplicates, leaks=leaks,
        map=_map(plan), reference=reference,
    )  # fmt: skip


def _map(plan: Plan) -> FloatArray | None:
    """The map of a sample of the rows, see `Scan.map`."""
    method, n = plan.config.map, plan.source.shape[0]
    if method == "pca":
        return None
    good = np.setdiff1d(np.arange(n), plan.checked.bad, assume_unique=True)
    rows = np.sort(generator(plan.config.seed).choice(good, min(len(good), MAPPED_ROWS), replace=False))
    places = np.full((n, 2), np.nan, np.float32)
    places[rows] = mapped(plan.source.take(rows), method, plan.config.seed)
    return places


def _counter(progress: Callable[[int, int], None] | None, done: int, n: int) -> Callable[[int], None]:
    def count(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(done, n)

    return count


# Rows without a score that scan.json names.
_NAMED_ROWS = 1000
# Rows whose pairs with their nearest say what is usual for near pairs.
_NEAR_ROWS = 1000


@dataclass(frozen=True)
class Fit:
    """What a scan learned from its sample.

    Attributes:
        reference: scores any row.
        pair_model: estimates how probably near rows are of different classes; None where no affinity can be fitted.
        classes: the estimate of the number of classes; None where it was given.
        n_classes: that number.
        levels, levels_error, histogram: similarities by the rank band, see `pairsift.Scan`.
        labelled_levels: by labels, where there are any.
        label_model: scores labels, where there are enough.
        search: how neighbours are found: "graph", "inverted" or "exact".
    """

    reference: Reference
    pair_model: PairModel | None
    classes: ClassEstimate | None
    n_classes: int
    levels: Levels
    levels_error: tuple[float, float, float]
    histogram: Histogram
    labelled_levels: Levels | None
    label_model: LabelModel | None
    search: str


def fit(plan: Plan, say: Callable[[str], None]) -> Fit:
    """Draw the sample and learn from it; the sample is forgotten afterwards."""
    config, rng = plan.config, generator(plan.config.seed)
    rows = _draw(plan, rng)
    sample = plan.source.take(rows)
    scale = float(np.abs(sample).max()) or 1.0
    sample /= scale
    classes, n_classes = None, config.n_classes
    if n_classes is None:
        classes = estimate_classes(sample, config.seed)
        n_classes = classes.n_classes
    inverted = plan.good > EXACT_ROWS
    reference = Reference(sample, scale, rows, n_classes, inverted, config.seed, plan.graph)
    if len(rows) < plan.good:
        recall = f"; recall of neighbours {reference.recall:.1%}" if inverted else ""
        say(f"learned from {len(rows):,} of {plan.good:,} rows{recall}")
    pair_model = _pair_model(plan, reference, sample, say)
    levels, error, histogram = levels_by_ranks(sample, config.band() or usual_band(n_classes), n_classes, rng)
    labels = plan.source.labels
    labelled = levels_by_labels(sample, None if labels is None else labels[rows], rng, say)
    search = "exact" if not inverted else "inverted"
    if plan.graph is not None:
        search = "graph"
    label_model = _label_model(sample, None if labels is None else labels[rows], config.seed, say)
    return Fit(reference, pair_model, classes, n_classes, levels, error, histogram, labelled, label_model, search)


def _label_model(
    sample: NDArray[np.float32], labels: NDArray[np.int64] | None, seed: int, say: Callable[[str], None]
) -> LabelModel | None:
    if labels is None:
        return None
    try:
        return LabelModel(sample, labels, seed)
    except ValueError as error:
        say(f"label errors are not sought: {error}")
        return None


def _pair_model(
    plan: Plan, reference: Reference, sample: NDArray[np.float32], say: Callable[[str], None]
) -> PairModel | None:
    """The model of near pairs, by the guide's features where there is a guide."""
    some = np.linspace(0, len(sample) - 1, min(len(sample), _NEAR_ROWS)).astype(np.int64)
    near = reference.near(some)
    rows, others = np.repeat(some, near.shape[1])[near.ravel() >= 0], near[near >= 0]
    if not len(rows):  # all rows are copies of one
        return None
    features = sample if plan.guide is None else plan.guide.source.take(reference.rows)
    try:
        return PairModel(features, reference.near(np.arange(len(sample))), rows, others, plan.config.seed)
    except AffinityError as error:
        say(
            "close pairs of different clusters are sorted by similarity, the probability of different classes is not "
            f"known: {error}"
        )
        return None


def _draw(plan: Plan, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of the reference rows, ascending: all that are good, or a sample of them."""
    rows = np.setdiff1d(np.arange(plan.source.shape[0]), plan.checked.bad, assume_unique=True)
    return np.sort(rng.choice(rows, plan.size, replace=False)) if plan.size < plan.good else rows
