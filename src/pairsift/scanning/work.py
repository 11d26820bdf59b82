"""The scan's long part: ranges of rows, scored one by one into part files, by threads here or by Ray elsewhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from pairsift._base.checks import first_line
from pairsift._base.process import on_ray
from pairsift.data import FeatureSource
from pairsift.data.tables import DAMAGE, read_table, write_table
from pairsift.scanning.bridges import PairModel
from pairsift.scanning.config import ScanError
from pairsift.scanning.labels import LabelModel, LabelScores
from pairsift.scanning.reference import BLOCK_ROWS, INDICATORS, KEPT, Reference, RowScores

# Rows of one part: what a killed scan loses at most, and what engines hand to a worker.
PART_ROWS = 8 * BLOCK_ROWS

PAIR_SCHEMA = pa.schema([
    ("anchor", pa.int64()), ("other", pa.int64()), ("similarity", pa.float32()), ("anchor_cluster", pa.int64()),
    ("other_cluster", pa.int64()), ("probability", pa.float32()),
])  # fmt: skip

Part = tuple[pa.Table, pa.Table]

# The cosine of a pair differs so much by direction.
_ROUNDING = 1e-6
# Pairs in front of the list, and pairs that one row may have among them.
_FRONT, _OF_ONE_ROW = 100, 3
# Columns of a part that hold whole numbers; columns of the nearest rows.
_PLACES = ("suggested", "nearest_other")
NEAR_COLUMNS = tuple(f"near_{rank}" for rank in range(KEPT))


@dataclass(frozen=True)
class Task:
    """All that scoring a range of rows needs.

    Attributes:
        source: the features.
        reference: what was learned from the sample.
        pair_model: estimates how probably pairs are of different classes; None where that cannot be estimated.
        skipped: positions of rows that are left out, ascending.
        max_pairs: bridging pairs kept of each part.
        parts: folder of part files; None keeps parts in memory.
        label_model: scores labels; None where there are none.
        labels: (N,) classes of all rows, for the model.
        within: a bridging pair is mutually among so many nearest rows.
    """

    source: FeatureSource
    reference: Reference
    pair_model: PairModel | None
    skipped: NDArray[np.int64]
    max_pairs: int
    parts: Path | None
    label_model: LabelModel | None = None
    labels: NDArray[np.int64] | None = None
    within: int = 10

    def ranges(self) -> list[tuple[int, int]]:
        """First row and end of every part."""
        n = self.source.shape[0]
        return [(start, min(start + PART_ROWS, n)) for start in range(0, n, PART_ROWS)]

    def missing(self) -> list[tuple[int, int]]:
        """The ranges that have no part file yet."""
        return [span for span in self.ranges() if self.parts is None or not all(map(Path.exists, self._files(span[0])))]

    def run(self, span: tuple[int, int]) -> Part | None:
        """Score a range; the part goes to its files, or back to the caller where there is no folder."""
        scores, pairs = self._score(*span)
        if self.parts is None:
            return scores, pairs
        score_file, pair_file = self._files(span[0])
        # Scores come last: a part is there when they are.
        for file, table in ((pair_file, pairs), (score_file, scores)):
            write_table(file, table)
        return None

    def read(self, span: tuple[int, int]) -> Part:
        """A part from its files.

        Raises:
            ScanError: a damaged file.
        """
        tables = []
        for file in self._files(span[0]):
            try:
                tables.append(read_table(file))
            except DAMAGE as error:
                raise ScanError(
                    f"{file} is damaged ({first_line(error)}): remove it, and the same command scores its rows again"
                ) from error
        if len(tables[0]) != span[1] - span[0]:
            raise ScanError(f"{self._files(span[0])[0]} holds {len(tables[0])} of {span[1] - span[0]} rows: remove it")
        return tables[0], tables[1]

    def _files(self, start: int) -> tuple[Path, Path]:
        assert self.parts is not None
        return self.parts / f"scores-{start:012d}.parquet", self.parts / f"pairs-{start:012d}.parquet"

    def _score(self, start: int, stop: int) -> Part:
        n = stop - start
        columns: dict[str, NDArray[Any]] = {
            "score": np.full(n, np.nan), "cluster": np.full(n, -1, np.int64),
            **{name: np.full(n, np.nan, np.float32) for name in (*INDICATORS, "pca_1", "pca_2", "spacing")},
            **{name: np.full(n, -1, np.int64) for name in NEAR_COLUMNS},
        }  # fmt: skip
        if self.label_model is not None:
            columns |= {
                f"label_{name}": np.full(n, -1, np.int64) if name in _PLACES else np.full(n, np.nan, np.float32)
                for name in LabelScores._fields
            }
        pairs: list[pa.Table] = []
        for first, features in self.source.blocks(BLOCK_ROWS, start, stop):
            rows = np.arange(first, first + len(features))
            rows = rows[~np.isin(rows, self.skipped)]
            if not len(rows):
                continue
            scored = self.reference.score(features[rows - first], rows)
            at = rows - start
            columns["score"][at], columns["cluster"][at] = scored.score, scored.cluster
            for i, name in enumerate(INDICATORS):
                columns[name][at] = scored.indicators[:, i]
            columns["pca_1"][at], columns["pca_2"][at] = scored.plane.T
            columns["spacing"][at] = scored.spacing
            for name, found in zip(NEAR_COLUMNS, scored.candidates.T, strict=False):
                columns[name][at] = np.where(found >= 0, self.reference.rows[found], -1)
            if self.label_model is not None:
                by_label = self._score_labels(features[rows - first], rows, scored)._asdict()
                for name, values in by_label.items():
                    columns[f"label_{name}"][at] = values
            pairs.append(self._bridges(rows, scored))
        bridges = pa.concat_tables(pairs) if pairs else PAIR_SCHEMA.empty_table()
        return pa.table(columns), strongest(bridges, self.max_pairs)

    def _score_labels(self, features: NDArray[np.float32], rows: NDArray[np.int64], scored: RowScores) -> LabelScores:
        """Scores of the labels of a block, with the positions of rows in the whole set."""
        assert self.label_model is not None
        assert self.labels is not None
        reference = self.reference
        found = self.label_model.score(
            features / reference.scale, self.labels[rows], reference.positions(rows), scored.neighbours, scored.cosines
        )
        near = found.nearest_other
        return found._replace(nearest_other=np.where(near >= 0, reference.rows[near], -1))

    def _bridges(self, rows: NDArray[np.int64], scored: RowScores) -> pa.Table:
        """Mutual neighbours of a block that lie in other clusters; of both directions the one from the smaller row."""
        cluster = scored.cluster
        neighbours, cosines = scored.candidates[:, : self.within], scored.candidate_cosines[:, : self.within]
        theirs = self.reference.clusters[neighbours]
        mutual = cosines >= self.reference.radius(self.within)[neighbours] - _ROUNDING
        i, j = np.nonzero((neighbours >= 0) & (theirs != cluster[:, None]) & mutual)
        found = neighbours[i, j]
        anchors, partners = rows[i], self.reference.rows[found]
        probability = np.full(len(i), np.nan, np.float32)
        if self.pair_model is not None:
            probability = self.pair_model.different(self.reference.positions(rows), scored.candidates, i, found)
        swap = partners < anchors
        columns = [
            np.where(swap, partners, anchors), np.where(swap, anchors, partners), cosines[i, j],
            np.where(swap, theirs[i, j], cluster[i]), np.where(swap, cluster[i], theirs[i, j]), probability,
        ]  # fmt: skip
        return strongest(pa.table(columns, schema=PAIR_SCHEMA), self.max_pairs)


def strongest(pairs: pa.Table, most: int) -> pa.Table:
    """At most so many pairs, each once, by descending probability where it is known, then similarity, then by rows."""
    leading = "similarity" if np.isnan(pairs.column("probability").to_numpy()).all() else "probability"
    if len(pairs) > 2 * most:  # a pair comes at most twice
        value = pairs.column(leading).to_numpy()
        pairs = pairs.take(np.flatnonzero(value >= np.partition(value, -2 * most)[-2 * most]))
    similarity = pairs.column("similarity").to_numpy()
    anchor, other = pairs.column("anchor").to_numpy(), pairs.column("other").to_numpy()
    order = np.lexsort((other, anchor, -similarity, -pairs.column(leading).to_numpy()))
    # The two directions of a pair may differ in the last bit, so equal pairs need not be neighbours in this order.
    keys = anchor[order] * (1 + int(other.max(initial=0))) + other[order]
    _, first = np.unique(keys, return_index=True)
    return pairs.take(order[np.sort(first)[:most]])


def run_local(task: Task, threads: int, progress: Callable[[int], None]) -> Iterator[Part]:
    """Score the missing parts with threads, each on one core so that their number does not change a bit."""
    kept: dict[int, Part] = {}
    with threadpool_limits(1, "blas"), _Workers(threads) as pool:
        futures = {pool.submit(task.run, span): span for span in task.missing()}
        for future in as_completed(futures):
            part, (start, stop) = future.result(), futures[future]
            if part is not None:
                kept[start] = part
            progress(stop - start)
    for span in task.ranges():
        yield kept[span[0]] if task.parts is None else task.read(span)


def run_ray(task: Task, address: str | None, progress: Callable[[int], None]) -> Iterator[Part]:
    """Score the missing parts by Ray Data; the part folder and the features must be seen by every worker.

    Args:
        address: of a cluster, see `on_ray`.

    Raises:
        MissingExtraError: Ray is not installed.
        ScanError: there is no such cluster.
    """
    with on_ray(address, {}, ScanError) as ray:
        import ray.data as ray_data

        context = ray_data.DataContext.get_current()
        context.enable_progress_bars = False
        spans = [{"start": start, "stop": stop} for start, stop in task.missing()]
        shared = ray.put(task)

        def score(span: dict[str, int]) -> dict[str, int]:
            faiss.omp_set_num_threads(1)
            with threadpool_limits(1, "blas"):
                ray.get(shared).run((span["start"], span["stop"]))
            return {"rows": span["stop"] - span["start"]}

        if spans:
            for row in ray_data.from_items(spans, override_num_blocks=len(spans)).map(score).iter_rows():
                progress(row["rows"])
    for span in task.ranges():
        yield task.read(span)


class _Workers(ThreadPoolExecutor):
    """Threads with one core each; an error or Ctrl-C stops what has not begun."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads, initializer=faiss.omp_set_num_threads, initargs=(1,))

    def __exit__(self, kind: Any, *rest: Any) -> None:
        self.shutdown(wait=True, cancel_futures=kind is not None)


def merge(parts: Iterator[Part], max_pairs: int) -> Part:
    """All parts as one."""
    scores, pairs = [], PAIR_SCHEMA.empty_table()
    for part_scores, part_pairs in parts:
        scores.append(part_scores)
        pairs = strongest(pa.concat_tables([pairs, part_pairs]), max_pairs)
    return pa.concat_tables(scores), varied(pairs)


def varied(pairs: pa.Table) -> pa.Table:
    """The same pairs, where no row has more than three among the first hundred as long as there are others."""
    counts: Counter[int] = Counter()
    front: list[int] = []
    for place, ends in enumerate(zip(pairs["anchor"].to_pylist(), pairs["other"].to_pylist(), strict=True)):
        if len(front) == _FRONT:
            break
        if max(counts[end] for end in ends) < _OF_ONE_ROW:
            counts.update(ends)
            front.append(place)
    rest = np.setdiff1d(np.arange(len(pairs)), front, assume_unique=True)
    return pairs.take(np.concatenate([np.array(front, np.int64), rest]))
