"""The page of a scan: what is difficult in an embedding set, to look at."""

from __future__ import annotations

import base64
import html
import importlib.resources
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from pairsift.curate import SIGNS, Scan
from pairsift.data import ArraySource, open_source
from pairsift.report.page import DASHES, INK, SYMBOLS, Section, styled, write_page

# How much of each is shown.
_PAIRS, _EXAMPLES, _POINTS, _TABLE_ROWS, _CLUSTERS = 24, 24, 3000, 500, 40
_SCORE_BINS = 500
_THUMBNAIL = 96


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
    shown = _Shown(scan, images, labels)
    sections = [
        Section("Similarity by rank band", _histogram_words(scan), _histogram(scan), name="histogram"),
        Section(
            "What to drop",
            "Move the threshold: examples that score at least so much are dropped. 0.5 is this set's typical example, "
            "0.85 one robust spread above it, 0.95 two.",
            _scores(scan, good, cutoff), _dropping(cutoff), "scores",
        ),
        Section(
            "Strongest bridging pairs",
            "Neighbours in different clusters, by cosine after centring."
            + ("" if len(scan.pairs) else " None was found."),
            markup=shown.pairs(),
        ),
        Section("Most difficult examples", "Highest scores first.", markup=shown.examples(order[:_EXAMPLES])),
        Section("Least difficult examples", "Lowest scores first.", markup=shown.examples(order[::-1][:_EXAMPLES])),
        Section("The set in two dimensions", _plane_words(scan, good), _plane(scan, good), _COLOURS, "plane"),
        Section("Bridges between clusters", _bridges_words(scan), _bridges(scan), name="bridges"),
        Section(
            "The most difficult examples as a table",
            f"The {min(_TABLE_ROWS, len(order)):,} highest scores; scores.parquet has every row. The last five columns "
            "are what the score is made of, in robust spreads above the typical example.",
            markup=_table_markup(),
        ),
    ]  # fmt: skip
    data = _script_data(scan, good, order, labels, cutoff)
    write_page(
        path, "Difficult examples", f"{scan.settings['features']}: {len(scan):,} embeddings of "
        f"{scan.settings['dimensions']} dimensions, scanned without labels.", sections,
        top=_headline(scan), style=_resource("scan.css"), script=f"const scan = {data};\n{_resource('scan.js')}",
    )  # fmt: skip


class _Shown:
    """Examples as markup: thumbnails where there are images, facts always."""

    def __init__(self, scan: Scan, images: Any, labels: NDArray[Any] | None) -> None:
        self._scan, self._labels = scan, labels
        self._image = None if images is None else _opener(scan, images)

    def pairs(self) -> str:
        rows = self._scan.pairs.slice(0, _PAIRS).to_pylist()
        cards = []
        for pair in rows:
            both = np.array([pair["anchor"], pair["other"]])
            cards.append(
                f'<li><span class="pair">{"".join(self._picture(each) for each in both.tolist())}</span>'
                f"<b>{pair['similarity']:.3f}</b> clusters {pair['anchor_cluster']}, {pair['other_cluster']}<br>"
                + "<br>".join(self._facts(each) for each in both.tolist()) + "</li>"
            )  # fmt: skip
        return f'<ul class="gallery pairs">{"".join(cards)}</ul>' if cards else ""

    def examples(self, positions: NDArray[np.int64]) -> str:
        cards = (
            f"<li>{self._picture(each)}<b>{self._scan.scores[each]:.3f}</b> cluster {self._scan.clusters[each]}<br>"
            f"{self._facts(each)}</li>"
            for each in positions.tolist()
        )
        return f'<ul class="gallery">{"".join(cards)}</ul>'

    def _facts(self, position: int) -> str:
        label = "" if self._labels is None else f", label {self._labels[position]}"
        return html.escape(f"row {self._scan.rows[position]}{label}")

    def _picture(self, position: int) -> str:
        if self._image is None:
            return ""
        try:
            image = self._image(position).convert("RGB")
        except (OSError, SyntaxError, UnidentifiedImageError):  # what PIL raises on damaged bytes
            return '<span class="none">no image</span>'
        image.thumbnail((_THUMBNAIL, _THUMBNAIL))
        buffer = io.BytesIO()
        small = image.width * image.height <= 64 * 64
        image.save(buffer, "PNG") if small else image.save(buffer, "JPEG", quality=85)
        kind, text = "png" if small else "jpeg", base64.b64encode(buffer.getvalue()).decode()
        return f'<img alt="row {self._scan.rows[position]}" src="data:image/{kind};base64,{text}">'


def _resource(name: str) -> str:
    return importlib.resources.files("pairsift.report").joinpath(name).read_text()


