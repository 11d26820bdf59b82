"""Masks of false negatives and the exact map on frozen text features, every method at its best settings.

Pairs: two questions of one intent (banking77) or kind (trec6), drawn once a seed, and the halves of a post
(newsgroups20). Rate, temperature, length and width of every method are those of the study `retrieval-tuning`. In each
run a tenth of the pairs is held out to find the best step, and the adapter is trained again on all pairs for as many
steps. Test rows are measured; documents of a query's label are relevant.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab.adapters import Setting, trained, tuned
from lab.studies.adapt import ARMS, of_features
from lab.studies.retrieval_tuning import GROUPS, LARGE, METHODS, OF_LARGE, chosen, setting_of, texts_of
from lab.studies.retrieval_tuning import arms as grid
from lab.study import Arm, Measures, Scale, Study, needs
from lab.text_measures import measured
from lab.text_sets import SETS


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
        for method in (*ARMS, *(METHODS if scale != "smoke" else ("plain", "guide")))
        if group != LARGE or method in (*ARMS, *OF_LARGE)
    ]


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """Measures of the test rows, and the settings."""
    texts = texts_of(setting["set"]).paired(seed)
    if setting["method"] in ARMS:
        return of_features(texts, setting["method"], seed)
    best = _setting(setting, scale)
    steps = tuned(texts, best, seed).steps
    facts = {name: value for name, value in best._asdict().items() if name != "mask"}
    facts |= {"steps": steps, "most_steps": best.steps}
    return measured(texts.test.transformed(trained(texts, best, seed, steps).transform)) | facts


def _setting(setting: dict[str, Any], scale: Scale) -> Setting:
    """The tuned setting of an arm; at smoke scale the first of its grid."""
    if scale != "smoke":
        return setting_of(chosen()[setting["group"], setting["method"]])
    return setting_of(dict(next(arm.setting for arm in grid("smoke") if arm.of == setting["method"])))


def _ready(arms: Sequence[Arm], scale: Scale) -> None:
    needs(*SETS)(arms, scale)
    if scale != "smoke":
        chosen()


STUDY = Study(
    "retrieval-tuned",
    "How much do masks of false negatives and the exact map gain, when every method is tuned?",
    arms,
    run,
    {"ndcg10": "nDCG@10", "mrr10": "MRR@10", "recall10": "recall@10", "knn20": "20-NN"},
    differences=2,
    seconds=15,
    seeds=10,
    ready=_ready,
)
