import numpy as np
import pytest
import torch

from pairsift.evaluate import collapse
from pairsift.theory import ssem
from pairsift.train.methods import within_class_share


def classes(spread, n=600, m=4, d=6, seed=0):
    """Normal classes about m means."""
    rng, labels = np.random.default_rng(seed), np.arange(n) % m
    means = 3 * np.random.default_rng(1).standard_normal((m, d))
    return means[labels] + spread * rng.standard_normal((n, d)), labels


@pytest.mark.parametrize("q", [0.0, 0.3, 1.0])
def test_the_share_of_an_embedding_of_simplices_is_its_own(q):
    found = collapse(ssem(4, 5, q), np.repeat(np.arange(4), 5))
    assert found.within_class == pytest.approx(q, abs=1e-12)
    assert found.low <= found.within_class <= found.high
    # Each class spreads at right angles to the means: NC1 does not see it, where there are means.
    assert found.nc1 == pytest.approx(0, abs=1e-12) if q < 1 else found.nc1 > 1


def test_figures_are_those_of_their_definitions():
    x, y = classes(1.0)
    found, u = collapse(x, y), x / np.linalg.norm(x, axis=1, keepdims=True)
    means = np.stack([u[y == each].mean(axis=0) for each in range(4)])
    within = np.mean([np.outer(each, each) for each in u - means[y]], axis=0)
    between = np.mean([np.outer(each, each) for each in means - means.mean(axis=0)], axis=0)
    assert found.nc1 == pytest.approx(np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / 4)
    total = ((u - u.mean(axis=0)) ** 2).sum(axis=1).mean()
    assert found.within_class == pytest.approx(np.trace(within) / total)
    assert found.per_class[2] == pytest.approx(((u[y == 2] - means[2]) ** 2).sum(axis=1).mean() / total)
    assert np.average(list(found.per_class.values())) == pytest.approx(found.within_class)
    assert within_class_share(torch.from_numpy(x), torch.from_numpy(y)) == pytest.approx(found.within_class, abs=1e-6)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    truth = collapse(*classes(1.0, n=400_000), normalise=False).within_class
    found = [collapse(*classes(1.0, n=200, seed=seed), normalise=False) for seed in range(200)]
    held = np.mean([each.low <= truth <= each.high for each in found])
    assert 0.88 < held < 0.99


def test_the_interval_is_that_of_leaving_examples_out_one_by_one():
    x, y = classes(1.0, n=40)
    found = collapse(x, y)
    left = [collapse(np.delete(x, i, axis=0), np.delete(y, i)).within_class for i in range(40)]
    half = 1.959964 * np.sqrt(39 / 40 * np.sum((left - np.mean(left)) ** 2))
    assert found.high - found.within_class == pytest.approx(half)


def test_unlabelled_and_lonely_examples_are_left_out():
    x, y = classes(1.0)
    unknown = np.where(np.arange(600) < 50, -1, y)
    assert collapse(x, unknown) == collapse(x[50:], y[50:])
    with pytest.warns(UserWarning, match="classes with one example are left out: 1 of 5, the first of them 9"):
        found = collapse(np.vstack([x, x[:1]]), np.append(y, 9))
    assert found == collapse(x, y)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.ones((0, 3)), [], "non-empty"),
        (np.ones((4, 3)), [0, 1], "labels must be 4 whole numbers"),
        (np.ones((4, 3)), [0.0, 1, 0, 1], "whole numbers, got float64"),
        ([[1, np.nan], [1, 0], [0, 1], [1, 1]], [0, 0, 1, 1], "row 0 is not finite"),
        ([[1, 1], [0, 0], [0, 1], [1, 1]], [0, 0, 1, 1], "row 1 is zero"),
        (np.ones((4, 3)), [0, 0, 0, 0], "two classes of two examples or more, got 1"),
        (np.ones((4, 3)), [-1, -1, -1, -1], "got 0"),
        (np.ones((4, 3)), [0, 0, 1, 1], "all examples are one point"),
    ],
)
def test_bad_input_is_told(x, y, message):
    with pytest.raises(ValueError, match=message):
        collapse(x, y)