def _opener(scan: Scan, images: Any) -> Callable[[int], Image.Image]:
    """How to get the image of a position, whatever the images are given as."""
    if isinstance(images, (str, Path)):
        source = open_source(str(images))
        counted = np.array_equal(scan.rows, np.arange(len(scan)))
        if (counted and len(source) != len(scan)) or len(source) <= scan.rows.max():
            raise ValueError(
                f"{images} has {len(source):,} images, the scan {len(scan):,} rows up to row {scan.rows.max():,}: give "
                "the images that the features were computed from, or features with a column 'row'"
            )
        return lambda position: source.image(int(scan.rows[position]))
    if len(images) != len(scan):
        raise ValueError(f"the scan has {len(scan):,} rows, got {len(images):,} images")
    if isinstance(images, np.ndarray):
        return ArraySource(images, name="images").image
    return lambda position: Image.fromarray(np.ascontiguousarray(images[np.array([position])][0].transpose(1, 2, 0)))


def _headline(scan: Scan) -> str:
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
    cells = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in numbers)
    notes = [scan.classes.words] if scan.classes is not None else []
    if scan.settings["skipped"]:
        notes.append(f"{scan.settings['skipped']:,} rows were not finite and are left out")
    if scan.settings["zero_rows"]:
        notes.append(f"{scan.settings['zero_rows']:,} rows are all zero: failed embeddings?")
    advice = "".join(f"<li>{html.escape(reason)}</li>" for reason in (*notes, *scan.advice.reasons))
    return f'<dl class="numbers">{cells}</dl><h2>Advice</h2><ul class="advice">{advice}</ul>'


def _with_error(value: float, error: float) -> str:
    return f"{value:.3f}" + (f" ± {1.96 * error:.3f}" if error else "")


def _histogram_words(scan: Scan) -> str:
    return (
        "Cosine similarity of pairs in the sample: ranked above the band (taken as class-mates), in it (difficult), "
        f"below it (easy). The band is {_band_words(scan)}. Vertical lines mark alpha, gamma and beta, the three means."
    )


def _band_words(scan: Scan) -> str:
    band = scan.settings["band"]
    if band is None:
        return f"one to two shares of 1 / {scan.n_classes} classes"
    return f"{band['high']:g} to {band['low']:g} of every row"


def _histogram(scan: Scan) -> go.Figure:
    edges, figure = scan.histogram.edges, go.Figure()
    used = np.flatnonzero(scan.histogram.counts.sum(axis=0))
    low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, len(edges) - 1)
    middles = (edges[1:] + edges[:-1])[low:high] / 2
    names = (("above the band", INK[2], ""), ("in the band", INK[1], "/"), ("below the band", INK[3], "."))
    total = max(1, int(scan.histogram.counts.sum()))
    for counts, (name, colour, pattern) in zip(scan.histogram.counts, names, strict=True):
        marker = {"color": colour, "pattern": {"shape": pattern, "fgcolor": "#fff", "size": 5}}
        figure.add_bar(x=middles, y=counts[low:high] / total, name=name, marker=marker)
    levels = (("alpha", scan.levels.alpha), ("gamma", scan.levels.gamma), ("beta", scan.levels.beta))
    for i, (name, level) in enumerate(levels):
        if np.isfinite(level.mean):
            figure.add_vline(
                x=level.mean, line={"dash": DASHES[i], "color": INK[0]}, annotation_text=name,
                annotation_position="top", annotation_yshift=14 * (i % 2),
            )  # fmt: skip
    figure.update_layout(barmode="stack", bargap=0)
    return styled(figure, "cosine similarity", "share of pairs").update_layout(margin={"t": 50})


def _scores(scan: Scan, good: NDArray[np.int64], cutoff: float) -> go.Figure:
    counts, edges = np.histogram(scan.scores[good], 100, (0, 1))
    figure = go.Figure(
        go.Bar(x=(edges[1:] + edges[:-1]) / 2, y=counts, marker={"color": INK[2]}, name="examples", showlegend=False)
    )
    figure.add_vline(x=cutoff, line={"color": INK[1], "width": 3})
    figure.update_layout(bargap=0)
    return styled(figure, "score", "examples").update_layout(height=320)


def _plane_words(scan: Scan, good: NDArray[np.int64]) -> str:
    first, second = scan.settings["explained"]
    return (
        f"First two principal components ({first:.0%} and {second:.0%} of the variance) of "
        f"{min(_POINTS, len(good)):,} examples; most of the structure lies outside of this plane."
    )


