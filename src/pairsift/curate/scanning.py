"""`pairsift.scan`: from embeddings without labels to difficult examples and bridging pairs."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from pairsift.curate.classes import estimate_classes
from pairsift.curate.reference import BLOCK_ROWS, FLAT_LIMIT, NEIGHBOURS, SIGNS, Graph, Reference
from pairsift.curate.result import FILES, Histogram, Scan
from pairsift.curate.spaces import generator
from pairsift.curate.work import Task, merge, run_local, run_ray
from pairsift.data import ArrayFeatures, DataError, FeatureSource, open_features
from pairsift.data.features import ParquetFeatures
from pairsift.files import write_json
from pairsift.pairs import RankBand, band_parts
from pairsift.theory import Level, Levels, advise, measure_levels

Engine = Literal["local", "ray"]

_FEWEST_ROWS, _FEWEST_REFERENCE = 10, 1000
# Rows that levels by ranks are measured on, in so many disjoint parts for their error; and levels by labels.
_LEVEL_ROWS, _LEVEL_PARTS, _LABELLED_ROWS = 5000, 5, 20_000
_BINS = np.linspace(-1, 1, 101)
# Copies of the sample that fitting needs at once: itself, centred, unit, whitened, index.
_COPIES = 5
_PARTS = "parts"


class ScanError(ValueError):
    """A scan that cannot be done as asked; the message says why and the remedy."""


@dataclass(frozen=True)
class _Checked:
    """What one pass over the features finds: rows to skip, all-zero rows, and a checksum."""

    bad: NDArray[np.int64]
    zeros: int
    checksum: int


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
    _check_arguments(source, n_classes, graph, reference, max_pairs, memory, fraction, threads, engine)
    size = _reference_size(source, reference, memory, threads, whole=graph is not None)
    folder = None if out is None else Path(out)
    if folder is not None:
        _check_folder(folder, overwrite)
    checked = _check_features(source, skip_bad, say)
    good = n - len(checked.bad)
    settings = {
        "features": source.name, "n": n, "dimensions": dimensions, "checksum": checked.checksum, "n_classes": n_classes,
        "band": None if band is None else asdict(band), "graph": graph is not None, "reference": min(size, good),
        "max_pairs": max_pairs, "seed": seed, "skip_bad": skip_bad,
        "pairsift": importlib.metadata.version("pairsift"), "faiss": importlib.metadata.version("faiss-cpu"),
        "numpy": np.__version__,
    }  # fmt: skip
    parts = _parts_folder(folder, engine, settings)

    rng = generator(seed)
    rows = np.setdiff1d(np.arange(n), checked.bad, assume_unique=True)
    rows = np.sort(rng.choice(rows, size, replace=False)) if size < good else rows
    sample = source.take(rows)
    scale = float(np.abs(sample).max()) or 1.0
    sample /= scale
    classes = estimate_classes(sample, seed) if n_classes is None else None
    number = n_classes or (classes.n_classes if classes else 2)
    if classes is not None:
        say(classes.words)
    known = None if graph is None else Graph(np.asarray(graph[0], np.int64), np.asarray(graph[1], np.float32))
    inverted = good > FLAT_LIMIT
    fitted = Reference(sample, scale, rows, number, inverted, seed, known)
    if size < good:
        say(
            f"learned from {size:,} of {good:,} rows"
            + (f"; recall of neighbours {fitted.recall:.1%}" if inverted else "")
        )
    levels, error, histogram = _levels(sample, band or _band(number), number, rng)
    advice = advise(levels)
    labelled = _labelled_levels(sample, None if source.labels is None else source.labels[rows], rng, say)
    del sample

    temporary = Path(tempfile.mkdtemp(prefix="pairsift-scan-")) if parts is None and engine == "ray" else None
    light = source.bare() if isinstance(source, ParquetFeatures) else source
    task = Task(light, fitted, checked.bad, max_pairs, parts or temporary)
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
        pairs=pairs, levels=levels, levels_error=error, advice=advice, labelled_levels=labelled, n_classes=number,
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


def _check_arguments(
    source: FeatureSource, n_classes: int | None, graph: Any, reference: int, max_pairs: int, memory: float,
    fraction: float, threads: int, engine: str,
) -> None:  # fmt: skip
    n = source.shape[0]
    if n < _FEWEST_ROWS:
        raise ScanError(f"{source.name} has {n} rows: a scan compares neighbourhoods and needs at least {_FEWEST_ROWS}")
    if n_classes is not None and not 2 <= n_classes <= n // 4:
        raise ScanError(
            f"n_classes must lie in 2 ... {n // 4} (a quarter of the rows), got {n_classes}: bridges need two clusters"
        )
    if reference < _FEWEST_REFERENCE:
        raise ScanError(
            f"reference must be at least {_FEWEST_REFERENCE:,} rows, got {reference}: clusters and scales come from it"
        )
    if max_pairs < 1 or threads < 1:
        raise ScanError(f"max_pairs and threads must be positive, got {max_pairs} and {threads}")
    if not memory > 0:
        raise ScanError(f"memory must be positive (GB), got {memory}")
    if not 0 <= fraction < 1:
        raise ScanError(f"the share to drop must lie in [0, 1), got {fraction}")
    if engine not in ("local", "ray"):
        raise ScanError(f"engine must be 'local' or 'ray', got {engine!r}")
    if engine == "ray" and not isinstance(source, ParquetFeatures):
        raise ScanError(f"engine 'ray' reads parquet on its workers, got {source.name}: write parquet, or use 'local'")
    if graph is not None:
        neighbours, cosines = (np.asarray(each) for each in graph)
        if neighbours.shape != cosines.shape or neighbours.ndim != 2 or len(neighbours) != n:
            raise ScanError(
                f"a graph for {n:,} rows is neighbours ({n}, k) and cosines ({n}, k), got {neighbours.shape} and "
                f"{cosines.shape}"
            )
        if neighbours.dtype.kind not in "iu" or neighbours.min() < 0 or neighbours.max() >= n:
            raise ScanError(
                f"neighbours of a graph must be positions 0 ... {n - 1}, got {neighbours.dtype} values out of it"
            )
        if engine == "ray":
            raise ScanError("a graph is given to the local engine only")


def _reference_size(source: FeatureSource, reference: int, memory: float, threads: int, whole: bool) -> int:
    """Reference rows that the memory allows, or an error before anything is read."""
    n, dimensions = source.shape
    wanted = min(n, reference)
    base = psutil.Process().memory_info().rss
    work = threads * BLOCK_ROWS * (8 * dimensions + 8 * NEIGHBOURS + 200) * 4 + 2 * dimensions**2 * 8 + 100 * n
    budget = memory * 1e9 - base - work
    rows = max(0, int(budget / (_COPIES * dimensions * 4)))
    if whole and wanted < n:
        raise ScanError(f"a graph needs all rows in the reference: set reference to at least {n:,}, got {reference:,}")
    least = wanted if whole else min(wanted, _FEWEST_REFERENCE)
    if rows < least:
        need = (base + work + least * _COPIES * dimensions * 4) / 1e9
        raise ScanError(
            f"a scan of {n:,} x {dimensions} features needs at least {need:.1f} GB, memory allows {memory:g}: raise it"
            + (", or lower threads" if threads > 1 else "")
        )
    return min(wanted, rows)


def _check_folder(folder: Path, overwrite: bool) -> None:
    """Make the folder, or refuse it where it holds something that is not an unfinished scan."""
    if folder.exists() and not folder.is_dir():
        raise ScanError(f"{folder} is a file: name a folder")
    if (folder / "scan.json").exists() and not overwrite:
        raise ScanError(f"{folder} holds a finished scan: use --overwrite (overwrite=True), or another folder")
    if folder.exists() and any(folder.iterdir()) and not (folder / _PARTS).exists() and not overwrite:
        raise ScanError(f"{folder} exists and is not empty: use --overwrite (overwrite=True), or another folder")
    if overwrite and folder.exists():
        shutil.rmtree(folder / _PARTS, ignore_errors=True)
        for name in (*FILES, "report.html"):
            (folder / name).unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise ScanError(f"{folder} is not writable")


def _parts_folder(folder: Path | None, engine: Engine, settings: dict[str, Any]) -> Path | None:
    """The folder of part files, of this very scan."""
    if folder is None:
        return None
    parts = folder / _PARTS
    parts.mkdir(exist_ok=True)
    begun = parts / "settings.json"
    if begun.exists():
        try:
            earlier = json.loads(begun.read_text())
        except json.JSONDecodeError:
            earlier = {}
        other = [name for name, value in settings.items() if earlier.get(name) != value]
        if other:
            raise ScanError(
                f"{folder} holds an unfinished scan with another {', '.join(other)} "
                f"({other[0]} was {earlier.get(other[0])}): use --overwrite (overwrite=True), or another folder"
            )
    else:
        write_json(begun, settings)
    return parts


def _check_features(source: FeatureSource, skip_bad: bool, say: Callable[[str], None]) -> _Checked:
    bad, zeros, checksum, constant = [], 0, 0, True
    first_row: NDArray[np.float32] | None = None
    for start, block in source.blocks(8 * BLOCK_ROWS):
        block = np.ascontiguousarray(block)
        checksum = zlib.crc32(block.data, checksum)
        # Entries above 1e19 are finite and their squares are not: no cosine can be had of such a row either.
        with np.errstate(over="ignore", invalid="ignore"):
            suspect = ~np.isfinite(np.einsum("ij,ij->i", block, block))
        if suspect.any():
            bad.append(start + np.flatnonzero(suspect))
        zeros += int((~block.any(axis=1)).sum())
        if constant:
            good = block[~suspect]
            if len(good):
                first_row = good[0] if first_row is None else first_row
                constant = bool((good == first_row).all())
    found = np.concatenate(bad) if bad else np.zeros(0, np.int64)
    n = source.shape[0]
    if len(found) and not skip_bad:
        raise DataError(
            f"{source.name}: the norm of row {found[0]:,} is not finite in float32 ({len(found):,} of {n:,} rows): "
            "mend the encoder's output, or leave such rows out with --skip-bad (skip_bad=True)"
        )
    if n - len(found) < _FEWEST_ROWS:
        raise ScanError(f"{source.name}: {n - len(found)} finite rows are left, a scan needs {_FEWEST_ROWS}")
    if constant:
        raise ScanError(f"{source.name}: all rows are equal, there is nothing to tell apart: the encoder has collapsed")
    if len(found):
        say(f"skipping {len(found):,} rows that are not finite, the first is {found[0]:,}")
    if zeros:
        say(f"{zeros:,} rows are all zero: failed embeddings? They are scored like any other")
    return _Checked(found, zeros, checksum)


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
