"""Frozen MiniLM features, the spectral map of them in closed form, and the network trained on from it, on three sets.

The pairs are those of the study `retrieval`: two questions of one intent (banking77) or kind (trec6), drawn once a
seed, and the halves of a post (newsgroups20). Ridge, width and power are chosen on held-out pairs, without labels. Test
rows are measured; documents of a query's label are relevant.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from lab.study import Arm, Measures, Scale, Study, data_folder, needs
from lab.text_measures import measured
from lab.text_sets import TextSet, load
from pairsift.spectral import SpectralMap
from pairsift.spectral.head import train_head

SETS = ("banking77", "newsgroups20", "trec6")
ARMS = ("frozen", "map", "map, trained on")


@lru_cache(maxsize=1)
def texts_of(name: str) -> TextSet:
    """A set, with its features kept in the folder `features`."""
    return load(name, data_folder(), Path("features"))


def arms(scale: Scale) -> list[Arm]:
    """Three ways to use frozen features, on every set."""
    return [
        Arm(arm, {"set": name, "features": arm}, name, baseline="" if arm == "frozen" else "frozen")
        for arm in ARMS[: 2 if scale == "smoke" else None]
        for name in SETS[: 1 if scale == "smoke" else None]
    ]


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """Measure the features of an arm on the test rows."""
    return of_features(texts_of(setting["set"]).paired(seed), setting["features"], seed)


def of_features(texts: TextSet, features: str, seed: int) -> Measures:
    """Measure one of `ARMS` on the test rows; the chosen settings are among the measures."""
    if features == "frozen":
        return measured(texts.test)
    fitted = SpectralMap.fit(texts.anchors, texts.positives, seed=seed)
    chosen: dict[str, float | None] = {
        "ridge": fitted.ridge, "dimensions": float(fitted.dimensions), "power": fitted.power
    }  # fmt: skip
    transform = fitted.transform
    if features != "map":
        trained = train_head(
            texts.anchors, texts.positives, fitted, keys=(texts.anchor_keys, texts.positive_keys), seed=seed
        )
        chosen |= {"steps": float(trained.steps if trained.head is not None else 0), "temperature": trained.temperature}
        transform = fitted.transform if trained.head is None else trained.head.transform
    return measured(texts.test.transformed(transform)) | chosen


STUDY = Study(
    "adapt",
    "What is a linear map of frozen text embeddings worth, solved in closed form and chosen without labels?",
    arms,
    run,
    {"ndcg10": "nDCG@10", "mrr10": "MRR@10", "recall10": "recall@10", "knn20": "20-NN"},
    differences=2,
    seconds=30,
    seeds=5,
    version=2,
    ready=needs(*SETS),
)
