"""The page of a scan: difficult examples, close pairs of different clusters, and figures, in one HTML file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pairsift._base.words import counted
from pairsift.report.drawing import COLOURS, Axis, Drawing, Line, Mark, bars, points
from pairsift.report.page import page_template, write_page
from pairsift.scanning.reference import INDICATORS
from pairsift.scanning.scanned import _Scanned
from pairsift.scanning.thumbnails import open_images, thumbnails

# How much of each is shown; steps of the threshold, fewer where there are so many clusters that each has a row of them.
_PAIRS, _EXAMPLES, _TABLE_ROWS = 24, 24, 500
# Groups of copies, rows shown of each, and characters of what is kept of a row.
_GROUPS, _OF_GROUP, _CHARACTERS = 12, 4, 160
_SCORE_BINS, _MANY_CLUSTERS, _FEWER_BINS = 500, 200, 100


def scan_page(path: Path, scan: _Scanned, images: Any, labels: Sequence[Any] | None, fraction: float) -> None:
    """Write the page of a scan; see `Scan.report`.

    Raises:
        ValueError: images or labels of another number than the rows.
        OSError: not writable.
    """
    if labels is not None and len(labels) != len(scan):
        raise ValueError(f"the scan has {len(scan):,} rows, got {counted(len(labels), 'label')}")
    good = np.flatnonzero(np.isfinite(scan.scores))
    order = good[np.argsort(-scan.scores[good], kind="stable")]
    dropped = scan._hardest(fraction, None)
    cutoff = float(scan.scores[dropped[-1]]) if len(dropped) else 1.0
    n_bins = _FEWER_BINS if scan.n_classes > _MANY_CLUSTERS else _SCORE_BINS
    first, last = order[:_EXAMPLES], order[::-1][:_EXAMPLES]
    listed = scan.pairs.slice(0, _PAIRS)
    ends = np.concatenate([listed.column(name).to_numpy() for name in ("anchor", "other")])
    issues = [] if scan.label_issues is None else scan.label_issues.slice(0, _EXAMPLES).to_pylist()
    wrong = [row[name] for row in issues for name in ("position", "nearest_other") if row[name] >= 0]
    groups = _groups(scan.duplicates)
    copied = [position for group in groups for position in group.positions]
    shown = [*np.concatenate([first, last, ends]).tolist(), *wrong, *copied]
    examples = Examples(scan, images, labels, shown, around=first.tolist())
    points = plane(scan, good)
    write_page(
        path, page_template("scan.html", "pairsift.scanning"), title="Difficult examples",
        words=f"{scan.settings['features']}: {len(scan):,} embeddings of "
        f"{counted(scan.settings['dimensions'], 'dimension')}, {_scored(scan)}.",
        most=[(example, examples.near(position)) for example, position in zip(examples.at(first), first, strict=True)],
        least=examples.at(last), pairs=examples.pairs(_PAIRS),
        issues=examples.issues(issues), n_issues=None if scan.label_issues is None
        else counted(len(scan.label_issues), "label that other rows contradict", "labels that other rows contradict"),
        groups=[(examples.at(np.array(each.positions)), each.size) for each in groups],
        n_copies=None if scan.duplicates is None else counted(
            int((~scan.duplicates["keep"].to_numpy()).sum()), "row is an exact or near copy",
            "rows are exact or near copies",
        ),
        numbers=_numbers(scan), notes=scan.notes, scores=scores(scan, good, cutoff), bins=n_bins,
        start=math.floor(cutoff * n_bins), plane=points, map_words=_map_words(scan), n_points=f"{len(points.facts):,}",
        bridges=bridges(scan), n_rows=f"{_TABLE_ROWS:,}" if len(order) > _TABLE_ROWS else None,
        n_clusters_shown=CLUSTERS if scan.n_classes > CLUSTERS else None,
        levels=_level_numbers(scan), advice=scan.advice.reasons,
        advised_by="the rank band" if scan.labelled_levels is None else "labels",
        band=_band_words(scan), histogram=histogram(scan),
        data=_script_data(scan, good, order, labels, n_bins) | {
            "points": points.facts, "names": _names(scan, points.facts, examples), "cutoff": cutoff,
            "listed": np.bincount(scan.clusters[dropped], minlength=scan.n_classes).tolist(),
        },
    )  # fmt: skip


class _Group(NamedTuple):
    """The first positions of a group of copies, the one to keep in front, and the number of all."""

    positions: list[int]
    size: int


def _groups(duplicates: pa.Table | None) -> list[_Group]:
    """The largest groups of copies."""
    if duplicates is None:
        return []
    group, position = (duplicates.column(name).to_numpy() for name in ("group", "position"))
    found = []
    for number in range(min(_GROUPS, int(group.max(initial=-1)) + 1)):
        members = position[group == number]
        found.append(_Group(members[:_OF_GROUP].tolist(), len(members)))
    return found


def _numbers(scan: _Scanned) -> list[tuple[str, str]]:
    """Name and value of the counts on top."""
    return [
        ("examples", f"{len(scan):,}"),
        ("classes" if scan.classes is None else "classes, estimated without labels", f"{scan.n_classes}"),
        ("median score", f"{np.nanmedian(scan.scores):.2f}"),
        ("close pairs of different clusters", f"{len(scan.pairs):,}"),
    ]


def _scored(scan: _Scanned) -> str:
    """Whether labels were given, and that the scores use none."""
    known = scan.labels
    if known is None or not (known >= 0).any():
        return "scored without labels"
    return f"scored without their labels of {counted(len(np.unique(known[known >= 0])), 'class', 'classes')}"


def _level_numbers(scan: _Scanned) -> list[tuple[str, str]]:
    """Name and value of the theory's levels."""
    levels, error = scan.levels, scan.levels_error
    numbers = [
        ("alpha, above the band", _with_error(levels.alpha.mean, error[0])),
        ("gamma, in the band", _with_error(levels.gamma.mean, error[2])),
        ("beta, below the band", _with_error(levels.beta.mean, error[1])),
        ("gamma - beta, by the band", f"{levels.gap:.3f}"),
    ]
    labelled = scan.labelled_levels
    if labelled is not None:
        numbers += [
            ("alpha by labels", f"{labelled.alpha.mean:.3f}"), ("gamma by labels", f"{labelled.gamma.mean:.3f}"),
            ("beta by labels", f"{labelled.beta.mean:.3f}"), ("gamma - beta by labels", f"{labelled.gap:.3f}"),
        ]  # fmt: skip
    return numbers