def _plane(scan: Scan, good: NDArray[np.int64]) -> go.Figure:
    chosen = np.sort(np.random.default_rng(0).choice(good, min(_POINTS, len(good)), replace=False))
    clusters = scan.clusters[chosen]
    scale = {"title": "score", "orientation": "h", "y": -0.35, "thickness": 14}
    scatter = go.Scatter(
        x=scan.plane[chosen, 0], y=scan.plane[chosen, 1], mode="markers", name="examples", showlegend=False,
        marker={
            "color": scan.scores[chosen].tolist(), "colorscale": "Cividis", "colorbar": scale, "size": 6,
            "opacity": 0.8,
            "symbol": [SYMBOLS[cluster // len(INK) % len(SYMBOLS)] for cluster in clusters],
        },
        text=[
            f"row {row}<br>score {score:.3f}<br>cluster {cluster}"
            for row, score, cluster in zip(scan.rows[chosen], scan.scores[chosen], clusters, strict=True)
        ],
        hoverinfo="text", customdata=[INK[cluster % len(INK)] for cluster in clusters],
    )  # fmt: skip
    figure = styled(go.Figure(scatter), "first component", "second component")
    return figure.update_layout(height=560, margin={"b": 110})


def _bridges_words(scan: Scan) -> str:
    shown = min(_CLUSTERS, scan.n_classes)
    part = "" if shown == scan.n_classes else f" The {shown} clusters with the most links are shown."
    return (
        "Of the links from a cluster's examples (row) to their ten nearest neighbours, the share that ends in each "
        f"other cluster (column). Links inside a cluster are left out.{part}"
    )


def _bridges(scan: Scan) -> go.Figure:
    totals = scan.bridges.sum(axis=1)
    chosen = np.sort(np.argsort(-totals, kind="stable")[:_CLUSTERS])
    shares = scan.bridges / np.maximum(totals[:, None], 1)
    inside = np.eye(len(shares), dtype=bool)
    values = np.where(inside, np.nan, shares)[np.ix_(chosen, chosen)]
    names = [str(each) for each in chosen]
    text = [["" if np.isnan(v) else f"{100 * v:.0f}" for v in row] for row in values] if len(chosen) <= 15 else None
    figure = go.Figure(
        go.Heatmap(
            z=[[None if np.isnan(v) else v for v in row] for row in values], x=names, y=names, colorscale="Cividis",
            text=text, texttemplate=None if text is None else "%{text}", xgap=1, ygap=1,
            colorbar={"tickformat": ".0%", "thickness": 14},
            hovertemplate="from %{y} to %{x}: %{z:.1%}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_yaxes(autorange="reversed", type="category").update_xaxes(type="category")
    return styled(figure, "to cluster", "from cluster").update_layout(height=520)


def _dropping(cutoff: float) -> str:
    value = round(cutoff * _SCORE_BINS)
    return (
        f'<label for="threshold">Threshold</label> <input id="threshold" type="range" min="0" max="{_SCORE_BINS}" '
        f'value="{value}"> <output id="at" for="threshold"></output>'
        '<p id="dropped" role="status" aria-live="polite"></p>'
        '<div class="wide"><table id="losses"><thead><tr><th>cluster</th><th>examples</th><th>dropped</th>'
        "<th>share lost</th></tr></thead><tbody></tbody></table></div>"
    )


_COLOURS = (
    '<label for="colour">Colour by</label> <select id="colour"><option value="score">score</option>'
    '<option value="cluster">cluster (colour and symbol)</option></select>'
)


def _table_markup() -> str:
    return (
        '<button id="download" type="button">Download as CSV</button>'
        '<div class="wide"><table id="examples"><thead><tr></tr></thead><tbody></tbody></table></div>'
    )


def _script_data(
    scan: Scan, good: NDArray[np.int64], order: NDArray[np.int64], labels: NDArray[Any] | None, cutoff: float
) -> str:
    edges = np.linspace(0, 1, _SCORE_BINS + 1)
    cells = np.clip(np.searchsorted(edges, scan.scores[good], side="right") - 1, 0, _SCORE_BINS - 1)
    flat = np.bincount(scan.clusters[good] * _SCORE_BINS + cells, minlength=scan.n_classes * _SCORE_BINS)
    top = order[:_TABLE_ROWS]
    columns: dict[str, Sequence[Any]] = {
        "row": scan.rows[top].tolist(), "score": np.round(scan.scores[top], 4).tolist(),
        "cluster": scan.clusters[top].tolist(),
    }  # fmt: skip
    if labels is not None:
        columns["label"] = np.asarray(labels)[top].tolist()
    if scan.paths is not None:
        columns["path"] = [scan.paths[each] for each in top.tolist()]
    columns |= {name: np.round(scan.signs[top, i].astype(float), 2).tolist() for i, name in enumerate(SIGNS)}
    data = {
        "bins": flat.reshape(scan.n_classes, _SCORE_BINS).tolist(), "nBins": _SCORE_BINS, "columns": list(columns),
        "rows": [list(row) for row in zip(*columns.values(), strict=True)], "cutoff": cutoff,
        "dropped": INK[1],
    }  # fmt: skip
    # A path may hold anything, also what would end the script.
    return json.dumps(data).replace("<", "\\u003c")
