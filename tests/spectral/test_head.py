"""Training on from a map: it starts at the map, keeps what held-out pairs improve, and is never clearly worse."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pairsift.spectral import SpectralError, SpectralMap
from pairsift.spectral import head as head_module
from pairsift.spectral.head import ResidualHead, train_head


def curved_pairs(n=1200, seed=0):
    """Pairs that share a little linearly, and much in products of features, which no linear map sees."""
    rng = np.random.default_rng(seed)
    topics = rng.standard_normal((n, 4))

    def side():
        sign = rng.choice([-1, 1], (n, 1))
        weak = topics + 2 * rng.standard_normal((n, 4))
        return np.concatenate([weak, sign, sign * topics], axis=1).astype(np.float32)

    return side(), side()


@pytest.fixture
def _short(monkeypatch):
    monkeypatch.setattr(head_module, "_STEPS", 200)
    monkeypatch.setattr(head_module, "_EVERY", 50)
    monkeypatch.setattr(head_module, "_FOLDS", 2)


def test_the_network_starts_at_the_map():
    first, second = curved_pairs()
    fitted = SpectralMap.fit(first, second)
    rows = torch.from_numpy(first)
    torch.testing.assert_close(ResidualHead(fitted)(rows), fitted.module()(rows))


@pytest.mark.usefixtures("_short")
def test_what_a_line_cannot_see_is_learned_by_the_network():
    first, second = curved_pairs()
    fitted = SpectralMap.fit(first, second, dimensions=4)
    told = []
    trained = train_head(first, second, fitted, progress=lambda done, total: told.append((done, total)))
    assert trained.head is not None
    assert trained.gain[0] > trained.gain[1] > 0
    assert trained.head.transform(first).shape[1] > 4  # it starts from all directions that the pairs share
    assert trained.head_ranking.mrr > trained.map_ranking.mrr + 0.05
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    again = train_head(first, second, fitted)
    np.testing.assert_array_equal(again.head.transform(first), trained.head.transform(first))


@pytest.mark.usefixtures("_short")
def test_where_nothing_is_left_to_learn_the_map_is_kept():
    rng = np.random.default_rng(0)
    topics = rng.standard_normal((600, 4)) @ rng.standard_normal((4, 16))
    first, second = ((topics + rng.standard_normal((600, 16))).astype(np.float32) for _ in range(2))
    trained = train_head(first, second, SpectralMap.fit(first, second))
    assert trained.head is None
    assert "the map is kept" in str(trained)


def test_a_temperature_that_is_clearly_behind_is_given_up(monkeypatch):
    """And training stops where the best has not improved for five measurements."""
    advanced = Counter()

    class Run:
        def __init__(self, start, data, temperature, seed):
            self.transform = temperature

        def advance(self, steps, work):
            advanced[self.transform] += steps
            return self

    def ranks(temperature):
        slow = temperature == 0.1 and advanced[0.1] > 600  # the third measurement of two folds is the best
        return np.arange(2, 52) // (2 if slow else 1) * (9 if temperature == 0.5 else 1)

    monkeypatch.setattr(head_module, "_Run", Run)
    folds = [SimpleNamespace(start=None, data=None, ranks=ranks)] * 2
    best = head_module._best_length(folds, 0, head_module._Work(None, 1))
    assert (best.temperature, best.steps) == (0.1, 400)
    assert advanced == {0.1: 2 * 900, 0.2: 2 * 400, 0.5: 2 * 100}


def test_stages_of_linear_layers_give_the_same():
    first, second = curved_pairs()
    head = ResidualHead(SpectralMap.fit(first, second))
    torch.nn.init.normal_(head.outer.weight)
    rows = made = torch.from_numpy(first)
    for stage in head.stages():
        for linear, activation in stage:
            made = activation(linear(made))
        made = torch.nn.functional.normalize(made, dim=1)
    torch.testing.assert_close(made, head(rows), atol=1e-5, rtol=1e-5)


def test_maps_that_training_cannot_start_from_are_refused():
    first, second = curved_pairs()
    with pytest.raises(SpectralError, match="one tower"):
        train_head(first, second, SpectralMap.fit(first, second, towers=2))
    fitted = SpectralMap.fit(first, second)
    with pytest.raises(SpectralError, match="too few"):
        train_head(first[:150], second[:150], fitted)