def _with_error(value: float, error: float) -> str:
    return f"{value:.3f}" + (f" ± {1.96 * error:.3f}" if error else "")


def _band_words(scan: _Scanned) -> str:
    band = scan.settings["band"]
    if band is None:
        return f"one to two shares of 1 / {scan.n_classes} classes"
    start, stop = band.values()
    return f"{start:g} to {stop:g} of every row"


def _map_words(scan: _Scanned) -> str:
    """What places the examples on the map, and what is lost."""
    if scan.map is not None:
        method = {"umap": "UMAP", "tsne": "t-SNE"}[scan.settings["map"]]
        return f"A map by {method}: near examples are alike, distances between groups mean little."
    first, second = (f"{share:.0%}" for share in scan.settings["explained"])
    return (
        f"First two principal components ({first} and {second} of the variance); most of the structure lies outside of "
        "this plane."
    )


def _names(scan: _Scanned, points: list[tuple[int, int, int, float, int]], examples: Examples) -> dict[int, str] | None:
    """Ids by row of the examples that the page shows; None where rows have none."""
    if "id" not in scan.known.column_names:
        return None
    shown = {row for _, _, row, _, _ in points} | examples.rows
    at = np.flatnonzero(np.isin(scan.rows, list(shown)))
    names = scan.known["id"].take(at).to_pylist()
    return {int(row): str(name) for row, name in zip(scan.rows[at], names, strict=True)}


