import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from pairsift.losses import MixedContrastiveLoss
from pairsift.theory import collapse_temperature, collapse_threshold, ssem, within_class_share


def slope(m, n, tau, alpha, margin, scale, share):
    """Derivative of the loss by the share of variance within classes, by central differences of its definition."""

    def loss(v):
        same, other = 1 - v * n / (n - 1), -(1 - v) / (m - 1)
        below = math.exp(1 / tau) + 2 * (n - 1) * math.exp(same / tau)
        below += 2 * n * (m - 1) * math.exp((other + margin) / (scale * tau))
        mean = (1 + 2 * (n - 1) * same) / (2 * n - 1)
        return math.log(below) - (alpha + (1 - alpha) * mean) / tau

    return (loss(share + 1e-6) - loss(share - 1e-6)) / 2e-6


@pytest.mark.parametrize(
    ("m", "n", "tau", "expected"),
    [(3, 4, 0.5, 0.146872), (10, 5000, 0.1, 0.00015), (10, 5000, 0.2, 0.03736), (10, 5000, 0.5, 0.54863),
     (10, 5000, 1.0, 0.83073), (100, 500, 0.2, 0.39224)],
)  # fmt: skip
def test_thresholds_of_known_settings(m, n, tau, expected):
    assert collapse_threshold(m, n, tau) == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize(("margin", "scale"), [(0, 1), (0.3, 1), (0, 0.6), (0.1, 0.6), (0, 1.5)])
def test_the_loss_falls_away_from_a_collapse_above_the_threshold_only(margin, scale):
    alpha = collapse_threshold(3, 4, 0.5, margin=margin, scale=scale)
    assert slope(3, 4, 0.5, alpha - 0.02, margin, scale, 0) > 1e-3
    assert slope(3, 4, 0.5, alpha + 0.02, margin, scale, 0) < -1e-3
    assert slope(3, 4, 0.5, alpha, margin, scale, 0) == pytest.approx(0, abs=1e-6)


def test_a_large_margin_always_collapses_and_nothing_overflows():
    assert collapse_threshold(10, 50, 0.001, margin=3.0) == 1
    assert 0 <= collapse_threshold(10, 50, 0.001) < 1e-9


@pytest.mark.parametrize(
    ("values", "message"),
    [((1, 4, 0.5), "n_classes must be >= 2, got 1"), ((3, 1, 0.5), "per_class must be finite and > 1, got 1"),
     ((3, 4, 0), "temperature must be finite and > 0, got 0"), ((3, math.nan, 0.5), "got nan")],
)  # fmt: skip
def test_bad_input_is_told(values, message):
    with pytest.raises(ValueError, match=message):
        collapse_threshold(*values)


def freely(m, n, tau, alpha):
    """Share of variance within classes of embeddings that minimise the loss, written out, from a random start."""
    u = torch.randn(m * n, m * n, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    place = torch.arange(m).repeat_interleave(n)
    mates = (place[:, None] == place).double()

    def loss():
        similarity = (lambda v: v @ v.T)(F.normalize(u, dim=1))
        own = similarity.diagonal()
        # Two views that coincide: an anchor meets its own other view once, every other image twice.
        below = (torch.exp(similarity / tau) * (2 - torch.eye(m * n))).sum(dim=1).log()
        mean = (2 * (mates * similarity).sum(dim=1) - own) / (2 * n - 1)
        return (below - (alpha * own + (1 - alpha) * mean) / tau).mean()

    optimizer = torch.optim.LBFGS(
        [u], max_iter=3000, tolerance_grad=1e-9, tolerance_change=1e-13, history_size=50, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    unit = F.normalize(u.detach(), dim=1).view(m, n, -1)
    within = (unit - unit.mean(dim=1, keepdim=True)).square().sum()
    return float(within / (unit - unit.mean(dim=(0, 1))).square().sum())


SETTINGS = [(2, 2, 0.5), (2, 3, 1.0), (2, 4, 0.3), (3, 2, 0.2), (3, 3, 1.0), (4, 2, 0.5)]


@pytest.mark.parametrize(("m", "n", "tau"), SETTINGS)
def test_freely_optimised_embeddings_have_the_share_that_is_said(m, n, tau):
    threshold = collapse_threshold(m, n, tau)
    assert freely(m, n, tau, threshold - 1e-3) < 1e-4
    for alpha in (threshold + 1e-3, threshold + 0.5 * (1 - threshold), 1.0):
        share = within_class_share(alpha, m, n, tau)
        assert share > 1e-4
        assert freely(m, n, tau, alpha) == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize(
    ("alpha", "expected"), [(0.1, 0), (0.3, 0.17093), (0.4, 0.26499), (0.5, 0.35252), (0.7, 0.52255), (1, 0.81818)]
)
def test_shares_of_a_known_setting(alpha, expected):
    assert within_class_share(alpha, 3, 4, 0.5) == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize(("margin", "scale"), [(0, 1), (0.1, 0.6), (0, 1.5)])
def test_the_share_is_where_the_loss_is_flat(margin, scale):
    share = within_class_share(0.6, 3, 4, 0.5, margin=margin, scale=scale)
    assert 0 < share < 1
    assert slope(3, 4, 0.5, 0.6, margin, scale, share) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_no_share_has_a_smaller_loss_than_the_one_said(alpha):
    m, n, tau = 3, 4, 0.5
    labels, loss = torch.arange(m).repeat_interleave(n), MixedContrastiveLoss(alpha, tau)
    best = within_class_share(alpha, m, n, tau)
    values = {q: float(loss(*[torch.from_numpy(ssem(m, n, q))] * 2, labels)) for q in (best, *np.linspace(0, 1, 21))}
    assert min(values.values()) == pytest.approx(values[best], abs=1e-12)


def test_embeddings_of_simplices_have_the_similarities_said():
    m, n, q = 4, 3, 0.4
    u = ssem(m, n, q, dimensions=20)
    place = np.repeat(np.arange(m), n)
    expected = np.where(place[:, None] == place, 1 - q * n / (n - 1), -(1 - q) / (m - 1))
    np.fill_diagonal(expected, 1)
    np.testing.assert_allclose(u @ u.T, expected, atol=1e-12)
    with pytest.raises(ValueError, match="4 classes of 3 images need 11 dimensions"):
        ssem(m, n, q, dimensions=10)
    with pytest.raises(ValueError, match=r"q must be in \[0, 1\], got 1.5"):
        ssem(m, n, 1.5)


@pytest.mark.parametrize(("m", "n"), [(2, 2), (10, 26), (100, 500)])
def test_temperature_and_threshold_are_inverse(m, n):
    for alpha in (0.01, 0.4, 0.99):
        assert collapse_threshold(m, n, collapse_temperature(alpha, m, n)) == pytest.approx(alpha, abs=1e-12)
    assert (collapse_temperature(0, m, n), collapse_temperature(1, m, n)) == (0, math.inf)


def test_edges_of_the_share():
    for m, n in ((2, 1.01), (2, 2), (1000, 1000)):
        for tau in (1e-6, 1e-3, 1e3, 1e9):
            assert 0 <= within_class_share(0.5, m, n, tau) <= 1
    assert within_class_share(0.5, 10, 26, 1e6) == 0  # hot: collapsed
    assert within_class_share(0.3, 2, 2, 0.5, margin=5) == 0
    with pytest.raises(ValueError, match="alpha must be in"):
        within_class_share(1.2, 3, 4, 0.5)
    with pytest.raises(ValueError, match="a class of one image cannot collapse"):
        within_class_share(0.5, 3, 1, 0.5)
