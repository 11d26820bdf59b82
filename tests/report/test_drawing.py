"""Figures that a page draws itself: their coordinates are those of their axes."""

import re

import numpy as np
import pytest

from pairsift.report.drawing import SIDE, Axis, bars, points


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (-0.31, 0.9, ["0.0", "0.5"]),
        (0, 235.2, ["0", "50", "100", "150", "200"]),
        (0, 0.0432, ["0.00", "0.01", "0.02", "0.03", "0.04"]),
        (0, 12_000, ["0", "2,000", "4,000", "6,000", "8,000", "10,000"]),
        (3, 3, ["3"]),
    ],
)
def test_ticks_are_round_numbers_at_their_places(low, high, words):
    ticks = Axis(low, high, "x").ticks()
    assert [said for _, said in ticks] == words
    for place, said in ticks:
        assert low + place / 100 * (high - low) == pytest.approx(float(said.replace(",", "")))


def numbers(path):
    return [float(each) for each in re.findall(r"-?[\d.]+", path)]


def test_bars_stand_between_their_edges_on_their_base():
    x, y = Axis(0, 4, "x"), Axis(0, 10, "y")
    path = bars(x, y, [0, 1, 2, 4], [0, 5, 1], [2, 0, 4])
    assert path.count("M") == 2  # the flat one is left out
    assert numbers(path) == [0, 1000, 800, 250, 1000, 500, 900, 500, 1000, 900]


def test_points_lie_where_their_values_do():
    found = numbers(points(Axis(-1, 1, "x"), Axis(0, 2, "y"), np.array([-1, 0, 1]), np.array([0, 1, 2])))
    assert found == [0, SIDE, 0, SIDE / 2, SIDE / 2, 0, SIDE, 0, 0]
