import warnings

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from torch import nn

from pairsift.data import ImageSet
from pairsift.evaluate import linear_probe, linear_probe_sgd


def gaussians(n, seed, distance=2.0):
    """Two classes whose best classifier errs with probability Phi(-distance / 2)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    x = rng.standard_normal((n, 4))
    x[:, 0] += distance * labels
    return x, labels


def test_reaches_the_best_accuracy_on_gaussians():
    train, test = gaussians(3000, 0), gaussians(4000, 1)
    result = linear_probe(*train, *test)
    best = norm.cdf(1.0)  # 0.841; its standard error on 4,000 examples is 0.006
    assert abs(result.accuracy - best) < 0.02
    assert abs(result.validation_accuracy - best) < 0.07


def test_follows_the_protocol():
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((200, 12)) * 5 + 1, rng.integers(0, 3, 200)
    x[:, :3] += 4 * np.eye(3)[y]
    train_x, train_y, test_x, test_y = x[:120], y[:120], x[120:], y[120:]
    scaler = StandardScaler().fit(train_x.astype(np.float32))
    scaled, held = scaler.transform(train_x.astype(np.float32)), scaler.transform(test_x.astype(np.float32))
    fit_x, check_x, fit_y, check_y = train_test_split(scaled, train_y, test_size=12, random_state=0, stratify=train_y)
    scores = {}
    for strength in 10.0 ** np.arange(-4, 2):
        scores[strength] = LogisticRegression(C=strength, max_iter=300).fit(fit_x, fit_y).score(check_x, check_y)
    best = max(scores, key=scores.get)
    expected = LogisticRegression(C=best, max_iter=300).fit(scaled, train_y).score(held, test_y)
    result = linear_probe(train_x, train_y, test_x, test_y)
    assert result.inverse_l2 == best
    assert result.validation_accuracy == scores[best]
    assert result.accuracy == pytest.approx(expected)


def test_scale_and_constant_columns_do_not_matter():
    (x, y), (test_x, test_y) = gaussians(500, 0), gaussians(300, 1)
    plain = linear_probe(x, y, test_x, test_y)
    scale = np.array([1e3, 1e-3, 7, 1])
    wide = [np.column_stack((part * scale, np.full(len(part), 5.0))) for part in (x, test_x)]
    assert linear_probe(wide[0], y, wide[1], test_y).accuracy == pytest.approx(plain.accuracy, abs=0.005)


X, Y = gaussians(40, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((X[:0], Y[:0], X, Y), "non-empty"),
        ((X, Y * 0, X, Y), "at least two classes"),
        ((X, Y[:2], X, Y), "labels of shape"),
        ((np.where(np.arange(40)[:, None] == 3, np.inf, X), Y, X, Y), "row 3 is not finite"),
        ((X[:3], np.array([0, 1, 2]), X, Y), "too few"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        linear_probe(*arguments)


class Pixels(nn.Module):
    """Mean colours of the image's quarters."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, images):
        return nn.functional.adaptive_avg_pool2d(images, 2).flatten(1) * self.scale


def colours(n, seed):
    """Images of three colours, in noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    images = rng.integers(0, 120, (n, 3, 8, 8))
    images[np.arange(n), labels] += 60
    return ImageSet(images.astype(np.uint8), labels=labels, rows=np.arange(n))


def test_sgd_probe_learns_and_repeats():
    torch.manual_seed(9)
    before = torch.random.get_rng_state()
    train, test = colours(300, 0), colours(100, 1)
    accuracy = linear_probe_sgd(Pixels(), train, test, lr=0.5, epochs=8, batch_size=50)
    assert accuracy > 0.95
    assert linear_probe_sgd(Pixels(), train, test, lr=0.5, epochs=8, batch_size=50) == accuracy
    assert torch.equal(before, torch.random.get_rng_state())
    blind = linear_probe_sgd(Pixels(), train, test, lr=1e-9, epochs=1, batch_size=50)
    assert blind < 0.8


def test_sgd_probe_refuses_what_has_no_classes():
    train, test = colours(20, 0), colours(10, 1)
    bare = ImageSet(test.images, rows=test.rows)
    with pytest.raises(ValueError, match="labels in both splits"):
        linear_probe_sgd(Pixels(), train, bare)
    one = ImageSet(train.images, labels=train.labels * 0, rows=train.rows)
    with pytest.raises(ValueError, match="every training label is 0"), warnings.catch_warnings():
        linear_probe_sgd(Pixels(), one, test)


@pytest.mark.parametrize("own", [torch.float32, torch.float64, torch.bfloat16])
def test_the_default_dtype_and_that_of_the_encoder_change_nothing_but_rounding(own):
    images = np.random.default_rng(0).integers(0, 256, (40, 3, 8, 8), np.uint8)
    labels = np.arange(40) % 2
    images[labels == 1] //= 4  # dark and light images
    train, test = (ImageSet(images[rows], labels[rows]) for rows in (slice(0, 30), slice(30, 40)))
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    expected = [linear_probe_sgd(each, train, test, epochs=10, lr=0.1) for each in (encoder, nn.Flatten())]
    try:
        torch.set_default_dtype(torch.float64)
        found = [linear_probe_sgd(each, train, test, epochs=10, lr=0.1) for each in (encoder.to(own), nn.Flatten())]
    finally:
        torch.set_default_dtype(torch.float32)
    assert found[1] == expected[1] == 1
    assert found[0] == pytest.approx(expected[0], abs=0 if own is torch.float32 else 0.1)
