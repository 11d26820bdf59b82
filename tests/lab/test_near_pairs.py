import numpy as np
import pytest

from lab.studies.near_pairs import at_equal, measured, run


def clusters(spread, seed=0):
    """300 rows of three classes around the axes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(300) % 3
    return (np.eye(3, 8)[labels] + spread * rng.standard_normal((300, 8))).astype(np.float32), labels


def test_clear_clusters_are_told_apart_and_shuffled_labels_are_not():
    features, labels = clusters(0.25)
    found = measured(features, labels)
    assert found["auroc/affinity"] > 0.95
    assert (found["n"], found["classes"]) == (300, 3)
    shuffled = measured(features, np.random.default_rng(1).permutation(labels))
    assert abs(shuffled["auroc/affinity"] - 0.5) < 0.05
    assert shuffled["different"] == pytest.approx(2 / 3, abs=0.03)
    # The estimate cannot know of labels: it is the same, and its error is what changes.
    assert shuffled["estimated"] == found["estimated"]


def test_what_is_known_beyond_a_value_is_measured_at_equal_values():
    rng = np.random.default_rng(0)
    values = rng.standard_normal(20_000)
    truth = rng.random(20_000) < 1 / (1 + np.exp(-2 * values))
    assert at_equal(values, truth, values) == pytest.approx(0.5, abs=0.03)
    # Two normal distributions one apart: AUROC is Phi(1 / sqrt(2)).
    evidence = truth + rng.standard_normal(20_000)
    assert at_equal(values, truth, 5 * values + evidence) == pytest.approx(0.76, abs=0.02)
    assert np.isnan(at_equal(values, np.ones(20_000, bool), evidence))


def test_a_guide_is_judged_beside_the_own_features():
    features, labels = clusters(1.0)
    found = measured(features, labels, guides={"guide": clusters(0.2, seed=1)[0]})
    assert found["auroc_at_equal_cosine/guide"] > 0.95 > found["auroc_at_equal_cosine/affinity"]


def test_the_estimate_of_digits_is_better_than_every_sign():
    found = run({"features": "digits"}, 0, "cpu")
    signs = {name: value for name, value in found.items() if name.startswith("auroc/")}
    assert max(signs, key=signs.get) == "auroc/affinity"
    assert len(signs) == 4
