"""Studies on CIFAR-10: which parts of a set are chosen, and which runs studies share."""

import itertools

import numpy as np
import pytest

from lab import Arm
from lab.pictures import shortest
from lab.registry import find_study
from lab.subset_choice import CHOOSERS


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.fixture
def clouds():
    """Three clouds of 12, 20 and 28 rows around directions of their own."""
    y = np.repeat([0, 1, 2], [12, 20, 28])
    return (4 * np.eye(3, 5)[y] + np.random.default_rng(0).normal(size=(60, 5))).astype(np.float32), y


@pytest.mark.parametrize("kind", CHOOSERS)
@pytest.mark.parametrize("count", [15, 30, 59])
def test_parts_have_their_size_and_no_row_twice(clouds, kind, count):
    rows = CHOOSERS[kind](clouds[0], count, 3, 0)
    assert len(set(rows)) == len(rows) == count
    assert (np.diff(rows) > 0).all()
    assert (rows == CHOOSERS[kind](clouds[0], count, 3, 0)).all()


def test_augmentation_similarity_takes_of_every_cluster_in_proportion(clouds):
    x, y = clouds
    rows = CHOOSERS["sas"](x, 30, 3, 0)
    assert np.bincount(y[rows]).tolist() == [6, 10, 14]


def test_augmentation_similarity_nearly_maximises_similarity_across_the_cut():
    x = np.random.default_rng(1).normal(size=(10, 3)).astype(np.float32) + 1
    similarity = unit(x) @ unit(x).T

    def across(rows):
        return similarity[np.ix_(rows, np.setdiff1d(np.arange(10), rows))].sum()

    ours = across(CHOOSERS["sas"](x, 3, 1, 0))
    every = sorted(across(list(rows)) for rows in itertools.combinations(range(10), 3))
    assert ours >= every[-2]


def test_prototypes_are_left_with_the_rows_nearest_to_them(clouds):
    x, y = clouds
    centres = unit(np.stack([unit(x[y == each]).mean(axis=0) for each in range(3)]))
    similarity = (unit(x) * centres[y]).sum(axis=1)
    rows = CHOOSERS["prototypes"](x, 30, 3, 0)
    assert similarity[rows].mean() > np.delete(similarity, rows).mean() + 0.05
    assert np.isin(np.argsort(-similarity)[:20], rows).all()


def test_studies_share_the_runs_that_are_trained_alike():
    def settings(name):
        return [dict(arm.setting) for arm in find_study(name).of_scale("cpu")]

    combined = settings("combined")
    assert {} in combined
    assert sum(each in combined for each in settings("mixing")) == 3
    assert sum(each in combined for each in settings("objectives")) == 3
    assert settings("subsets")[-1] == {}


def test_settings_are_left_out_only_where_the_run_stays_the_same():
    arms = [
        {"temperature": 0.5, "treatment": "margin"}, {"method": "moco", "temperature": 0.5},
        {"method": "moco", "temperature": 0.2}, {"mixed": 0.2, "margin": 0.03}, {"keep": "scan", "share": 0.5},
    ]  # fmt: skip
    assert [arm.setting for arm in shortest([Arm(str(i), each) for i, each in enumerate(arms)])] == [
        {"treatment": "margin"}, {"method": "moco", "temperature": 0.5}, {"method": "moco"}, {"mixed": 0.2},
        {"keep": "scan", "share": 0.5},
    ]  # fmt: skip