def _script_data(
    scan: _Scanned, good: NDArray[np.int64], order: NDArray[np.int64], labels: Sequence[Any] | None, n_bins: int
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
    columns |= {name: np.round(scan.indicators[top, i].astype(float), 2).tolist() for i, name in enumerate(INDICATORS)}
    return {
        "bins": flat.reshape(scan.n_classes, n_bins).tolist(), "nBins": n_bins, "columns": list(columns),
        "rows": [list(row) for row in zip(*columns.values(), strict=True)],
    }  # fmt: skip


class Example(NamedTuple):
    """Facts of an example; `image` is a data address, empty for one that cannot be read, None where there are none.

    `name` is its id or path, and `text` the kept columns; both may be empty.
    """

    row: int
    name: str
    text: str
    cluster: int
    score: str
    label: str | None
    image: str | None


class Pair(NamedTuple):
    """A close pair of different clusters; `probability` of different classes is None where it is not known."""

    anchor: Example
    other: Example
    similarity: str
    probability: str | None


# Columns of `Scan.known` that are shown elsewhere; further ones were kept to be shown.
_KNOWN = ("id", "split", "path", "label", "class", "file", "file_row")


class Issue(NamedTuple):
    """A probably wrong label, with the nearest example of another class; `other` is None where none is near."""

    example: Example
    other: Example | None
    suggested: str
    score: str


class Examples:
    """Examples of a scan by their positions.

    Args:
        scan: that they are of.
        images: see `Scan.report`.
        labels: (N,) classes to name, or None.
        positions: of all examples that will be asked for.
        around: positions whose nearest rows will be asked for.

    Raises:
        DataError: images of another number than the rows, or none that can be read.
    """

    def __init__(
        self, scan: _Scanned, images: Any, labels: Sequence[Any] | None, positions: Sequence[int],
        around: Sequence[int] = (),
    ) -> None:  # fmt: skip
        self._scan, self._labels = scan, labels
        self._kept = [name for name in scan.known.column_names if name not in _KNOWN]
        self.rows = {int(scan.rows[position]) for position in positions}
        self._images: dict[int, str] | None = None
        if images is not None:
            opened = open_images(images, scan.rows, scan.paths)
            nearest = [other for position in around for other in self._near(position).tolist()]
            self._images = thumbnails(opened, positions, nearest)

    def pairs(self, most: int) -> list[Pair]:
        """The first pairs of different clusters."""
        return [
            Pair(
                self._example(pair["anchor"]),
                self._example(pair["other"]),
                f"{pair['similarity']:.3f}",
                None if math.isnan(pair["probability"]) else f"{pair['probability']:.0%}",
            )
            for pair in self._scan.pairs.slice(0, most).to_pylist()
        ]

    def issues(self, rows: list[dict[str, Any]]) -> list[Issue]:
        """Rows of `Scan.label_issues`, classes by the names that examples have."""
        names: dict[int, str] = {}
        known = self._scan.labels
        if known is not None and self._labels is not None:
            values, first = np.unique(known, return_index=True)
            names = {int(value): str(self._labels[at]) for value, at in zip(values, first.tolist(), strict=True)}
        return [
            Issue(
                self._example(row["position"]),
                self._example(row["nearest_other"]) if row["nearest_other"] >= 0 else None,
                names.get(row["suggested"], str(row["suggested"])),
                f"{row['score']:.3f}",
            )
            for row in rows
        ]

    def at(self, positions: NDArray[np.int64]) -> list[Example]:
        """The examples at some positions, in order."""
        return [self._example(position) for position in positions.tolist()]

    def near(self, position: int) -> list[Example]:
        """The nearest examples, nearest first."""
        return self.at(self._near(position))

    def _near(self, position: int) -> NDArray[np.int64]:
        if self._scan.neighbours is None:
            return np.zeros(0, np.int64)
        near: NDArray[np.int64] = self._scan.neighbours[position]
        return near[near >= 0]

    def _example(self, position: int) -> Example:
        scan, known = self._scan, self._scan.known
        name = next((str(known[each][position]) for each in ("id", "path") if each in known.column_names), "")
        words = " | ".join(str(known[each][position].as_py()) for each in self._kept)
        if len(words) > _CHARACTERS:
            words = words[:_CHARACTERS] + "..."
        return Example(
            row=int(scan.rows[position]), name=name, text=words, cluster=int(scan.clusters[position]),
            score=f"{scan.scores[position]:.3f}", label=None if self._labels is None else str(self._labels[position]),
            image=None if self._images is None else self._images[position],
        )  # fmt: skip


# How many examples and clusters are shown, and steps of the scores' colours.
POINTS, CLUSTERS, SHADES = 3000, 40, 5


def histogram(scan: _Scanned) -> Drawing:
    """Shares of similarities above, in and below the band, and the three levels."""
    edges, counts = scan.histogram.edges, scan.histogram.counts
    used = np.flatnonzero(counts.sum(axis=0))
    low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, len(edges) - 1)
    shares = counts[:, low:high] / max(1, int(counts.sum()))
    x = Axis(float(edges[low]), float(edges[high]), "cosine similarity")
    y = Axis(0.0, float(shares.sum(axis=0).max(initial=0)) * 1.05 or 1.0, "share of pairs")
    kinds = (("above the band", "c"), ("in the band", "b"), ("below the band", "d"))
    base, marks = np.zeros(high - low), []
    for heights, (name, colour) in zip(shares, kinds, strict=True):
        marks.append(Mark(bars(x, y, edges[low : high + 1], base, heights), f"bars {colour}", name))
        base = base + heights
    levels = {"alpha": scan.levels.alpha.mean, "gamma": scan.levels.gamma.mean, "beta": scan.levels.beta.mean}
    dashes = ("a", "a dash", "a dot")
    lines = [
        Line(float(x.along(mean)), dash, name, i % 2)
        for i, ((name, mean), dash) in enumerate(zip(levels.items(), dashes, strict=True))
        if np.isfinite(mean)
    ]
    words = ", ".join(f"{name} {mean:.3f}" for name, mean in levels.items())
    return Drawing("histogram", f"Histogram of the similarities of pairs; {words}", x, y, marks, lines)


