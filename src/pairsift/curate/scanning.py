"""`pairsift.scan`: from embeddings without labels to difficult examples and bridging pairs."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from pairsift.curate.checks import (
    ScanError,
    check_arguments,
    check_features,
    check_folder,
    parts_folder,
    reference_size,
)
from pairsift.curate.classes import estimate_classes
from pairsift.curate.reference import FLAT_LIMIT, SIGNS, Graph, Reference
from pairsift.curate.result import Histogram, Scan
from pairsift.curate.spaces import generator
from pairsift.curate.work import Task, merge, run_local, run_ray
from pairsift.data import ArrayFeatures, FeatureSource, open_features
from pairsift.data.features import bare_features
from pairsift.pairs import RankBand, band_parts
from pairsift.theory import Level, Levels, advise, measure_levels

Engine = Literal["local", "ray"]

# Rows that levels by ranks are measured on, in so many disjoint parts for their error; and levels by labels.
_LEVEL_ROWS, _LEVEL_PARTS, _LABELLED_ROWS = 5000, 5, 20_000
_BINS = np.linspace(-1, 1, 101)


def scan(
    features: Any,
    n_classes: int | None = None,
    band: RankBand | None = None,
    *,
    labels: NDArray[Any] | None = None,
    graph: tuple[NDArray[Any], NDArray[Any]] | None = None,
    reference: int = 50_000,
    max_pairs: int = 10_000,
    memory: float = 2.0,
    seed: int = 0,
    threads: int | None = None,
    skip_bad: bool = False,
    out: Path | str | None = None,
    fraction: float = 0.08,
    overwrite: bool = False,
    engine: Engine = "local",
    address: str | None = None,
    say: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Scan:
    """Score, without labels, how difficult every example of an embedding set is, and find pairs that bridge clusters.

    A seeded sample of rows (all of them up to `reference`) is the reference: centre, whitening, clusters, neighbour
    index and robust scales are learned on it, then every row is scored against it by itself. Nothing of size N x N is
    made, and the result does not depend on the number of threads or the engine.

    Args:
        features: (N, D) array or tensor, a path (`pairsift.data.open_features`), or a `FeatureSource`.
        n_classes: rough number of classes, at least 2; None estimates it.
        band: rank band that the levels are measured with; None takes 1 to 2 times 1 / n_classes.
        labels: (N,) classes, for labelled levels only: the score never looks at them.
        graph: neighbours (N, k) by descending cosine, positions without the row itself, and their cosines (N, k), to
            use instead of a search. Needs all rows in the reference.
        reference: rows to learn from; up to 50,000 are searched exactly, more by an inverted file.
        max_pairs: bridging pairs to keep.
        memory: GB that the scan may take.
        seed: seed of the sample and the clusterings.
        threads: CPU threads; None takes all.
        skip_bad: leave out rows that are not finite (score nan) instead of refusing them.
        out: folder to write the result to (`Scan.save`), part by part on the way: a killed scan continues there.
        fraction: share of the set that drop.csv lists.
        overwrite: replace what is in `out`.
        engine: "local", or "ray" to score parquet by Ray Data.
        address: of a Ray cluster; None starts Ray on this machine.
        say: told in words what is done.
        progress: told how many rows of how many are scored.

    Returns:
        The scan.

    Raises:
        DataError: features that cannot be read, or are not finite (the first row is named).
        ScanError: too few rows, constant features, arguments out of range, too little memory, an `out` in use.
        ImportError: `engine="ray"` without Ray.
    """
    say, source = say or (lambda line: None), _open(features, labels)
    n, dimensions = source.shape
    threads = threads or os.cpu_count() or 1
    check_arguments(source, n_classes, graph, reference, max_pairs, memory, fraction, threads, engine)
    size = reference_size(source, reference, memory, threads, whole=graph is not None)
    folder = None if out is None else Path(out)
    if folder is not None:
        check_folder(folder, overwrite)
    checked = check_features(source, skip_bad, say)
    good = n - len(checked.bad)
    settings = {
        "features": source.name, "n": n, "dimensions": dimensions, "checksum": checked.checksum, "n_classes": n_classes,
        "band": None if band is None else asdict(band),
        "graph": None if graph is None else [zlib.crc32(np.asarray(each).tobytes()) for each in graph],
        "reference": min(size, good), "max_pairs": max_pairs, "seed": seed, "skip_bad": skip_bad,
        "pairsift": importlib.metadata.version("pairsift"), "faiss": importlib.metadata.version("faiss-cpu"),
        "numpy": np.__version__,
    }  # fmt: skip
    parts = parts_folder(folder, engine, settings)

    rng = generator(seed)
    rows = np.setdiff1d(np.arange(n), checked.bad, assume_unique=True)
    rows = np.sort(rng.choice(rows, size, replace=False)) if size < good else rows
    sample = source.take(rows)
    scale = float(np.abs(sample).max()) or 1.0
    sample /= scale
    classes = None
    if n_classes is None:
        classes = estimate_classes(sample, seed)
        n_classes = classes.n_classes
        say(classes.words)
    known = None if graph is None else Graph(np.asarray(graph[0], np.int64), np.asarray(graph[1], np.float32))
    inverted = good > FLAT_LIMIT
    fitted = Reference(sample, scale, rows, n_classes, inverted, seed, known)
    if size < good:
        say(
            f"learned from {size:,} of {good:,} rows"
            + (f"; recall of neighbours {fitted.recall:.1%}" if inverted else "")
        )
    levels, error, histogram = _levels(sample, band or _band(n_classes), n_classes, rng)
    advice = advise(levels)
    labelled = _labelled_levels(sample, None if source.labels is None else source.labels[rows], rng, say)
    del sample

    temporary = Path(tempfile.mkdtemp(prefix="pairsift-scan-")) if parts is None and engine == "ray" else None
    task = Task(bare_features(source), fitted, checked.bad, max_pairs, parts or temporary)
    done = n - sum(stop - start for start, stop in task.missing())
    if done:
        say(f"continuing: {done:,} of {n:,} rows are scored")
    report = _counter(progress, done, n)
    run = run_local(task, threads, report) if engine == "local" else run_ray(task, address, report)
    try:
        scores, pairs = merge(run, max_pairs)
    finally:
        if temporary is not None:
            shutil.rmtree(temporary)
    result = Scan(
        scores=scores.column("score").to_numpy(), clusters=scores.column("cluster").to_numpy(),
        signs=np.stack([scores.column(name).to_numpy() for name in SIGNS], axis=1),
        plane=np.stack([scores.column(f"pca_{i}").to_numpy() for i in (1, 2)], axis=1),
        pairs=pairs, levels=levels, levels_error=error, advice=advice, labelled_levels=labelled, n_classes=n_classes,
        classes=classes, bridges=fitted.bridges, histogram=histogram, rows=source.rows, labels=source.labels,
        paths=source.paths,
        settings=settings | {
            "skipped": len(checked.bad), "zero_rows": checked.zeros, "recall": fitted.recall,
            "weights": dict(zip(SIGNS, fitted.weights.tolist(), strict=True)),
            "explained": fitted.explained, "search": "graph" if known else "inverted" if inverted else "exact",
        },
    )  # fmt: skip
    if folder is not None:
        result.save(folder, fraction)
        if parts is not None:
            shutil.rmtree(parts)
    return result


def _open(features: Any, labels: NDArray[Any] | None) -> FeatureSource:
    if isinstance(features, torch.Tensor):
        features = features.detach().float().cpu().numpy()
    if isinstance(features, (np.ndarray, str, Path)):
        if isinstance(features, np.ndarray):
            return ArrayFeatures(features, "features", labels)
        features = open_features(features)
    source: FeatureSource = features
    if labels is not None:
        raise ScanError(f"labels beside {source.name}: name their column instead, or give features as an array")
    return source


def _band(n_classes: int) -> RankBand:
    """One to two class shares below the top: where the nearest other class is."""
    high = 1 / n_classes
    return RankBand(high, min(2 * high, (1 + high) / 2))


def _levels(
    sample: NDArray[np.float32], band: RankBand, n_classes: int, rng: np.random.Generator
) -> tuple[Levels, tuple[float, float, float], Histogram]:
    """Levels by ranks, their errors, and the similarities' histogram, on at most 5,000 rows."""
    chosen = sample[np.sort(rng.choice(len(sample), min(len(sample), _LEVEL_ROWS), replace=False))]
    counts = np.zeros((3, len(_BINS) - 1), np.int64)
    for parts in band_parts(torch.from_numpy(chosen), band):
        counts += np.stack([np.histogram(part.numpy(), _BINS)[0] for part in parts])
    histogram = Histogram(_BINS, counts)
    if 0 in counts.sum(axis=1):
        empty = Level(float("nan"), float("nan"), 0)
        return Levels(empty, empty, empty, n=len(sample) / n_classes, n_classes=n_classes), (0.0, 0.0, 0.0), histogram
    levels = measure_levels(chosen, band=band, n_classes=n_classes)
    error = np.zeros(3)
    if len(chosen) < len(sample):
        pieces = [measure_levels(chosen[i::_LEVEL_PARTS], band=band, n_classes=n_classes) for i in range(_LEVEL_PARTS)]
        means = [(piece.alpha.mean, piece.beta.mean, piece.gamma.mean) for piece in pieces]
        error = np.std(means, axis=0, ddof=1) / np.sqrt(_LEVEL_PARTS)
    alpha, beta, gamma = error.tolist()
    return replace(levels, n=len(sample) / n_classes), (alpha, beta, gamma), histogram


def _labelled_levels(
    sample: NDArray[np.float32], labels: NDArray[np.int64] | None, rng: np.random.Generator, say: Callable[[str], None]
) -> Levels | None:
    if labels is None:
        return None
    chosen = np.sort(rng.choice(len(sample), min(len(sample), _LABELLED_ROWS), replace=False))
    try:
        return measure_levels(sample[chosen], labels[chosen])
    except ValueError as error:
        say(f"levels by labels cannot be measured: {error}")
        return None


def _counter(progress: Callable[[int, int], None] | None, done: int, n: int) -> Callable[[int], None]:
    def count(rows: int) -> None:
        nonlocal done
        done += rows
        if progress is not None:
            progress(done, n)

    return count
