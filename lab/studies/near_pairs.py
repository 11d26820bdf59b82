"""The quality of the same-class estimate and of single signs among near pairs.

The pairs are the 50 nearest rows by centred cosine of each of 2,000 rows (all of a smaller set). They are scored by an
estimate fitted to the same features and, for one set, by estimates fitted to features of a guide. Labels serve the
comparison only. A set whose family the estimate's constants were fitted on is in-sample for the level, not for the
order of pairs.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from lab.frames import load
from lab.image_guide import image_features
from lab.selection_training import SETS, images_of, plain_features
from lab.study import Arm, Measures, Scale, Study, data_folder, needs
from lab.text_sets import encoded
from pairsift.neighbors import generator, principal_axes, shrinkage_whitening, unit_rows
from pairsift.same_class import Affinity, patch_features

_ROWS, _NEAREST, _BINS, _GROUPS = 2000, 50, 10, 20

FloatArray = NDArray[np.float32]


def measured(
    features: FloatArray, labels: NDArray[np.int64], seed: int = 0, guides: Mapping[str, FloatArray] = {}
) -> dict[str, Any]:
    """AUROC of "different class" among near pairs by several signs, and the calibration of the affinity.

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
        **{f"auroc/{name}": round(float(roc_auc_score(different, sign)), 4) for name, sign in signs.items()},
        "auroc/affinity": round(float(roc_auc_score(different, estimate)), 4),
        **{
            f"auroc_at_equal_cosine/{name}": round(at_equal(cosine, different, each), 4) for name, each in added.items()
        },
        "calibration_error": round(_calibration_error(estimate, different), 4),
        "different": round(float(different.mean()), 4), "estimated": round(float(estimate.mean()), 4),
        "fit_seconds": round(seconds, 2),
    }  # fmt: skip


def at_equal(values: FloatArray, truth: NDArray[np.bool_], estimate: FloatArray) -> float:
    """AUROC of an estimate among pairs with nearly equal `values`.

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
    """Mean distance of estimate and truth over ten equal bins of the estimate, weighted by pairs."""
    bins = np.minimum((estimate * _BINS).astype(int), _BINS - 1)
    gaps = [np.abs(np.sum((estimate - truth)[bins == each])) for each in range(_BINS)]
    return float(np.sum(gaps) / len(estimate))


# Sets of features, and what they are of.
_IMAGES: dict[str, dict[str, Any]] = {
    **{f"CIFAR-10, tau {tau:g}, seed {seed}": {"set": "cifar10", "temperature": tau, "seed": seed}
       for tau in (0.5, 0.2) for seed in range(3)},
    "Tiny ImageNet": {"set": "tiny-imagenet", "temperature": 0.2, "seed": 0},
    "Imagenette": {"set": "imagenette", "temperature": 0.2, "seed": 0},
}  # fmt: skip
_TEXTS = {"banking77": ("banking77", 10_003), "20 newsgroups": ("newsgroups20", 5000), "TREC": ("trec6", 5452)}
_GUIDED = "CIFAR-10, tau 0.2, seed 0"


def arms(scale: Scale) -> list[Arm]:
    """One a set."""
    names = ["digits"] if scale == "smoke" else [*_IMAGES, "digits", "pendigits", *_TEXTS, "fsdd"]
    return [Arm("", {"features": name}, name, baseline="") for name in names]


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """Measures of one set. Encoders of images are trained here."""
    name = setting["features"]
    guides = {}
    if name == _GUIDED:
        images = images_of("cifar10")
        guides = {"patches": patch_features(images.images, seed=0), "guide": image_features(images.images)}
    return measured(*features_of(name), seed, guides)


def features_of(name: str) -> tuple[FloatArray, NDArray[np.int64]]:
    """Features (N, D) and labels (N,) of a set."""
    if name == "digits":
        pixels, labels = load_digits(return_X_y=True)
        return (pixels / 16).astype(np.float32), labels
    if name == "fsdd":
        spoken, _ = load(data_folder(), "fsdd", per_class=270)
        parts = [np.array_split(spoken.values[spoken.sequences == each], 3) for each in np.unique(spoken.sequences)]
        means = [np.concatenate([part.mean(axis=0) for part in each]) for each in parts]
        return np.asarray(means, np.float32), spoken.labels["digit"]
    if name in _IMAGES:
        given = _IMAGES[name]
        images = images_of(given["set"])
        assert images.labels is not None
        features = plain_features(given["set"], given["temperature"], given["seed"])
        return features, images.labels
    folder, count = _TEXTS.get(name, (name, None))
    table = pq.read_table(data_folder() / folder / "train.parquet").slice(0, count)
    labels = table["label"].to_numpy().astype(np.int64)
    if name == "pendigits":
        return np.asarray(table["values"].to_pylist(), np.float32), labels
    return encoded(table["text"].to_pylist(), tokens=64), labels


def check(arms: Sequence[Arm], scale: Scale) -> None:
    """Refuse sets whose data are missing.

    Raises:
        StudyError: it says what is missing.
    """
    if scale != "smoke":
        images = dict.fromkeys(SETS[given["set"]][0] for given in _IMAGES.values())
        needs("pendigits", "fsdd", *(folder for folder, _ in _TEXTS.values()), *images)(arms, scale)


STUDY = Study(
    name="near-pairs",
    question="How well does the same-class estimate tell near pairs of one class from others?",
    arms=arms,
    run=run,
    measures={"auroc/affinity": "AUROC of the estimate", "auroc/cosine": "AUROC of the cosine",
              "calibration_error": "calibration error"},
    differences=0,
    seconds=60.0,
    seeds=1,
    ready=check,
)  # fmt: skip
