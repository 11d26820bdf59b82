"""Masks of false negatives when every method has its best settings, beside the exact map, on frozen text features.

Pairs: two questions of one intent (banking77) or kind (trec6), drawn once a seed, and the halves of a post
(newsgroups20). Rate, temperature, length and width of every method are those of the study `retrieval-tuning`. In each
run a tenth of the pairs is held out to find the best step, and the adapter is trained again on all pairs for as many
steps. Test rows are measured; documents of a query's label are relevant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lab.adapters import Setting, trained, tuned
from lab.studies.retrieval_tuning import GROUPS, LARGE, METHODS, OF_LARGE, chosen, setting_of, texts_of
from lab.studies.retrieval_tuning import arms as grid
from lab.study import Arm, Measures, Scale, Study, needs
from lab.text_measures import measured
from lab.text_sets import SETS, FloatArray, Held, TextSet
from pairsift.neighbors import unit_rows
from pairsift.spectral import SpectralMap
from pairsift.spectral.head import train_head

# Methods without a mask: the features as they are, the spectral map, and the network trained on from it.
WITHOUT = ("frozen", "exact", "exact, trained on")


def arms(scale: Scale) -> list[Arm]:
    """All methods on every set."""
    return [
        Arm(
            method,
            {"set": name, "group": group, "method": method},
            group,
            baseline="" if method == "plain" else "plain",
        )
        for group, (name, _) in list(GROUPS.items())[: 1 if scale == "smoke" else None]
        for method in (*WITHOUT, *(METHODS if scale != "smoke" else ("plain", "guide")))
        if group != LARGE or method in (*WITHOUT, *OF_LARGE)
    ]


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """Measures of the test rows, and the settings."""
    texts = texts_of(setting["set"]).paired(seed)
    if setting["method"] == "frozen":
        return measured(texts.test)
    if setting["method"] in WITHOUT:
        return _exact(texts, seed, setting["method"] != "exact")
    best = _setting(setting, scale)
    steps = tuned(texts, best, seed).steps
    facts = best._asdict() | {"steps": steps, "most_steps": best.steps}
    adapter = trained(texts, best, seed, steps)
    return _measured(texts.test, adapter.transform) | {name: facts[name] for name in facts if name != "mask"}


def _setting(setting: dict[str, Any], scale: Scale) -> Setting:
    """The tuned setting of an arm; at smoke scale the first of its grid."""
    if scale != "smoke":
        return setting_of(chosen()[setting["group"], setting["method"]])
    return setting_of(dict(next(arm.setting for arm in grid("smoke") if arm.of == setting["method"])))


def _exact(texts: TextSet, seed: int, train: bool) -> dict[str, float | None]:
    """Measures of the spectral map, or of the network trained on from it where held-out pairs improve."""
    fitted = SpectralMap.fit(texts.anchors, texts.positives, seed=seed)
    if not train:
        return _measured(texts.test, fitted.transform)
    found = train_head(texts.anchors, texts.positives, fitted, keys=(texts.anchor_keys, texts.positive_keys), seed=seed)
    if found.head is None:
        return _measured(texts.test, fitted.transform) | {"steps": 0.0}
    return _measured(texts.test, found.head.transform) | {"steps": float(found.steps)}


def _measured(test: Held, transform: Callable[[FloatArray], FloatArray]) -> dict[str, float | None]:
    """The measures of transformed features."""
    queries, documents = (unit_rows(transform(each)) for each in (test.queries, test.documents))
    return dict(measured(replace(test, queries=queries, documents=documents)))


def _ready(arms: Sequence[Arm], scale: Scale) -> None:
    needs(*SETS)(arms, scale)
    if scale != "smoke":
        chosen()


STUDY = Study(
    "retrieval-tuned",
    "What is a mask of false negatives worth when every method is tuned, and what is the exact map worth?",
    arms,
    run,
    {"ndcg10": "nDCG@10", "mrr10": "MRR@10", "recall10": "recall@10", "knn20": "20-NN"},
    differences=2,
    seconds=15,
    seeds=10,
    ready=_ready,
)
