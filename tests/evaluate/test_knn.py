from functools import partial

import numpy as np
import pytest

from pairsift.evaluate import knn, linear_probe

RNG = np.random.default_rng(0)
TRAIN, TRAIN_Y = RNG.standard_normal((60, 5)), RNG.integers(0, 4, 60)
TEST, TEST_Y = RNG.standard_normal((25, 5)), RNG.integers(0, 4, 25)


def oracle(train_x, train_y, test_x, test_y, k, temperature):
    hits = 0
    for x, y in zip(test_x, test_y, strict=True):
        similarity = [float(x @ t / np.linalg.norm(x) / np.linalg.norm(t)) for t in train_x]
        votes = {}
        for i in sorted(range(len(train_x)), key=lambda i: -similarity[i])[:k]:
            votes[train_y[i]] = votes.get(train_y[i], 0) + np.exp(similarity[i] / temperature)
        hits += max(votes, key=votes.get) == y
    return hits / len(test_x)


@pytest.mark.parametrize("k", [1, 7, 60])
@pytest.mark.parametrize("temperature", [0.05, 0.1, 10])
def test_equals_the_definition(k, temperature):
    expected = oracle(TRAIN, TRAIN_Y, TEST, TEST_Y, k, temperature)
    assert knn(TRAIN, TRAIN_Y, TEST, TEST_Y, k=k, temperature=temperature) == pytest.approx(expected)


def test_labels_may_be_names_and_scale_does_not_matter():
    names = np.array(list("abcd"))
    plain = knn(TRAIN, TRAIN_Y, TEST, TEST_Y, k=5)
    assert knn(TRAIN * 1e3, names[TRAIN_Y], TEST * 1e-3, names[TEST_Y], k=5) == plain


@pytest.mark.parametrize("score", [partial(knn, k=5), lambda *split: linear_probe(*split).accuracy])
def test_unlabelled_rows_are_left_out(score):
    """-1 is no class, whatever else is labelled."""
    train, test = np.arange(60) % 6 != 0, np.arange(len(TEST)) % 4 != 0
    expected = score(TRAIN[train], TRAIN_Y[train], TEST[test], TEST_Y[test])
    assert score(TRAIN, np.where(train, TRAIN_Y, -1), TEST, np.where(test, TEST_Y, -1)) == expected
    with pytest.raises(ValueError, match=r"every row of the test split is unlabelled \(-1\)"):
        score(TRAIN, TRAIN_Y, TEST, np.full(len(TEST), -1))


def test_similarities_of_a_small_temperature_do_not_overflow():
    assert knn(TRAIN, TRAIN_Y, TRAIN, TRAIN_Y, k=5, temperature=1e-3) == 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((TRAIN, TRAIN_Y, TEST, TEST_Y, 0), r"k must lie in \[1, 60\].*got 0"),
        ((TRAIN, TRAIN_Y, TEST, TEST_Y, 61), "got 61"),
        ((TRAIN, TRAIN_Y, TEST, TEST_Y, 5, 0.0), "temperature must be > 0"),
        ((TRAIN[:0], TRAIN_Y[:0], TEST, TEST_Y), "train features must be a non-empty"),
        ((TRAIN, TRAIN_Y, TEST[0], TEST_Y), "test features must be a non-empty"),
        ((TRAIN, TRAIN_Y[:3], TEST, TEST_Y), "train split has 60 features but labels of shape"),
        ((TRAIN, TRAIN_Y, TEST[:, :2], TEST_Y), "train features have 5 dimensions, test features 2"),
        ((TRAIN, TRAIN_Y * 0, TEST, TEST_Y), "at least two classes"),
        ((np.where(np.arange(60)[:, None] == 7, np.nan, TRAIN), TRAIN_Y, TEST, TEST_Y), "train features row 7 is not"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        knn(*arguments)
