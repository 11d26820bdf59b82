"""Whatever finite features come in, scores are scores."""

import warnings

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from mixtures import unequal

import pairsift as ps
from pairsift.evaluate import detection


@st.composite
def feature_sets(draw):
    n, dimensions = draw(st.integers(10, 60)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    features = rng.standard_normal((n, dimensions)) * 10.0 ** rng.integers(-3, 4, dimensions)
    for _ in range(draw(st.integers(0, 3))):  # identical rows, zero rows, constant columns, far rows
        kind, some = draw(st.integers(0, 3)), rng.integers(0, n, max(1, n // 3))
        if kind == 0:
            features[some] = features[some[0]]
        elif kind == 1:
            features[some] = 0
        elif kind == 2:
            features[:, rng.integers(dimensions)] = 1
        else:
            features[some[0]] *= 1e4
    features[0, 0] += 1  # never all equal
    features = np.clip(features, -6e4, 6e4)  # what half precision can hold
    return features.astype(draw(st.sampled_from((np.float16, np.float32, np.float64))))


@settings(max_examples=60)
@given(feature_sets(), st.one_of(st.none(), st.just(2)))
def test_scores_are_finite_and_every_row_has_a_cluster(features, n_classes):
    found = ps.scan(features, n_classes, threads=1)
    assert found.scores.shape == (len(features),)
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    assert np.isfinite(found.indicators).all()
    assert ((found.clusters >= 0) & (found.clusters < found.n_classes)).all()
    assert (np.bincount(found.drop(0.5), minlength=len(features)) <= 1).all()
    assert found.bridges.sum() <= len(features) * min(10, len(features) - 1)  # copies are no neighbours


@st.composite
def unequal_sets(draw):
    """Round, separate classes of any sizes, with a few rows between two of the small ones."""
    sizes = [draw(st.integers(100, 1000)), *draw(st.lists(st.integers(100, 300), min_size=5, max_size=9))]
    noise, seed = draw(st.floats(0.05, 0.08)), draw(st.integers(0, 2**32 - 1))
    return sizes, unequal(sizes, noise=noise, planted=draw(st.integers(5, 15)), seed=seed)


@settings(max_examples=15)
@given(unequal_sets(), st.integers(0, 2))
def test_rows_between_classes_are_found_whatever_the_sizes_of_the_classes(case, off):
    """The number of classes is a rough one."""
    sizes, (features, _, planted) = case
    found = ps.scan(features, len(sizes) + off, threads=1)
    assert detection(found.scores, planted).auroc > 0.9
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lost = np.bincount(found.clusters[found.drop(0.08)], minlength=found.n_classes)
    assert (lost <= np.maximum(1, 0.25 * np.bincount(found.clusters, minlength=found.n_classes))).all()
