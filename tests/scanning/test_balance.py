"""Classes of unequal size: the largest must not be the difficult one."""

import dataclasses
import warnings

import numpy as np
import pytest
from mixtures import midpoints, unequal

import pairsift as ps
from pairsift.evaluate import detection
from pairsift.scanning.balance import balance


@pytest.mark.parametrize("ratio", [2, 5, 20])
@pytest.mark.parametrize("noise", [0.08, 0.12])
def test_mixtures_of_small_classes_are_found_next_to_a_large_class(ratio, noise):
    features, labels, planted = unequal([100 * ratio] + [100] * 9, noise=noise, planted=20)
    found = ps.scan(features, 10, threads=1)
    assert detection(found.scores, planted).auroc > 0.94
    dropped = found.drop(planted.mean())
    assert planted[dropped].mean() > 0.5
    assert (labels[dropped] == 0).mean() < 0.3


def test_a_long_tail_of_classes_is_found_too():
    features, _, planted = unequal((600 * 0.7 ** np.arange(10)).astype(int), planted=60)
    assert detection(ps.scan(features, 10, threads=1).scores, planted).auroc > 0.97


@pytest.mark.parametrize(("ratio", "noise"), [(10, 0.08), (50, 0.08), (20, 1.0)])
def test_each_class_weighs_about_the_same_whatever_its_size(ratio, noise):
    """Also where classes are wide, so that no gaps between them are seen."""
    radius = 1 if noise < 1 else np.sqrt(32)
    features, labels, _ = unequal([30 * ratio] + [30] * 9, noise=noise / radius, planted=0)
    found = balance(features, 10, 0)
    assert found.power >= 0.75
    assert found.weights.mean() == pytest.approx(1, abs=1e-5)
    sums = np.bincount(labels, found.weights)
    assert sums[0] / sums[1:].mean() < ratio / 3
    assert found.weights[labels > 0].min() > found.weights[labels == 0].mean()


def test_weights_grow_with_the_inequality_and_do_not_jump():
    """Between classes of one size and very unequal ones the power passes through the values between 0 and 1."""
    powers = [
        balance(unequal([50 * ratio] + [50] * 9, noise=0.18, planted=0)[0], 10, 0).power
        for ratio in (1, 2, 3, 4, 5, 6, 8, 12)
    ]
    assert powers[0] == 0
    assert powers[-1] >= 0.75
    assert any(0 < power < 1 for power in powers)


@pytest.mark.parametrize("classes", [2, 10, 40])
def test_a_cloud_without_classes_keeps_its_statistics(classes):
    cloud = np.random.default_rng(0).standard_normal((2000, 24)).astype(np.float32)
    for features in (cloud, cloud * np.linspace(0.1, 3, 24, dtype=np.float32)):
        found = balance(features, classes, 0)
        assert found.weights is None
        assert found.power == 0
        assert found.ratio < 1.5


@pytest.mark.parametrize("rows", [10, 40])
def test_too_few_rows_for_clusters_all_weigh_alike(rows):
    assert balance(np.random.default_rng(0).standard_normal((rows, 4)).astype(np.float32), 2, 0).weights is None


def test_rows_of_very_different_lengths_have_a_density():
    """Most rows are zeros next to the longest, and rounding may set a row apart from itself."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        rows = rng.standard_normal((48, 2)) * 10.0 ** rng.uniform(-30, 0, (48, 1))
        found = balance(rows.astype(np.float32), 2, 0)
        assert np.isfinite(found.ratio)
        assert found.weights is None or np.isfinite(found.weights).all()


def test_copies_of_one_row_are_no_reason_for_an_error():
    assert np.isfinite(balance(np.ones((200, 4), np.float32), 2, 0).ratio)


@pytest.mark.parametrize(
    ("sizes", "noise", "seed", "clusters"),
    [
        # The largest has 1.02 times the rows of the median class, and the smallest less than half of them.
        ([300, 394, 163, 389, 398, 387], 0.079, 60, 8),
        ([192, *[150] * 8], 0.05, 70, 9),
        ([192, *[150] * 5], 0.08, 0, 6),
    ],
)
def test_mixtures_are_found_among_classes_of_nearly_equal_size(sizes, noise, seed, clusters):
    features, _, planted = unequal(sizes, noise=noise, planted=13, seed=seed)
    assert detection(ps.scan(features, clusters, threads=1).scores, planted).auroc > 0.97


def test_a_large_class_with_many_mixtures_is_still_one():
    """A tenth of the rows are midpoints, most of them of the largest class."""
    features, labels, _ = unequal([1000] + [200] * 9, planted=0)
    rng = np.random.default_rng(0)
    rows = rng.choice(len(features), 280, replace=False)
    others = [rng.choice(np.flatnonzero(labels != labels[row])) for row in rows]
    clean = features.copy()
    features[rows] = (clean[rows] + clean[others]) / 2
    planted = np.isin(np.arange(len(features)), rows)
    assert detection(ps.scan(features, 10, threads=1).scores, planted).auroc > 0.9


def test_a_few_outliers_do_not_weigh_as_much_as_a_class():
    features, _, _ = unequal([400] * 5 + [4000], planted=0)
    features[:8] = 3 + 0.01 * np.random.default_rng(0).standard_normal((8, features.shape[1]))
    weights = balance(features, 6, 0).weights
    assert weights[:8].sum() < 0.5 * weights[400:800].sum()


def test_mixtures_of_five_overlapping_classes_are_found():
    features, _, planted = midpoints()
    assert detection(ps.scan(features, 6, threads=1).scores, planted).auroc > 0.97


@pytest.fixture(scope="module")
def found():
    features, labels, _ = midpoints(1000, seed=2)
    return ps.scan(features, 5, labels=labels, threads=1)


def test_no_cluster_loses_more_than_its_share(found):
    scores = np.where(found.clusters == 2, found.scores + 1, found.scores)  # all of cluster 2 comes first
    scan, sizes = dataclasses.replace(found, scores=scores / 2), np.bincount(found.clusters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for fraction, share in ((0.08, 0.25), (0.4, 0.5)):
            lost = np.bincount(found.clusters[scan.drop(fraction)], minlength=5)
            assert (lost <= share * sizes).all()
            assert lost.sum() == round(fraction * 1000)
        assert (found.clusters[scan.drop(0.1, cluster_share=1)] == 2).all()
        half = scan.drop(threshold=0.5, cluster_share=0.1)
        assert set(half) < set(scan.drop(threshold=0.5)) == set(np.flatnonzero(scan.scores >= 0.5))
    assert (np.diff(scan.scores[scan.drop(0.2)]) <= 0).all()
    with pytest.raises(ValueError, match=r"cluster_share must lie in \(0, 1\], got 0"):
        scan.drop(0.1, cluster_share=0)


def test_a_list_that_one_cluster_fills_is_said_so(found):
    scan = dataclasses.replace(found, scores=np.where(found.clusters == 2, 0.9, 0.1))
    with pytest.warns(UserWarning, match=r"of the 100 examples to drop lie in cluster 2, which holds \d+ of 1,000"):
        scan.drop(0.1, cluster_share=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found.drop(0.1)
