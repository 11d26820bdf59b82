"""The exact treatments: what is drawn, what is removed and which pairs get a margin."""

import numpy as np
import pytest
import torch

from lab.studies import exact_treatments as study
from pairsift.pairs import RankBand


def examples(n=60, mixed=12):
    rng = np.random.default_rng(0)
    labels = np.arange(n) % 4
    centres = 4 * rng.standard_normal((4, 10))
    views = [(centres[labels] + rng.standard_normal((n, 10))).astype(np.float32) for _ in range(3)]
    return study.Examples(*views, labels, np.arange(n) < mixed, views[2], labels)


def test_every_seed_draws_other_examples_and_every_arm_the_same_ones():
    first, again, other = (study.resample(400, seed, "cpu") for seed in (0, 0, 1))
    assert len(first) == 300
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(study.resample(10_000, 0, "cpu")) == 1000


@pytest.mark.parametrize("mixed", [0, 12])
@pytest.mark.parametrize("removed", ["scan", "sas", "random"])
def test_as_many_are_left_as_the_truth_leaves(removed, mixed):
    given = examples(mixed=mixed)
    left = study._left({"removed": removed}, given, np.arange(60), 0)
    assert len(left) == len(set(left)) == 48
    if mixed:
        assert np.array_equal(study._left({"removed": "truth"}, given, np.arange(60), 0), np.arange(12, 60))


def test_only_pairs_of_different_classes_of_the_band_get_the_margin():
    given, band = examples(), RankBand(0.02, 0.5)
    h = torch.from_numpy(given.first)
    found = study.DifferentClasses(band, given.labels).masks(h).whole()
    wanted = band.masks(h).whole().bool().numpy() & (given.labels[:, None] != given.labels)
    assert np.array_equal(found.numpy(), wanted)
    assert 0 < wanted.sum() < band.masks(h).whole().sum()


def test_a_margin_changes_the_map_and_all_its_measures_are_there(monkeypatch):
    monkeypatch.setattr(study, "_examples", lambda name, mixed, scale: examples())
    plain = study.run({"set": "digits"}, 0, "cpu")
    treated = study.run({"set": "digits", "pairs": "different classes", "margin": 1.0}, 0, "cpu")
    assert {*study.STUDY.measures} <= {*plain}
    assert plain["eigenvalue"] != treated["eigenvalue"]
