"""How well class-mates are told from others among near pairs, by the affinity and by each sign alone.

    python -m lab.classmates NAME=FEATURES ... [--guide NAME=GUIDE] [--output FILE.json]

FEATURES are labelled embeddings that `pairsift scan` reads; `digits` stands for scikit-learn's digits as pixels, `fsdd`
for spoken digits (needs PAIRSIFT_DATA) as mean energies of mel bands in the first, second and third part of each. Of
2,000 rows (all of a smaller set) the 50 nearest by centred cosine are judged, by an affinity of the same features and,
in the set that --guide names, by one of a guide's features of the same rows (the file's name is the guide's); labels
are only compared with. A figure of a set whose family the affinity's constants were fitted on is in-sample for the
level, not for the order of pairs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from lab.frames import load
from lab.records import RESULTS, data_folder, environment
from pairsift._base.files import write_json
from pairsift.data import FeatureSource, open_features
from pairsift.neighbors import generator, principal_axes, shrinkage_whitening, unit_rows
from pairsift.same_class import Affinity

_ROWS, _NEAREST, _BINS, _GROUPS = 2000, 50, 10, 20

FloatArray = NDArray[np.float32]


def judge(
    features: FloatArray, labels: NDArray[np.int64], seed: int = 0, guides: Mapping[str, FloatArray] = {}
) -> dict[str, Any]:
    """AUROC of "of different classes" among near pairs, by several signs, and how true the affinity's level is.

    Args:
        features: (N, D).
        labels: (N,).
        seed: of the rows looked at, and the affinity.
        guides: (N, G) features of the same rows by other encoders, by name.

    Returns:
        AUROC of every sign; that of the affinity, and of one of every guide's features, at equal cosine; expected
        calibration error over ten bins; share of different classes, and what the affinity estimates it to be; seconds
        of the fit.
    """
    centre, values, vectors = principal_axes(features)
    spaces = {
        "cosine": unit_rows(features),
        "centred": unit_rows(features - centre),
        "whitened": unit_rows(np.asarray((features - centre) @ shrinkage_whitening(values, vectors), np.float32)),
    }
    rows = np.sort(generator(seed).choice(len(features), min(len(features), _ROWS), replace=False))
    similarity = spaces["centred"][rows] @ spaces["centred"].T
    similarity[np.arange(len(rows)), rows] = -np.inf
    near = np.argpartition(-similarity, _NEAREST, axis=1)[:, :_NEAREST]
    anchors, others = np.repeat(rows, _NEAREST), near.ravel()
    different = labels[anchors] != labels[others]
    start = time.perf_counter()
    affinity = Affinity.fit(features, seed=seed)
    seconds = time.perf_counter() - start
    estimate = 1 - affinity.probability(anchors, others)
    signs = {name: -np.einsum("pd,pd->p", space[anchors], space[others]) for name, space in spaces.items()}
    added = {"affinity": estimate}
    for name, guide in guides.items():
        added[name] = 1 - Affinity.fit(guide, seed=seed).probability(anchors, others)
    cosine = -signs["cosine"]
    return {
        "n": len(features), "dimensions": features.shape[1], "classes": len(np.unique(labels)),
        "auroc": {name: round(float(roc_auc_score(different, sign)), 4) for name, sign in signs.items()}
        | {"affinity": round(float(roc_auc_score(different, estimate)), 4)},
        "auroc_at_equal_cosine": {name: round(at_equal(cosine, different, each), 4) for name, each in added.items()},
        "calibration_error": round(_calibration_error(estimate, different), 4),
        "different": round(float(different.mean()), 4), "estimated": round(float(estimate.mean()), 4),
        "fit_seconds": round(seconds, 2),
    }  # fmt: skip


def at_equal(values: FloatArray, truth: NDArray[np.bool_], estimate: FloatArray) -> float:
    """AUROC of an estimate among pairs of about equal `values`: what it knows beyond these.

    Twenty groups of equally many pairs, weighted by the couples of a true and a false pair in each.

    Args:
        values, truth, estimate: (P,).
    """
    total, weights = 0.0, 0.0
    for group in np.array_split(np.argsort(values, kind="stable"), _GROUPS):
        couples = float(truth[group].sum()) * float((~truth[group]).sum())
        if couples:
            total += couples * float(roc_auc_score(truth[group], estimate[group]))
            weights += couples
    return total / weights if weights else float("nan")


def _calibration_error(estimate: FloatArray, truth: NDArray[np.bool_]) -> float:
    """Mean distance of estimate and truth over ten equal bins of the estimate, weighted by their pairs."""
    bins = np.minimum((estimate * _BINS).astype(int), _BINS - 1)
    gaps = [np.abs(np.sum((estimate - truth)[bins == each])) for each in range(_BINS)]
    return float(np.sum(gaps) / len(estimate))


def _named(name: str) -> tuple[FloatArray, NDArray[np.int64]] | None:
    """Features and labels of a set that needs no file; None for others."""
    if name == "digits":
        pixels, labels = load_digits(return_X_y=True)
        return (pixels / 16).astype(np.float32), labels
    if name == "fsdd":
        spoken, _ = load(data_folder(), "fsdd", per_class=270)
        parts = [np.array_split(spoken.values[spoken.sequences == each], 3) for each in np.unique(spoken.sequences)]
        features = [np.concatenate([part.mean(axis=0) for part in each]) for each in parts]
        return np.asarray(features, np.float32), spoken.labels["digit"]
    return None


def _all(source: FeatureSource) -> FloatArray:
    return source.take(np.arange(source.shape[0]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Judge every named set, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="+", metavar="NAME=FEATURES")
    parser.add_argument("--output", type=Path, default=RESULTS / "classmates.json")
    parser.add_argument("--guide", action="append", default=[], metavar="NAME=GUIDE")
    options = parser.parse_args(arguments)
    guides: dict[str, dict[str, FloatArray]] = {}
    for name, _, file in (each.rpartition("=") for each in options.guide):
        guides.setdefault(name, {})[Path(file).stem] = _all(open_features(file))
    results: dict[str, Any] = {}
    for each in options.sets:
        name, _, file = each.partition("=")
        known = _named(each)
        if known is None:
            source = open_features(file)
            if source.labels is None:
                parser.error(f"{file} has no labels to compare with")
            known = _all(source), source.labels
        features, labels = known
        results[name] = judge(features, labels, guides=guides.get(name, {}))
        print(name, results[name], flush=True)
        write_json(options.output, {"sets": results, "environment": environment(0)})


if __name__ == "__main__":
    main()
