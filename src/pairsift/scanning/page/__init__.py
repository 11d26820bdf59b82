"""The page of a scan: what is difficult in an embedding set, to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pairsift.report.page import page_template, write_page
from pairsift.scanning.page import figures
from pairsift.scanning.page.examples import Examples
from pairsift.scanning.reference import INDICATORS

if TYPE_CHECKING:
    from pairsift.scanning.result import Scan

# How much of each is shown; steps of the threshold, fewer where there are so many clusters that each has a row of them.
_PAIRS, _EXAMPLES, _TABLE_ROWS = 24, 24, 500
_SCORE_BINS, _MANY_CLUSTERS, _FEWER_BINS = 500, 200, 100


def scan_page(path: Path, scan: Scan, images: Any, labels: NDArray[Any] | None, fraction: float) -> None:
    """Write the page of a scan; see `Scan.report`.

    Raises:
        ValueError: images or labels of another length than the scan.
        OSError: not writable.
    """
    if labels is not None and len(labels) != len(scan):
        raise ValueError(f"the scan has {len(scan):,} rows, got {len(labels):,} labels")
    good = np.flatnonzero(np.isfinite(scan.scores))
    order = good[np.argsort(-scan.scores[good], kind="stable")]
    cutoff = float(scan.scores[order[max(0, round(fraction * len(scan)) - 1)]]) if fraction else 1.0
    n_bins = _FEWER_BINS if scan.n_classes > _MANY_CLUSTERS else _SCORE_BINS
    examples, plane = Examples(scan, images, labels), figures.plane(scan, good)
    write_page(
        path, page_template("scan.html", __name__), title="Difficult examples",
        words=f"{scan.settings['features']}: {len(scan):,} embeddings of {scan.settings['dimensions']} dimensions, "
        "scanned without labels.",
        numbers=_numbers(scan), advice=_advice(scan), band=_band_words(scan), histogram=figures.histogram(scan),
        scores=figures.scores(scan, good, cutoff), bins=n_bins, start=round(cutoff * n_bins),
        pairs=examples.pairs(_PAIRS),
        galleries=[
            ("Most difficult examples", "Highest scores first.", examples.at(order[:_EXAMPLES])),
            ("Least difficult examples", "Lowest scores first.", examples.at(order[::-1][:_EXAMPLES])),
        ],
        plane=plane, explained=[f"{share:.0%}" for share in scan.settings["explained"]],
        n_points=f"{min(figures.POINTS, len(good)):,}", bridges=figures.bridges(scan),
        n_clusters_shown=figures.CLUSTERS if scan.n_classes > figures.CLUSTERS else None,
        n_rows=f"{min(_TABLE_ROWS, len(order)):,}",
        data=_script_data(scan, good, order, labels, n_bins) | {"points": plane.facts},
    )  # fmt: skip


def _numbers(scan: Scan) -> list[tuple[str, str]]:
    """Name and value of what stands on top."""
    levels, error = scan.levels, scan.levels_error
    numbers = [
        ("examples", f"{len(scan):,}"),
        ("classes" if scan.classes is None else "classes, estimated", f"{scan.n_classes}"),
        ("alpha, above the band", _with_error(levels.alpha.mean, error[0])),
        ("gamma, in the band", _with_error(levels.gamma.mean, error[2])),
        ("beta, below the band", _with_error(levels.beta.mean, error[1])),
        ("gamma - beta", f"{levels.gap:.3f}"),
        ("bridging pairs listed", f"{len(scan.pairs):,}"),
    ]
    labelled = scan.labelled_levels
    if labelled is not None:
        numbers += [
            ("alpha by labels", f"{labelled.alpha.mean:.3f}"), ("gamma by labels", f"{labelled.gamma.mean:.3f}"),
            ("beta by labels", f"{labelled.beta.mean:.3f}"),
        ]  # fmt: skip
    return numbers


def _advice(scan: Scan) -> list[str]:
    """What is to be said of the classes and of rows left out, then the theory's reasons."""
    notes = [scan.classes.words] if scan.classes is not None else []
    if scan.settings["skipped"]:
        notes.append(f"{scan.settings['skipped']:,} rows were not finite and are left out")
    if scan.settings["zero_rows"]:
        notes.append(f"{scan.settings['zero_rows']:,} rows are all zero: failed embeddings?")
    return [*notes, *scan.advice.reasons]


def _with_error(value: float, error: float) -> str:
    return f"{value:.3f}" + (f" ± {1.96 * error:.3f}" if error else "")


def _band_words(scan: Scan) -> str:
    band = scan.settings["band"]
    if band is None:
        return f"one to two shares of 1 / {scan.n_classes} classes"
    start, stop = band.values()
    return f"{start:g} to {stop:g} of every row"


def _script_data(
    scan: Scan, good: NDArray[np.int64], order: NDArray[np.int64], labels: NDArray[Any] | None, n_bins: int
) -> dict[str, Any]:
    """What the page's script works on: numbers of examples by cluster and score, and the rows of the table."""
    edges = np.linspace(0, 1, n_bins + 1)
    cells = np.clip(np.searchsorted(edges, scan.scores[good], side="right") - 1, 0, n_bins - 1)
    flat = np.bincount(scan.clusters[good] * n_bins + cells, minlength=scan.n_classes * n_bins)
    top = order[:_TABLE_ROWS]
    columns: dict[str, Sequence[Any]] = {
        "row": scan.rows[top].tolist(), "score": np.round(scan.scores[top], 4).tolist(),
        "cluster": scan.clusters[top].tolist(),
    }  # fmt: skip
    if labels is not None:
        columns["label"] = np.asarray(labels)[top].tolist()
    if scan.paths is not None:
        columns["path"] = [scan.paths[each] for each in top.tolist()]
    columns |= {name: np.round(scan.signs[top, i].astype(float), 2).tolist() for i, name in enumerate(INDICATORS)}
    return {
        "bins": flat.reshape(scan.n_classes, n_bins).tolist(), "nBins": n_bins, "columns": list(columns),
        "rows": [list(row) for row in zip(*columns.values(), strict=True)],
    }  # fmt: skip
