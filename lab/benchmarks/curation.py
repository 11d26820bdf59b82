"""Compares the scan with other tools at a curator's jobs: label errors, copies, near pairs and difficult rows.

    python -m lab.benchmarks.curation [--cache DIR] [--sets NAME ...] [--tasks labels ...] [--threads 1]
                                  [--output lab/benchmarks/results/curation.jsonl]

The sets are those of `lab.benchmarks.curation_sets`. Every exact copy in a set is left out first. Rows of the output
that are not measured again stay.

- *labels*: a tenth of the labels are wrong, drawn uniformly or from each class to the class with the nearest centre.
  AUROC of the scan, of cleanlab's self-confidence and normalised margin with five-fold probabilities of a logistic
  classifier, and of the ten neighbours' disagreement.
- *copies*: copies of a twentieth of the rows are added, with noise or with steps along directions between neighbours,
  of 0.1 and 0.2 of the distance to the nearest row. Share of the copies grouped with their original. Of all other rows,
  the share in groups, and the share that is wrongly there. Sentences and glyphs hold copies that nobody planted, which
  `curation_sets.is_copy` tells by words alone: a row is wrongly in a group only if it is no such copy of the row to
  keep. The same for fixed cosines of the centred rows (faiss) and for semhash at its own threshold.
- *pairs*: share of different classes among the first hundred bridging pairs, and among all pairs that are mutually
  among their ten nearest.
- *scores*: AUROC for a fifth of the rows replaced by midpoints with another class, and for the 8 % of each class with
  the smallest top-two gap of a cross-validated classifier. Peers: centred and plain kNN distance, distance to k-means
  centres, their gap, and cleanlab's outlier score.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import faiss
import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pairsift as ps
from lab.benchmarks._common import environment, versions
from lab.benchmarks.curation_sets import SETS, FloatArray, IntArray, LabelledSet, is_copy, sets
from lab.benchmarks.detection import METHODS, midpoints, unit
from lab.rows import read, row_of, write

Measures = dict[str, float | None]
_WRONG, _COPIED, _HARD = 0.1, 0.05, 0.08
_COSINES = (0.9, 0.95, 0.98)


def labels(case: LabelledSet) -> dict[str, Measures]:
    """AUROC of planted label errors, by the kind of errors."""
    found: dict[str, Measures] = {}
    for kind in ("uniform", "by class"):
        given, wrong = _wrong(case, kind)
        scores = {"scan": ps.scan(case.x, labels=given, memory_gb=8).label_scores}
        scores |= _cleanlab(case.x, given)
        near = nearest(case.x, 10)[1]
        scores["neighbours"] = (given[near] != given[:, None]).mean(axis=1)
        found[kind] = {name: round(float(roc_auc_score(wrong, each)), 4) for name, each in scores.items()}
    return found


def _wrong(case: LabelledSet, kind: str) -> tuple[IntArray, NDArray[np.bool_]]:
    """Labels of which a tenth are wrong, and which."""
    rng, classes = np.random.default_rng(0), int(case.y.max()) + 1
    wrong = np.zeros(len(case.y), bool)
    wrong[rng.choice(len(case.y), round(_WRONG * len(case.y)), replace=False)] = True
    if kind == "uniform":
        other = (case.y + rng.integers(1, classes, len(case.y))) % classes
    else:
        centres = np.stack([case.x[case.y == each].mean(axis=0) for each in range(classes)])
        distances = ((centres[:, None] - centres) ** 2).sum(axis=2)
        np.fill_diagonal(distances, np.inf)
        other = distances.argmin(axis=1)[case.y]
    return np.where(wrong, other, case.y), wrong


def _cleanlab(x: FloatArray, given: IntArray) -> dict[str, NDArray[Any]]:
    from cleanlab.rank import get_label_quality_scores  # type: ignore[import-untyped]

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200, tol=1e-3))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    probabilities = cross_val_predict(model, x, given, cv=folds, method="predict_proba")
    return {
        "cleanlab": -get_label_quality_scores(given, probabilities),
        "cleanlab, margin": -get_label_quality_scores(given, probabilities, method="normalized_margin"),
    }


def copies(case: LabelledSet) -> dict[str, Measures]:
    """Recall of planted copies and share of other rows in groups, by the kind of copies."""
    rng, n = np.random.default_rng(0), len(case.x)
    near = nearest(case.x, 10)[1]
    rows = np.sort(rng.choice(n, max(10, round(_COPIED * n)), replace=False))
    distance = np.linalg.norm(case.x[rows] - case.x[near[rows, 0]], axis=1, keepdims=True)
    noise = unit(rng.standard_normal((len(rows), case.x.shape[1])).astype(np.float32))
    ends = case.x[np.stack([rng.permutation(each)[:2] for each in near[rows]])]
    steps = unit(ends[:, 0] - ends[:, 1])
    found = {"nothing planted": _grouped(case, np.zeros(0, np.int64))}
    for kind, directions, size in (("noise", noise, 0.1), ("steps", steps, 0.1), ("steps, twice", steps, 0.2)):
        whole = np.concatenate([case.x, case.x[rows] + size * distance * directions]).astype(np.float32)
        words = None if case.words is None else case.words + [case.words[row] for row in rows]
        found[kind] = _grouped(case._replace(x=whole, words=words), rows)
    return found


def _grouped(case: LabelledSet, rows: IntArray) -> Measures:
    """Measures of the scan, of fixed cosines and of semhash; copies of `rows` lie behind all others."""
    x, n = case.x, len(case.x) - len(rows)
    planted = np.zeros(len(x), bool)
    planted[n:], planted[rows] = True, True
    table = ps.scan(x, memory_gb=8).copy_table()
    keeper = np.arange(len(x))
    keeper[table.column("row").to_numpy()] = table.column("keeper").to_numpy()
    copied = np.flatnonzero(keeper != np.arange(len(x)))
    measures: Measures = {"recall": round(float((keeper[n:] == keeper[rows]).mean()), 4) if len(rows) else None}
    for name, share in _shares(case, planted, np.stack([copied, keeper[copied]], axis=1)).items():
        measures[name] = share
    cosines, near = nearest(x, 10)
    for limit in _COSINES:
        like = cosines >= limit
        found = ((near[n:] == rows[:, None]) & like[n:]).any(axis=1)
        measures[f"recall at {limit}"] = round(float(found.mean()), 4) if len(rows) else None
        first, place = np.nonzero(like)
        shares = _shares(case, planted, np.stack([first, near[first, place]], axis=1))
        measures[f"false at {limit}"] = shares["false"]
    return measures | _semhash(case, rows, planted)


def _shares(case: LabelledSet, planted: NDArray[np.bool_], found: IntArray) -> Measures:
    """Of the rows that were not planted, the shares in any of the pairs found (P, 2), and in none that is a copy."""
    same = [case.words is not None and is_copy(case.words[a], case.words[b]) for a, b in found.tolist()]
    grouped, copies = np.zeros(len(planted), bool), np.zeros(len(planted), bool)
    grouped[found.ravel()], copies[found[same].ravel()] = True, True
    return {
        "grouped": round(float(grouped[~planted].mean()), 4),
        "false": round(float((grouped & ~copies)[~planted].mean()), 4),
    }


def _semhash(case: LabelledSet, rows: IntArray, planted: NDArray[np.bool_]) -> Measures:
    """The same of semhash, which keeps the first of similar rows."""
    try:
        from semhash import SemHash
    except ImportError:
        return {"recall of semhash": None, "false of semhash": None}
    x, n = case.x, len(case.x) - len(rows)
    records = [str(i) for i in range(len(x))]
    done = SemHash.from_embeddings(x, records, model=cast(Any, None), ann_backend="basic").self_deduplicate()
    pairs = {(int(each.record), int(each.duplicate_of)) for each in done.filtered}
    found = [(n + i, row) in pairs or (row, n + i) in pairs for i, row in enumerate(rows.tolist())]
    shares = _shares(case, planted, np.array(sorted(pairs), np.int64).reshape(-1, 2))
    return {
        "recall of semhash": round(float(np.mean(found)), 4) if found else None,
        "false of semhash": shares["false"],
    }


def pairs(case: LabelledSet) -> dict[str, Measures]:
    """Shares of different classes among near pairs."""
    listed = ps.scan(case.x, memory_gb=8).pairs.to_pandas()
    different = case.y[listed.anchor] != case.y[listed.other]
    near = nearest(case.x, 10)[1]
    rows = np.repeat(np.arange(len(near)), near.shape[1])
    mutual = (near[near.ravel()] == rows[:, None]).any(axis=1)
    random = (case.y[rows] != case.y[near.ravel()])[mutual].mean()
    first = float(different[:100].mean()) if len(listed) else None
    return {
        "first hundred": {
            "listed": len(listed), "different": None if first is None else round(first, 4),
            "random": round(float(random), 4), "ratio": None if first is None else round(first / float(random), 3),
        }
    }  # fmt: skip


def scores(case: LabelledSet) -> dict[str, Measures]:
    """AUROC of difficult rows, planted and natural, given the number of classes."""
    classes = int(case.y.max()) + 1
    mixed = midpoints(case.name, 0, case.x, case.y)
    kinds = {"midpoints": (mixed.features, mixed.difficult), "natural": (case.x, _natural(case.x, case.y))}
    methods = {"scan": METHODS["pairsift"]}
    methods |= {name: each for name, each in METHODS.items() if name not in ("pairsift", "random", "SAS")}
    methods["centred kNN distance"] = lambda x, *_: -nearest(x, 10)[0].mean(axis=1)
    return {
        kind: {name: round(float(roc_auc_score(hard, each(x, classes, 0))), 4) for name, each in methods.items()}
        for kind, (x, hard) in kinds.items()
    }


def _natural(x: FloatArray, y: IntArray) -> NDArray[np.bool_]:
    """In each class the share with the smallest top-two gap of a classifier on at most 64 components."""
    width = min(64, x.shape[1], len(x) // 3)
    model = make_pipeline(StandardScaler(), PCA(width, random_state=0), LogisticRegression(C=0.1, max_iter=300))
    top = np.partition(cross_val_predict(model, x, y, cv=3, method="predict_proba"), -2, axis=1)[:, -2:]
    gap, hard = top[:, 1] - top[:, 0], np.zeros(len(y), bool)
    for label in np.unique(y):
        rows = np.flatnonzero(y == label)
        hard[rows[np.argsort(gap[rows])[: max(1, round(_HARD * len(rows)))]]] = True
    return hard


def nearest(x: FloatArray, count: int) -> tuple[FloatArray, IntArray]:
    """Cosines after centring and positions (N, count) of the nearest rows, without the row itself."""
    rows = unit(x - x.mean(axis=0))
    index = faiss.IndexFlatIP(rows.shape[1])
    index.add(rows)
    cosines, found = index.search(rows, count + 1)
    itself = found == np.arange(len(x))[:, None]
    itself[~itself.any(axis=1), -1] = True
    shape = (len(x), count)
    return cosines[~itself].reshape(shape), found[~itself].reshape(shape)


def distinct(case: LabelledSet) -> LabelledSet:
    """The set without exact copies, classes renumbered without gaps."""
    rows = np.sort(np.unique(case.x.round(5), axis=0, return_index=True)[1])
    words = None if case.words is None else [case.words[row] for row in rows]
    return case._replace(x=case.x[rows], y=np.unique(case.y[rows], return_inverse=True)[1], words=words)


TASKS: dict[str, Callable[[LabelledSet], dict[str, Measures]]] = {
    "labels": labels, "copies": copies, "pairs": pairs, "scores": scores,
}  # fmt: skip


def _place(row: dict[str, Any]) -> tuple[int, int]:
    """Rows of a file are sorted by task and set."""
    return list(TASKS).index(row["study"]), list(SETS).index(row["group"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "pairsift-curation")
    parser.add_argument("--sets", nargs="+")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    if "PAIRSIFT_DATA" not in os.environ:
        print("PAIRSIFT_DATA is not set: only sets that need no data are measured", file=sys.stderr)
    faiss.omp_set_num_threads(options.threads)
    torch.set_num_threads(options.threads)
    facts = environment(options.threads) | versions("cleanlab", "semhash", "faiss-cpu")
    measured: dict[tuple[str, str, str], dict[str, Any]] = {}
    if options.output is not None and options.output.exists():
        measured = {(row["study"], row["group"], row["arm"]): row for row in read(options.output)}
    for case in map(distinct, sets(options.cache, options.sets)):
        for task in options.tasks:
            for kind, measures in TASKS[task](case).items():
                print(json.dumps({"task": task, "set": case.name, "kind": kind, **measures}), flush=True)
                settings = {"kind": case.kind, "half": case.half, "rows": len(case.x)}
                row = row_of(task, measures | facts, group=case.name, arm=kind, settings=settings)
                measured[task, case.name, kind] = row
                if options.output is not None:
                    write(options.output, sorted(measured.values(), key=_place))


if __name__ == "__main__":
    main()
