"""P(same class) without labels."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

import pairsift as ps
from pairsift.same_class import AffinityError


def clusters(count=2, rows=100, width=12, noise=0.35, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(count), rows)
    features = np.eye(count, width)[labels] + noise * rng.standard_normal((count * rows, width))
    return features.astype(np.float32), labels


def every_pair(n):
    return np.triu_indices(n, 1)


@pytest.mark.parametrize(("count", "rows"), [(2, 100), (3, 200), (5, 200), (10, 100)])
def test_clusters_are_separated(count, rows):
    features, labels = clusters(count, rows, noise=0.2)
    first, second = every_pair(len(labels))
    p, same = ps.Affinity.fit(features).probability(first, second), labels[first] == labels[second]
    assert p.min() >= 0
    assert p.max() <= 1
    assert roc_auc_score(same, p) > 0.95


@pytest.mark.parametrize(("count", "rows"), [(5, 400), (10, 200)])
def test_the_level_is_about_right_in_sets_of_clear_clusters(count, rows):
    features, labels = clusters(count, rows, noise=0.2)
    first, second = every_pair(len(labels))
    p, same = ps.Affinity.fit(features).probability(first, second), labels[first] == labels[second]
    assert 0.5 < p[same].mean() < 1
    assert p[~same].mean() < 0.05
    assert same[p > 0.6].mean() > 0.95
    assert same[p < 0.2].mean() < 0.05
    assert abs(p.mean() - same.mean()) < 0.1


def test_a_row_is_of_one_class_with_itself():
    features, _ = clusters(3)
    affinity = ps.Affinity.fit(features)
    np.testing.assert_array_equal(affinity.probability([17, 4], [17, 4]), 1)
    assert torch.equal(affinity.between(affinity.codes[:20], affinity.codes[:20]).diagonal(), torch.ones(20))
    assert affinity.probability([0], [150])[0] < 0.5


def test_noise_without_classes_gives_no_certainty_of_a_class():
    features = np.random.default_rng(0).standard_normal((400, 16))
    rows, others = every_pair(400)
    p = ps.Affinity.fit(features).probability(rows, others)
    assert p.mean() < 0.3
    assert (p > 0.9).mean() < 0.01


def test_pairs_are_symmetric_and_between_and_attach_give_the_same():
    features, _ = clusters(3)
    affinity = ps.Affinity.fit(features)
    rows, others = np.array([0, 5, 250, 7]), np.array([1, 120, 5])
    matrix = affinity.between(affinity.codes[rows], affinity.codes[others])
    assert matrix.shape == (4, 3)
    assert matrix.dtype == torch.float32
    pairs = affinity.probability(np.repeat(rows, 3), np.tile(others, 4)).reshape(4, 3)
    np.testing.assert_allclose(matrix, pairs, atol=2e-6)
    np.testing.assert_allclose(pairs.ravel(), affinity.probability(np.tile(others, 4), np.repeat(rows, 3)), atol=2e-6)
    h = torch.randn(4, 6, requires_grad=True)
    with pytest.warns(DeprecationWarning, match="pass rows= to the loss"):
        attached = affinity.attach(h, torch.from_numpy(rows))
    assert attached.shape == (4, 6 + affinity.width)
    assert not attached.requires_grad
    assert torch.equal(attached[:, :6], h)
    assert torch.equal(attached[:, 6:], affinity.codes[rows])


def test_the_order_of_rows_and_their_lengths_do_not_matter():
    features, _ = clusters(4, noise=0.4)
    order = np.random.default_rng(1).permutation(len(features))
    rows, others = every_pair(len(features))
    usual = ps.Affinity.fit(features).probability(order[rows], order[others])
    lengths = np.random.default_rng(2).uniform(0.5, 2, (len(features), 1))
    np.testing.assert_allclose(ps.Affinity.fit((features * lengths)[order]).probability(rows, others), usual, atol=0.02)


def test_the_same_twice_and_nearly_so_with_another_seed():
    features, _ = clusters(4, noise=0.4)
    first = ps.Affinity.fit(features, seed=3)
    assert torch.equal(first.codes, ps.Affinity.fit(torch.from_numpy(features).double(), seed=3).codes)
    rows, others = every_pair(len(features))
    other_seed = ps.Affinity.fit(features, seed=4).probability(rows, others)
    np.testing.assert_allclose(first.probability(rows, others), other_seed, atol=0.05)


def test_saved_and_loaded(tmp_path):
    affinity = ps.Affinity.fit(clusters()[0])
    affinity.save(tmp_path / "affinity.safetensors")
    loaded = ps.Affinity.load(tmp_path / "affinity.safetensors")
    assert torch.equal(loaded.codes, affinity.codes)
    assert (loaded.n, loaded.width) == (affinity.n, affinity.width) == (200, affinity.codes.shape[1])
    assert [path.name for path in tmp_path.iterdir()] == ["affinity.safetensors"]


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "other").write_text("something")
    with pytest.raises(AffinityError, match="holds no affinity"):
        ps.Affinity.load(tmp_path / "other")
    with pytest.raises(OSError, match="missing"):
        ps.Affinity.load(tmp_path / "missing")


@pytest.mark.parametrize(
    "features",
    [
        np.repeat(np.random.default_rng(0).standard_normal((3, 8)), 40, axis=0),  # copies: a graph of three parts
        np.random.default_rng(0).standard_normal((60, 300)),  # more columns than rows
        np.random.default_rng(0).standard_normal((200, 2)),
        np.eye(8)[np.arange(80) % 8],
        np.vstack([np.zeros((5, 4)), np.random.default_rng(0).standard_normal((60, 4))]),
        1e30 * np.random.default_rng(0).standard_normal((50, 5)),
    ],
    ids=["copies", "wide", "plane", "one-hot", "zeros", "huge"],
)
def test_odd_sets_still_give_probabilities(features):
    rows, others = every_pair(len(features))
    p = ps.Affinity.fit(features).probability(rows, others)
    assert np.isfinite(p).all()
    assert p.min() >= 0
    assert p.max() <= 1


def test_parts_of_a_graph_are_different_classes():
    groups = np.repeat(np.arange(3), 40)
    affinity = ps.Affinity.fit(np.random.default_rng(0).standard_normal((3, 8))[groups])
    rows, others = every_pair(120)
    p, same = affinity.probability(rows, others), groups[rows] == groups[others]
    assert p[same].min() > p[~same].max()


def spoiled():
    features = clusters()[0]
    features[7, 2] = np.nan
    return features


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((100, 4)), "same direction"),
        (np.random.default_rng(0).standard_normal((49, 4)), "at least 50 rows"),
        (np.random.default_rng(0).standard_normal((100, 1)), "2 columns"),
        (np.zeros(100), "matrix of numbers"),
        (np.full((100, 3), "a"), "array of real numbers"),
        (spoiled(), "row 7 is not finite"),
    ],
)
def test_features_that_cannot_be_used_are_refused(features, message):
    with pytest.raises(AffinityError, match=message):
        ps.Affinity.fit(features)


def test_positions_and_codes_that_do_not_fit_are_refused():
    affinity = ps.Affinity.fit(clusters()[0])
    with pytest.raises(AffinityError, match="has 200 examples"):
        affinity.probability([0], [200])
    with pytest.raises(AffinityError, match="2 rows and 1 others"):
        affinity.probability([0, 1], [2])
    with pytest.raises(AffinityError, match="integer positions"):
        affinity.probability([0.5], [2])
    with pytest.raises(AffinityError, match="codes of this affinity"):
        affinity.between(affinity.codes[:2, :3], affinity.codes[:2])
    with pytest.raises(AffinityError, match="one row a position"), pytest.warns(DeprecationWarning, match="rows="):
        affinity.attach(torch.randn(3, 4), torch.arange(2))
