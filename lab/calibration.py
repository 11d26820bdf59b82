"""Fits the constants of `pairsift.same_class.estimator` to labelled sets.

    python -m lab.calibration images=a.npz images=b.npz digits=c.npz text=d.npz

Every set is a .npz file with `features` (N, D) and `labels` (N,), named by its family. Sets of one family share one
weight, and are left out together when the constants are tested on sets that they were not fitted to.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pairsift.neighbors import FloatArray, unit_rows
from pairsift.same_class.estimator import Constants, PairScores, pair_scores

# Rows in the sample, nearest rows that each is paired with, and rows from the band below them and from all others.
_ANCHORS, _NEAR, _FEW = 400, 50, 15
# Weights of the pairs of each kind together.
_WEIGHTS = {"near": 2.0, "band": 0.3, "any": 0.7}
# Ranks of the band, as a share of the other rows.
_BAND = (0.15, 0.22)


@dataclass(frozen=True)
class DesignSet:
    """Pairs of a labelled set, by kind: (P, 3) inputs in which the logit is linear, and (P,) whether of one class."""

    family: str
    name: str
    inputs: dict[str, NDArray[np.float64]]
    same: dict[str, NDArray[np.bool_]]


def design_set(family: str, name: str, features: FloatArray, labels: NDArray[np.int64], seed: int = 0) -> DesignSet:
    """Pairs of a labelled set, sampled by their cosine after centring."""
    unit = unit_rows(np.asarray(features, dtype=np.float32))
    fitted = pair_scores(unit, seed)
    draw = np.random.default_rng(seed)
    anchors = draw.choice(len(unit), min(_ANCHORS, len(unit)), replace=False)
    centred = unit_rows(unit - unit.mean(axis=0))
    similar = centred[anchors] @ centred.T
    similar[np.arange(len(anchors)), anchors] = -np.inf
    order = np.argsort(-similar, axis=1)[:, :-1]
    low, high = (int(share * order.shape[1]) for share in _BAND)
    ranks = {
        "near": np.tile(np.arange(min(_NEAR, order.shape[1])), (len(anchors), 1)),
        "band": draw.integers(low, max(high, low + 1), (len(anchors), _FEW)),
        "any": draw.integers(0, order.shape[1], (len(anchors), _FEW)),
    }
    inputs, same = {}, {}
    for kind, chosen in ranks.items():
        rows, others = np.repeat(anchors, chosen.shape[1]), np.take_along_axis(order, chosen, axis=1).ravel()
        inputs[kind] = _inputs(fitted, rows, others)
        same[kind] = labels[rows] == labels[others]
    return DesignSet(family, name, inputs, same)


def _inputs(fitted: PairScores, rows: NDArray[np.int64], others: NDArray[np.int64]) -> NDArray[np.float64]:
    scores = fitted.of_pairs(rows, others).mean(axis=1, dtype=np.float64)
    return np.column_stack([scores, *(np.full(len(rows), sharpness) for sharpness in fitted.sharpness)])


def calibrate(sets: list[DesignSet]) -> Constants:
    """The constants of the logistic function that fits these sets, with equal weights of their families."""
    from sklearn.linear_model import LogisticRegression

    inputs, same, weights = [], [], []
    for each in sets:
        members = sum(other.family == each.family for other in sets)
        for kind, share in _WEIGHTS.items():
            inputs.append(each.inputs[kind])
            same.append(each.same[kind])
            weights.append(np.full(len(same[-1]), share / len(same[-1]) / members))
    weight = np.concatenate(weights)
    model = LogisticRegression(C=100, max_iter=500)
    model.fit(np.concatenate(inputs), np.concatenate(same), sample_weight=weight * len(weight) / weight.sum())
    return Constants(float(model.intercept_[0]), *map(float, model.coef_[0]))


def probabilities(inputs: NDArray[np.float64], constants: Constants) -> NDArray[np.float64]:
    """P(same class) of pairs."""
    result: NDArray[np.float64] = 1 / (1 + np.exp(-(constants.intercept + inputs @ np.array(constants[1:]))))
    return result


def main(arguments: list[str]) -> None:
    """Print how well each family is predicted from the others, and the constants fitted to all."""
    from sklearn.metrics import roc_auc_score

    sets = []
    for argument in arguments:
        family, _, path = argument.partition("=")
        with np.load(path) as content:
            sets.append(design_set(family, Path(path).stem, content["features"], content["labels"]))
    for each in sets:
        others = [other for other in sets if other.family != each.family]
        if others:
            p, same = probabilities(each.inputs["near"], calibrate(others)), each.same["near"]
            auroc = roc_auc_score(same, p)
            print(f"{each.family} {each.name}: near pairs AUROC {auroc:.3f}, P {p.mean():.3f}, true {same.mean():.3f}")
    print(calibrate(sets))


if __name__ == "__main__":
    main(sys.argv[1:])
