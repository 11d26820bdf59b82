"""The first stage of a scan: everything that is learned from a sample of the rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pairsift.neighbors import FLAT_LIMIT, generator
from pairsift.same_class import AffinityError
from pairsift.scanning.bridges import Judge
from pairsift.scanning.classes import ClassEstimate, estimate_classes
from pairsift.scanning.levels import levels_by_labels, levels_by_ranks, usual_band
from pairsift.scanning.plan import Plan
from pairsift.scanning.reference import Reference
from pairsift.scanning.result import Histogram
from pairsift.theory import Levels

# Rows whose pairs with their nearest say what is usual for near pairs.
_NEAR_ROWS = 1000


@dataclass(frozen=True)
class Fit:
    """What a scan learned from its sample.

    Attributes:
        reference: scores any row.
        judge: says how probably near rows are of different classes; None where no affinity can be fitted.
        classes: the estimate of the number of classes; None where it was given.
        n_classes: that number.
        levels, levels_error, histogram: similarities by the rank band, see `pairsift.Scan`.
        labelled_levels: by labels, where there are any.
        search: how neighbours are found: "graph", "inverted" or "exact".
    """

    reference: Reference
    judge: Judge | None
    classes: ClassEstimate | None
    n_classes: int
    levels: Levels
    levels_error: tuple[float, float, float]
    histogram: Histogram
    labelled_levels: Levels | None
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
        say(f"{classes.words}; `n_classes` sets the number")
    inverted = plan.good > FLAT_LIMIT
    reference = Reference(sample, scale, rows, n_classes, inverted, config.seed, plan.graph)
    if len(rows) < plan.good:
        recall = f"; recall of neighbours {reference.recall:.1%}" if inverted else ""
        say(f"learned from {len(rows):,} of {plan.good:,} rows{recall}")
    judge = _judge(plan, reference, sample, say)
    levels, error, histogram = levels_by_ranks(sample, config.band() or usual_band(n_classes), n_classes, rng)
    labels = plan.source.labels
    labelled = levels_by_labels(sample, None if labels is None else labels[rows], rng, say)
    search = "exact" if not inverted else "inverted"
    if plan.graph is not None:
        search = "graph"
    return Fit(reference, judge, classes, n_classes, levels, error, histogram, labelled, search)


def _judge(plan: Plan, reference: Reference, sample: NDArray[np.float32], say: Callable[[str], None]) -> Judge | None:
    """What judges pairs, by the guide's features where there is a guide."""
    some = np.linspace(0, len(sample) - 1, min(len(sample), _NEAR_ROWS)).astype(np.int64)
    near = reference.near(sample[some], reference.rows[some])
    judged = sample if plan.guide is None else plan.guide.source.take(reference.rows)
    try:
        return Judge(judged, np.repeat(some, near.shape[1])[near.ravel() >= 0], near[near >= 0], plan.config.seed)
    except AffinityError as error:
        say(f"bridging pairs are sorted by similarity, the probability of different classes is not known: {error}")
        return None


def _draw(plan: Plan, rng: np.random.Generator) -> NDArray[np.int64]:
    """Positions of the reference rows, ascending: all that are good, or a sample of them."""
    rows = np.setdiff1d(np.arange(plan.source.shape[0]), plan.checked.bad, assume_unique=True)
    return np.sort(rng.choice(rows, plan.size, replace=False)) if plan.size < plan.good else rows
