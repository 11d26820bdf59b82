"""`Scan`: what a scan found, how it is saved and loaded."""

from __future__ import annotations

import csv
import dataclasses
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pairsift._base.files import replacing, write_json
from pairsift._base.words import counted
from pairsift.data import DataError
from pairsift.data.tables import DAMAGE, read_table, write_table
from pairsift.neighbors import IntArray
from pairsift.scanning.estimates import ClassEstimate, Histogram
from pairsift.scanning.exports import cleanlab_columns, fiftyone_fields, row_table
from pairsift.scanning.page import scan_page
from pairsift.scanning.positions import in_positions, in_rows, lists_of_positions, row_lists
from pairsift.scanning.reference import BLOCK_ROWS, CANDIDATES, INDICATORS, Reference
from pairsift.theory import Advice, Level, Levels

# Columns of scores.parquet that are not of `Scan.known`; columns of `Scan.pairs`, `label_issues` and `duplicates`.
OWN_COLUMNS = ("row", "score", "cluster", *INDICATORS, "pca_1", "pca_2", "label_score", "neighbours", "map_1", "map_2")
PAIR_COLUMNS = ("anchor", "other", "similarity", "anchor_cluster", "other_cluster", "probability")
ISSUE_COLUMNS = ["position", "label", "suggested", "score", "disagreement", "nearest_other", "similarity"]
COPY_COLUMNS = ["group", "position", "keep", "keeper", "similarity"]
# Share of a cluster that a drop list may take; and lists too short to warn of their clusters.
_CLUSTER_SHARE, _FEW = 0.25, 10
# Share of the set that is listed to drop where nobody says another.
_FRACTION = 0.08
# Rows that a note names.
_SHOWN = 10

# The files of a finished scan, without its page.
FILES = (
    "scores.parquet", "pairs.parquet", "label_issues.parquet", "duplicates.parquet", "leaks.parquet", "drop.csv",
    "scan.json",
)  # fmt: skip


