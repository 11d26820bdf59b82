"""Classes of unequal size: the largest must not be the difficult one."""

import dataclasses
import warnings

import numpy as np
import pytest
from mixtures import midpoints, unequal

import pairsift as ps
from pairsift.evaluate import detection
from pairsift.scanning.balance import balancing_weights, separated_groups


@pytest.mark.parametrize("ratio", [2, 5, 20])
@pytest.mark.parametrize("noise", [0.08, 0.12])
def test_mixtures_of_small_classes_are_found_beside_a_large_class(ratio, noise):
    features, labels, planted = unequal([100 * ratio] + [100] * 9, noise=noise, planted=20)
    found = ps.scan(features, 10, threads=1)
    assert detection(found.scores, planted).auroc > 0.97
    dropped = found.drop(planted.mean())
    assert planted[dropped].mean() > 0.5
    assert (labels[dropped] == 0).mean() < 0.3


def test_a_long_tail_of_classes_is_found_too():
    features, _, planted = unequal((600 * 0.7 ** np.arange(10)).astype(int), planted=60)
    assert detection(ps.scan(features, 10, threads=1).scores, planted).auroc > 0.97


def test_groups_are_those_of_the_classes_whatever_their_sizes():
    features, labels, _ = unequal([1500] + [120] * 7, planted=0)
    groups = separated_groups(features, 8, 0)
    # As many groups as classes, each of one class.
    assert len(np.unique(groups)) == 8
    assert len(np.unique(np.stack([groups, labels]), axis=1).T) == 8
    weights = balancing_weights(features, 8, 0)
    sums = np.bincount(labels, weights)
    # Each class weighs the same, but for those that are so small that they might be outliers.
    np.testing.assert_allclose(sums, sums[0], rtol=1e-5)
    assert weights.mean() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("classes", [2, 10, 40])
def test_one_cloud_is_no_groups_and_keeps_its_statistics(classes):
    cloud = np.random.default_rng(0).standard_normal((2000, 24)).astype(np.float32)
    assert separated_groups(cloud, classes, 0) is None
    assert balancing_weights(cloud * np.linspace(0.1, 3, 24, dtype=np.float32), classes, 0) is None


def test_a_few_outliers_keep_the_statistics_of_a_class():
    features, _, _ = unequal([4000] + [25] * 7, planted=0)
    assert separated_groups(features, 8, 0) is not None
    assert balancing_weights(features, 8, 0) is None


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
    assert detection(ps.scan(features, 10, threads=1).scores, planted).auroc > 0.95


def test_a_few_outliers_do_not_weigh_as_much_as_a_class():
    features, _, _ = unequal([400] * 5 + [1000], planted=0)
    features[:8] = 3 + 0.01 * np.random.default_rng(0).standard_normal((8, features.shape[1]))
    weights = balancing_weights(features, 6, 0)
    assert weights[:8].sum() < 0.25 * weights[400:800].sum()


def test_a_clump_of_mixtures_is_no_small_class():
    """One of the groups consists of midpoints, with a third of a class's rows."""
    features, _, planted = midpoints()
    groups = separated_groups(features, 6, 0)
    shares, sizes = np.bincount(groups, planted) / np.bincount(groups), np.bincount(groups)
    (clump,) = np.flatnonzero((shares == 1) & (sizes > 0.25 * np.median(sizes)))
    weights = balancing_weights(features, 6, 0)
    assert weights[groups == clump].max() < 1.2
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
