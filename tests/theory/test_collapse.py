import math

import pytest

from pairsift.theory import collapse_threshold


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