@dataclass(frozen=True)
class Scan:
    """Difficulty of every row of an embedding set.

    Attributes:
        scores: (N,) in [0, 1], higher is more difficult: 0.5 is the set's median row, 0.85 one robust standard
            deviation above it, 0.95 two. nan where the row was not finite and skipped.
        clusters: (N,) cluster by k-means into `n_classes`; -1 where skipped.
        indicators: (N, 5) float32, what the score is made of, in robust units (columns:
            `pairsift.scanning.INDICATORS`).
        plane: (N, 2) float32, first two principal components.
        pairs: bridging pairs, mutual neighbours (`ScanConfig.within`) in different clusters, the most probably of
            different classes first, at most three of a row among the first hundred: `anchor` and `other` (positions),
            `similarity` (cosine after centring), `anchor_cluster`, `other_cluster`, `probability` (that the classes
            are different, in [0, 1]; nan where none could be estimated, and then the most similar come first). A pair
            appears once.
        levels: alpha, beta, gamma by the rank band, on a sample.
        levels_error: standard errors of their means by disjoint parts of the sample.
        advice: what the theory advises for them.
        labelled_levels: the levels by labels, where labels are known; None otherwise.
        n_classes: number of classes, given or estimated.
        classes: how `n_classes` was estimated; None where it was given.
        bridges: (n_classes, n_classes) counts of nearest-neighbour links between clusters, on the reference rows.
        histogram: similarities by the band.
        rows: (N,) row of each example in the set it came from.
        known: what the features' files say of every row (N rows), to find it again: columns `id`, `path`, `label` (a
            number), `class` (its name), `split`, `file` and `file_row`, those that are known, and the kept columns.
        settings: everything that decided the result, with versions.
        label_scores: (N,) in [0, 1], how much more probable another class is than the given label: above 0.5 it is the
            more probable one. nan without a label, or in a class of fewer than three rows. None without labels.
        label_issues: rows whose label is probably wrong, the most certain first: `position`, `label`, `suggested` (the
            most probable other class), `score` (its `label_scores`), `disagreement` (share of the labelled neighbours
            that are of other classes, in [0, 1]), `nearest_other` (position of the nearest neighbour with another
            label, -1 without any) and `similarity` (its cosine after centring). None without labels.
        duplicates: groups of exact and near copies, the largest first: `group` (number), `position`, `keep` (whether
            this is the row to keep), `keeper` (its position) and `similarity` (cosine to it after centring). None in
            scans of earlier versions.
        leaks: with `split_column` the duplicates of groups in more than one split: `group`, `row`, `similarity` and
            what is known of the row; with `against` the rows of that set with a copy in this one: `against_row`,
            `row`, `similarity`. Else None.
        neighbours: (N, 4) positions of the nearest rows, nearest first, without copies of the row; -1 past the end. In
            sets of more than 50,000 rows they are the nearest of the rows in the sample. None in scans of earlier
            versions.
        map: (N, 2) float32, places on the page's map by UMAP or t-SNE of at most 3,000 rows, nan for others. None where
            `ScanConfig.map` is "pca", and the plane is the map.
        reference: what the scan learned, to score further rows; None in a scan that was loaded.
    """

    scores: NDArray[np.float64]
    clusters: IntArray
    indicators: NDArray[np.float32]
    plane: NDArray[np.float32]
    pairs: pa.Table
    levels: Levels
    levels_error: tuple[float, float, float]
    advice: Advice
    labelled_levels: Levels | None
    n_classes: int
    classes: ClassEstimate | None
    bridges: IntArray
    histogram: Histogram
    rows: IntArray
    known: pa.Table
    settings: dict[str, Any]
    label_scores: NDArray[np.float32] | None = None
    label_issues: pa.Table | None = None
    duplicates: pa.Table | None = None
    leaks: pa.Table | None = None
    neighbours: IntArray | None = None
    map: NDArray[np.float32] | None = None
    reference: Reference | None = dataclasses.field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def labels(self) -> IntArray | None:
        """Class numbers (N,), -1 where a row has none; None where no labels are known."""
        if "label" not in self.known.column_names:
            return None
        labels: IntArray = self.known.column("label").to_numpy()
        return labels

    @property
    def paths(self) -> Sequence[str] | None:
        """Paths (N,), "" where a row has none; None where no paths are known."""
        return self.known.column("path").to_pylist() if "path" in self.known.column_names else None

    @property
    def names(self) -> Sequence[str] | None:
        """Class of every row (N,) by name, or by number where classes have no names; None without labels."""
        labels = self.labels
        if labels is None:
            return None
        if "class" in self.known.column_names:
            return [each or "" for each in self.known.column("class").to_pylist()]
        return [str(each) if each >= 0 else "" for each in labels.tolist()]

    @property
    def notes(self) -> list[str]:
        """What to know before the scores are used: the estimate of the classes, rows left out, pairs not found."""
        notes = []
        if self.classes is not None:
            labels = self.labels
            known = 0 if labels is None else len(np.unique(labels[labels >= 0]))
            given = f"; the labels, which it does not use, are of {counted(known, 'class', 'classes')}" if known else ""
            notes.append(f"{self.classes.words}{given}; `n_classes` sets the number")
        if self.settings["skipped"]:
            rows = self.settings.get("skipped_rows", [])
            shown = ", ".join(f"{row:,}" for row in rows[:_SHOWN]) + ", ..." * (self.settings["skipped"] > _SHOWN)
            count = counted(self.settings["skipped"], "row is not finite and has", "rows are not finite and have")
            notes.append(f"{count} no score" + f": {shown}" * bool(rows))
        if self.settings["zero_rows"]:
            notes.append(f"{counted(self.settings['zero_rows'], 'row is', 'rows are')} all zero: failed embeddings?")
        power = self.settings.get("balance", {}).get("power", 0)
        if power:
            notes.append(
                "classes look unequal in size: rows of dense clusters weigh less in the score, by "
                f"{power:.0%} of the logarithm of the density"
            )
        filled = self._filled(self._hardest(_FRACTION, None))
        if filled is not None:
            notes.append(filled)
        if not len(self.pairs):
            notes.append(
                "no close pairs of different clusters: rows that are mutually among their "
                f"{self.settings.get('within', CANDIDATES)} nearest lie in one cluster; with more clusters than "
                f"{self.n_classes} (`n_classes`) there may be some"
            )
        elif np.isnan(self.pairs.column("probability").to_numpy()).all():
            notes.append(
                "close pairs of different clusters are in the order of their similarity: the probability of "
                "different classes cannot be estimated from so few or such uniform rows"
            )
        return notes

    def score(self, features: Any) -> NDArray[np.float64]:
        """Difficulty scores (M,) of further rows by the same encoder, as if they had been scanned against this set.

        Args:
            features: (M, D) array or tensor, finite.

        Raises:
            ValueError: another width, rows that are not finite, or a scan that cannot score: one that was loaded, or
                one with a graph of neighbours.
        """
        if self.reference is None or not self.reference.searches:
            raise ValueError(
                "this scan cannot score further rows: it was loaded from a folder, or used a graph of your own; scan "
                "again in this process"
            )
        rows = np.asarray(features, np.float32)
        if rows.ndim != 2 or rows.shape[1] != self.settings["dimensions"]:
            raise ValueError(f"features must be (M, {self.settings['dimensions']}), got shape {rows.shape}")
        bad = np.flatnonzero(~np.isfinite(rows).all(axis=1))
        if len(bad):
            raise ValueError(f"row {bad[0]:,} is not finite: mend the encoder's output")
        blocks = (rows[start : start + BLOCK_ROWS] for start in range(0, len(rows), BLOCK_ROWS))
        scores = [self.reference.score(block, np.full(len(block), -1)).score for block in blocks]
        return np.concatenate([np.zeros(0), *scores])

    def to_pandas(self) -> Any:
        """A DataFrame with one line a row: scores, what is known, label issues and copies.

        Raises:
            ImportError: pandas is not installed.
        """
        return row_table(self).to_pandas()

    def to_cleanlab(self) -> dict[str, NDArray[Any]]:
        """Columns (N,) named as in cleanlab's `Datalab.get_issues()`: label, outlier and near-duplicate issues.

        Scores lie in [0, 1] and lower ones are worse.
        """
        return cleanlab_columns(self)

    def to_fiftyone(self) -> dict[str, list[Any]]:
        """Values of N samples by field, for `dataset.set_values(name, values)` in FiftyOne."""
        return fiftyone_fields(self)

    def drop(
        self, fraction: float | None = None, threshold: float | None = None, *, cluster_share: float | None = None
    ) -> IntArray:
        """Positions of the examples to leave out, most difficult first.

        A warning says so where more than half of them lie in one cluster that holds less than half as large a share of
        the set: then they say more about this cluster than about single examples.

        Args:
            fraction: share of the set, in [0, 1): at most round(fraction * N) examples.
            threshold: every example that scores at least so much, in [0, 1].
            cluster_share: largest share of any cluster that may go, in (0, 1], so that no class is emptied; 1 sets no
                limit. None is 0.25, or 1.25 * fraction where that is more, with a fraction, and 1 with a threshold.

        Raises:
            ValueError: neither or both of fraction and threshold given, or a value out of range.
        """
        if (fraction is None) == (threshold is None):
            raise ValueError(f"give either a fraction or a threshold, got fraction={fraction}, threshold={threshold}")
        if cluster_share is not None and not 0 < cluster_share <= 1:
            raise ValueError(f"cluster_share must lie in (0, 1], got {cluster_share}")
        if threshold is not None:
            if not 0 <= threshold <= 1:
                raise ValueError(f"threshold must lie in [0, 1], got {threshold}")
            order = np.argsort(-self.scores, kind="stable")  # nan sorts last
            order = order[: int((self.scores >= threshold).sum())]
            chosen = self._capped(order, 1.0 if cluster_share is None else cluster_share)
        else:
            if fraction is None or not 0 <= fraction < 1:
                raise ValueError(f"fraction must lie in [0, 1), got {fraction}")
            chosen = self._hardest(fraction, cluster_share)
        filled = self._filled(chosen)
        if filled is not None:
            warnings.warn(filled, stacklevel=2)
        return chosen

    def _hardest(self, fraction: float, cluster_share: float | None) -> IntArray:
        """So large a share of the examples, most difficult first, and of no cluster more than its share."""
        order = np.argsort(-self.scores, kind="stable")[: int(np.isfinite(self.scores).sum())]
        share = max(_CLUSTER_SHARE, 1.25 * fraction) if cluster_share is None else cluster_share
        return self._capped(order, min(share, 1.0))[: round(fraction * len(self))]

    def _capped(self, order: IntArray, share: float) -> IntArray:
        """The positions in order, without those past this share of their cluster; one of a cluster may always go."""
        if share >= 1:
            return order
        clusters = self.clusters[order]
        most = np.maximum(1, np.floor(share * np.bincount(self.clusters[self.clusters >= 0], minlength=self.n_classes)))
        by_cluster = np.argsort(clusters, kind="stable")
        starts = np.searchsorted(clusters[by_cluster], clusters[by_cluster])
        rank = np.empty(len(order), np.int64)
        rank[by_cluster] = np.arange(len(order)) - starts
        kept: IntArray = order[rank < most[clusters]]
        return kept

    def _filled(self, chosen: IntArray) -> str | None:
        """Words about the cluster that fills a list to drop; None where no cluster does."""
        if len(chosen) < _FEW:
            return None
        cluster, count = (int(each[0]) for each in _most_frequent(self.clusters[chosen]))
        rows = int((self.clusters == cluster).sum())
        if 2 * count > len(chosen) and 2 * rows / len(self) < count / len(chosen):
            return (
                f"{count:,} of the {len(chosen):,} examples to drop lie in cluster {cluster}, which holds {rows:,} of "
                f"{len(self):,} rows: look at this cluster on the page before you drop them"
            )
        return None

    def save(self, folder: Path | str, fraction: float = 0.08) -> None:
        """Write the result: scores, pairs, duplicates, label_issues and leaks (.parquet), drop.csv and scan.json.

        There are no files of label issues without labels, and none of leaks where none were sought.

        Each file is whole or not there; scan.json is last.

        Args:
            folder: made where missing; files of an earlier scan in it are replaced.
            fraction: share of the set that drop.csv lists.

        Raises:
            ValueError: fraction out of range.
            OSError: not writable.
        """
        dropped = self.drop(fraction)
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_table(folder / "scores.parquet", self.score_table())
        write_table(folder / "pairs.parquet", self._pair_table())
        for name, table in (
            ("label_issues", None if self.label_issues is None else self.issue_table()),
            ("duplicates", None if self.duplicates is None else self.copy_table()), ("leaks", self.leaks),
        ):  # fmt: skip
            (folder / f"{name}.parquet").unlink(missing_ok=True)
            if table is not None:
                write_table(folder / f"{name}.parquet", table)
        with replacing(folder / "drop.csv") as temporary, temporary.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["row", *self.known.column_names, "score"])
            # A table without columns has no rows.
            known = self.known.take(dropped).to_pylist() if self.known.num_columns else [{}] * len(dropped)
            for position, facts in zip(dropped.tolist(), known, strict=True):
                words = ["" if each is None else each for each in facts.values()]
                writer.writerow([self.rows[position], *words, f"{self.scores[position]:.6f}"])
        write_json(folder / "scan.json", self._facts() | {"drop": {"fraction": fraction, "rows": len(dropped)}})

    @classmethod
    def load(cls, folder: Path | str) -> Scan:
        """Read what `save` wrote.

        Raises:
            DataError: a file is missing or damaged.
        """
        folder = Path(folder)
        try:
            facts = json.loads((folder / "scan.json").read_text())
            table = read_table(folder / "scores.parquet")
            pairs = read_table(folder / "pairs.parquet")
            more = {
                name: read_table(folder / f"{name}.parquet")
                for name in ("label_issues", "duplicates", "leaks")
                if (folder / f"{name}.parquet").exists()
            }
            for name, length in facts.get("lengths", {}).items():
                found = {"pairs": pairs, **more}.get(name, ())
                if len(found) != length:
                    raise ValueError(f"{name}.parquet has {len(found)} rows, scan.json counts {length}")
            return cls._assemble(facts, table, pairs, more)
        except (*DAMAGE, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            words = " ".join(str(error).split())
            raise DataError(f"{folder} does not hold a finished scan: {type(error).__name__}: {words}") from error

    def report(self, path: Path | str, images: Any = None, labels: Any = None, fraction: float = 0.08) -> None:
        """Write one self-contained HTML page.

        Args:
            path: file to write.
            images: the images of the rows. A path or name that `pairsift.data.open_source` reads, an array (N, H, W),
                (N, H, W, C) or (N, C, H, W), an `ImageSet`, or a list of paths, PIL images or arrays. Images with
                paths are joined by path where the features have paths, too; others by their order. None shows none.
            labels: (N,) classes to show with images; None takes the scan's own where known.
            fraction: share of the set that the page's drop threshold starts at.

        Raises:
            ValueError: images or labels of another number, images with other paths, or none that can be read.
            TypeError: images of another kind.
            OSError: not writable.
        """
        scan_page(Path(path), self, images, self.names if labels is None else np.asarray(labels).tolist(), fraction)

    def score_table(self) -> pa.Table:
        """One line a row (N): row, score, cluster, indicators, plane, label_score, neighbours (rows), and `known`."""
        columns: dict[str, Any] = {"row": self.rows, "score": self.scores, "cluster": self.clusters}
        columns |= {name: self.indicators[:, i] for i, name in enumerate(INDICATORS)}
        columns |= {f"pca_{i + 1}": self.plane[:, i] for i in range(2)}
        columns |= {} if self.label_scores is None else {"label_score": self.label_scores}
        columns |= {} if self.neighbours is None else {"neighbours": row_lists(self.neighbours, self.rows)}
        columns |= {} if self.map is None else {f"map_{i + 1}": self.map[:, i] for i in range(2)}
        return pa.table(columns | dict(zip(self.known.column_names, self.known.columns, strict=True)))

    def _pair_table(self) -> pa.Table:
        """The pairs with rows instead of positions, and what is known of both."""
        pairs = in_rows(self.pairs, self.rows, "anchor", "other")
        for name in ("anchor", "other"):
            pairs = self._with_known(pairs, self.pairs.column(name), f"{name}_")
        return pairs

    def issue_table(self) -> pa.Table:
        """`label_issues` with rows instead of positions, names of classes, and what is known of both rows.

        Raises:
            ValueError: the scan had no labels.
        """
        issues = self.label_issues
        if issues is None:
            raise ValueError("the scan had no labels, so no label errors were sought: give `labels` or `label_column`")
        table = in_rows(issues, self.rows, "position", "nearest_other").rename_columns({"position": "row"})
        if "class" in self.known.column_names:
            labels, first = np.unique(self.known.column("label").to_numpy(), return_index=True)
            at = np.searchsorted(labels, issues.column("suggested").to_numpy())
            names = self.known.column("class").take(first[at])
            table = table.add_column(table.column_names.index("suggested") + 1, "suggested_class", names)
        known = self.known.drop_columns("label") if "label" in self.known.column_names else self.known
        for name in known.column_names:
            table = table.append_column(name, known.column(name).take(issues.column("position")))
        return self._with_known(table, issues.column("nearest_other"), "nearest_other_")

    def copy_table(self) -> pa.Table:
        """`duplicates` with rows instead of positions, and what is known of each row.

        Raises:
            ValueError: a scan of an earlier version, which sought none.
        """
        if self.duplicates is None:
            raise ValueError("this scan is of an earlier version, which sought no duplicates: scan again")
        table = in_rows(self.duplicates, self.rows, "position", "keeper").rename_columns({"position": "row"})
        return self._with_known(table, self.duplicates.column("position"), "")

    def _with_known(self, table: pa.Table, positions: pa.ChunkedArray, prefix: str) -> pa.Table:
        """A table with what is known of the rows at positions, null for position -1."""
        places = positions.to_numpy()
        taken = pa.array(places, mask=places < 0)
        for name in self.known.column_names:
            table = table.append_column(f"{prefix}{name}", self.known.column(name).take(taken))
        return table

    def _facts(self) -> dict[str, Any]:
        links = np.argwhere(self.bridges)
        return {
            "n": len(self), "n_classes": self.n_classes,
            "classes": None if self.classes is None else dataclasses.asdict(self.classes),
            "levels": _plain_levels(self.levels), "levels_error": self.levels_error,
            "labelled_levels": None if self.labelled_levels is None else _plain_levels(self.labelled_levels),
            "advice": dataclasses.asdict(self.advice),
            "bridges": [[int(a), int(b), int(self.bridges[a, b])] for a, b in links],
            "histogram": {"edges": self.histogram.edges.tolist(), "counts": self.histogram.counts.tolist()},
            "settings": self.settings,
            "lengths": {name: len(table) for name, table in (
                ("pairs", self.pairs), ("label_issues", self.label_issues), ("duplicates", self.duplicates),
                ("leaks", self.leaks),
            ) if table is not None},
        }  # fmt: skip

    @classmethod
    def _assemble(cls, facts: dict[str, Any], table: pa.Table, pairs: pa.Table, more: dict[str, pa.Table]) -> Scan:
        names, rows = table.column_names, table.column("row").to_numpy()
        pairs = in_positions(pairs, rows, "pairs.parquet", "anchor", "other")
        issues, duplicates = more.get("label_issues"), more.get("duplicates")
        if issues is not None:
            issues = in_positions(issues, rows, "label_issues.parquet", "row", "nearest_other")
            issues = issues.rename_columns({"row": "position"}).select(ISSUE_COLUMNS)
        if duplicates is not None:
            duplicates = in_positions(duplicates, rows, "duplicates.parquet", "row", "keeper")
            duplicates = duplicates.rename_columns({"row": "position"}).select(COPY_COLUMNS)
        pairs = pairs.select([name for name in pairs.column_names if name in PAIR_COLUMNS])
        if "probability" not in pairs.column_names:  # saved before there was one
            pairs = pairs.append_column("probability", pa.array(np.full(len(pairs), np.nan, np.float32)))
        bridges = np.zeros((facts["n_classes"], facts["n_classes"]), np.int64)
        for a, b, count in facts["bridges"]:
            bridges[a, b] = count
        advice = facts["advice"]
        advice = {"band_start" if name == "high" else name: value for name, value in advice.items()}  # "high" until 0.3
        labelled, classes = facts["labelled_levels"], facts["classes"]
        error = facts["levels_error"]
        return cls(
            scores=table.column("score").to_numpy(), clusters=table.column("cluster").to_numpy(),
            indicators=np.stack([table.column(name).to_numpy() for name in INDICATORS], axis=1),
            plane=np.stack([table.column(f"pca_{i}").to_numpy() for i in (1, 2)], axis=1),
            pairs=pairs, levels=_read_levels(facts["levels"]), levels_error=(error[0], error[1], error[2]),
            advice=Advice(**advice | {"reasons": tuple(advice["reasons"])}),
            labelled_levels=None if labelled is None else _read_levels(labelled), n_classes=facts["n_classes"],
            classes=None if classes is None
            else ClassEstimate(classes.pop("n_classes"), **{name: tuple(each) for name, each in classes.items()}),
            bridges=bridges,
            histogram=Histogram(np.array(facts["histogram"]["edges"]), np.array(facts["histogram"]["counts"])),
            rows=rows, settings=facts["settings"],
            known=table.select([name for name in names if name not in OWN_COLUMNS]),
            label_scores=table.column("label_score").to_numpy() if "label_score" in names else None,
            label_issues=issues, duplicates=duplicates, leaks=more.get("leaks"),
            neighbours=lists_of_positions(table.column("neighbours"), rows) if "neighbours" in names else None,
            map=np.stack([table.column(f"map_{i}").to_numpy() for i in (1, 2)], axis=1) if "map_1" in names else None,
        )  # fmt: skip


def _most_frequent(values: IntArray) -> tuple[IntArray, IntArray]:
    """The values by descending frequency, and their counts."""
    found, counts = np.unique(values, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return found[order], counts[order]


def _plain_levels(levels: Levels) -> dict[str, Any]:
    # Which examples were taken as difficult is theirs who have the labels; the page and the advice need none of it.
    return dataclasses.asdict(dataclasses.replace(levels, difficult=None))


def _read_levels(plain: dict[str, Any]) -> Levels:
    level = {name: Level(**plain[name]) for name in ("alpha", "beta", "gamma", "gamma_both") if plain[name] is not None}
    return Levels(**plain | level)