def scores(scan: _Scanned, good: NDArray[np.int64], cutoff: float) -> Drawing:
    """How many of the examples at positions `good` score how much; the line is the threshold."""
    counts, edges = np.histogram(scan.scores[good], 100, (0, 1))
    x, y = Axis(0.0, 1.0, "score"), Axis(0.0, float(counts.max(initial=1)) * 1.05, "examples")
    marks = [Mark(bars(x, y, edges, np.zeros(100), counts), "bars c")]
    median = f"{np.median(scan.scores[good]):.2f}" if len(good) else "unknown"
    words = f"Histogram of the scores, whose median is {median}; a line marks the threshold"
    return Drawing("scores", words, x, y, marks, [Line(float(x.along(cutoff)), "b strong")])


class Plane(NamedTuple):
    """Examples in two principal components: coloured by score, by cluster, and what scripts say of each.

    Attributes:
        by_score: drawing.
        by_cluster: drawing of the same points.
        facts: place from left and from top, row, score and cluster of each point.
    """

    by_score: Drawing
    by_cluster: Drawing
    facts: list[tuple[int, int, int, float, int]]


def plane(scan: _Scanned, good: NDArray[np.int64]) -> Plane:
    """At most `POINTS` examples of the positions `good`, the most difficult on top."""
    places, what = (scan.plane, "component") if scan.map is None else (scan.map, "dimension of the map")
    good = good[np.isfinite(places[good, 0])]
    chosen = np.random.default_rng(0).choice(good, min(POINTS, len(good)), replace=False)
    chosen = chosen[np.argsort(scan.scores[chosen], kind="stable")]
    place, value, cluster = places[chosen].astype(np.float64), scan.scores[chosen], scan.clusters[chosen]
    x, y = (_around(place[:, i], f"{name} {what}") for i, name in enumerate(("first", "second")))
    shade = np.minimum((value * SHADES).astype(int), SHADES - 1)
    by_score = [
        Mark(points(x, y, *place[shade == i].T), f"points s{i}", f"score from {i / SHADES:g}") for i in range(SHADES)
    ]
    named = scan.n_classes <= 2 * len(COLOURS)
    by_cluster = [
        Mark(points(x, y, *place[cluster == each].T), _look(each), f"cluster {each}" if named else None)
        for each in np.unique(cluster).tolist()
    ]
    where = "in the plane of their first two principal components" if scan.map is None else "on a map"
    words = f"{len(chosen):,} examples {where}, coloured by"
    across, down = x.along(place[:, 0]).round().astype(int), (1000 - y.along(place[:, 1])).round().astype(int)
    facts = zip(across.tolist(), down.tolist(), scan.rows[chosen].tolist(), np.round(value, 3).tolist(),
                cluster.tolist(), strict=True)  # fmt: skip
    return Plane(
        Drawing("by-score", f"{words} score", x, y, by_score),
        Drawing("by-cluster", f"{words} cluster", x, y, by_cluster), list(facts),
    )  # fmt: skip


class Bridges(NamedTuple):
    """Shares of links from cluster to cluster: names of both, and a row of shares for each, None inside a cluster."""

    names: list[int]
    rows: list[list[float | None]]
    largest: float


def bridges(scan: _Scanned) -> Bridges:
    """Share of links that lead from each cluster to each other one, for the `CLUSTERS` with the most links."""
    totals = scan.bridges.sum(axis=1)
    chosen = np.sort(np.argsort(-totals, kind="stable")[:CLUSTERS])
    shares = (scan.bridges / np.maximum(totals[:, None], 1))[np.ix_(chosen, chosen)]
    np.fill_diagonal(shares, np.nan)
    rows = [[None if np.isnan(share) else float(share) for share in row] for row in shares]
    return Bridges(chosen.tolist(), rows, float(np.nan_to_num(shares).max(initial=0)) or 1.0)


def _around(values: NDArray[np.float64], title: str) -> Axis:
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 1.0)
    margin = 0.03 * (high - low) or 1.0
    return Axis(low - margin, high + margin, title)


def _look(cluster: int) -> str:
    """Colours, then the same with square ends."""
    square = " square" if cluster // len(COLOURS) % 2 else ""
    return f"points {COLOURS[cluster % len(COLOURS)]}{square}"
