"""Rank correlations of label-free quantities with the linear probe, over encoders of images."""

from __future__ import annotations

from lab.pictures import SECONDS, check_images, run
from lab.studies import combined, label_free_choice, long_tail, mixing, objectives, subsets
from lab.study import Study

_STUDIES = tuple(module.STUDY for module in (combined, mixing, objectives, long_tail, subsets))

STUDY = Study(
    name="label-free-images",
    question="Which label-free quantity of a trained encoder ranks runs on CIFAR-10 as their linear probe does?",
    arms=lambda scale: label_free_choice.arms_over(_STUDIES, scale, "cifar10"),
    run=run,
    measures=label_free_choice.STUDY.measures,
    differences=0,
    seconds=SECONDS,
    table="asked for by reviewers",
    ready=check_images,
    tables=label_free_choice.tables,
    notes=label_free_choice.notes,
)
