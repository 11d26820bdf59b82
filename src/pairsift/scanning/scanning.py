"""`pairsift.scan`: from embeddings without labels to difficult examples and bridging pairs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairsift.data.features import bare_features
from pairsift.pairs import RankBand
from pairsift.scanning.arguments import open_any
from pairsift.scanning.config import ScanConfig
from pairsift.scanning.fitting import Fit, fit
from pairsift.scanning.plan import Plan, prepare
from pairsift.scanning.reference import INDICATORS
from pairsift.scanning.result import Scan
from pairsift.scanning.work import Part, Task, merge, run_local, run_ray
from pairsift.theory import advise


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
        features: (N, D) array or tensor, a path (`pairsift.data.open_features`), or a `FeatureSource`.
        config: the settings, all of which may be given as keywords instead; a bare number is `n_classes`.
        band: rank band that the levels are measured with, `pos_high` and `pos_low` in one; None takes the config's.
        labels: (N,) classes of an array, for labelled levels only: the score never looks at them.
        graph: neighbours (N, k) by descending cosine, positions without the row itself, and their cosines (N, k), to
            use instead of a search. Needs all rows in the reference.
        say: told in words what is done.
        progress: told how many rows of how many are scored.
        then: given the scan when it is saved, to write what goes with it (its page, say) before the folder counts as
            finished: a scan that is killed meanwhile does it anew.
        **settings: fields of `ScanConfig`, which win over `config`: `n_classes`, `out`, `memory` and so on.

    Returns:
        The scan.

    Raises:
        DataError: features that cannot be read, or are not finite (the first row is named).
        ScanError: too few rows, constant features, settings out of range, too little memory, an `out` in use.
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
    source = open_any(features, labels, settled.label_column)
    plan = prepare(source, settled, graph, say)
    fitted = fit(plan, say)
    with _part_files(plan) as parts:
        scores, pairs = merge(_score(plan, fitted, parts, say, progress), settled.max_pairs)
    result = _assemble(plan, fitted, scores, pairs)
    if settled.out is not None:
        result.save(settled.out, settled.fraction)
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
        bare_features(plan.source), fitted.reference, fitted.judge, plan.checked.bad, plan.config.max_pairs, parts
    )
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
    return Scan(
        scores=scores.column("score").to_numpy(), clusters=scores.column("cluster").to_numpy(),
        signs=np.stack([scores.column(name).to_numpy() for name in INDICATORS], axis=1),
        plane=np.stack([scores.column(f"pca_{i}").to_numpy() for i in (1, 2)], axis=1),
        pairs=pairs, levels=fitted.levels, levels_error=fitted.levels_error, advice=advise(fitted.levels),
        labelled_levels=fitted.labelled_levels, n_classes=fitted.n_classes, classes=fitted.classes,
        bridges=reference.bridges, histogram=fitted.histogram, rows=source.rows, labels=source.labels,
        paths=source.paths,
        settings=plan.identity | {
            "skipped": len(plan.checked.bad), "zero_rows": plan.checked.zeros, "recall": reference.recall,
            "weights": dict(zip(INDICATORS, reference.weights.tolist(), strict=True)),
            "explained": reference.explained, "search": fitted.search,
        },
    )  # fmt: skip


def _counter(progress: Callable[[int, int], None] | None, done: int, n: int) -> Callable[[int], None]:
    def count(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(done, n)

    return count
