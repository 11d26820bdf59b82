"""Figures that a page draws itself: their coordinates are those of their axes."""

import re

import numpy as np
import pytest

from pairsift.report.drawing import (
    SIDE,
    Axis,
    Drawing,
    Label,
    Line,
    Mark,
    band,
    bars,
    heatmap,
    points,
    polyline,
    stairs,
    whiskers,
)
from pairsift.report.page import Section, write_figures


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


def test_a_logarithmic_axis_has_its_ticks_at_powers_and_no_place_for_zero():
    axis = Axis(0.01, 100, "x", log=True)
    assert axis.ticks() == [(0, "0.01"), (25, "0.1"), (50, "1"), (75, "10"), (100, "100")]
    np.testing.assert_allclose(axis.along([0.01, 1, 100, 0, -1]), [0, 500, 1000, np.nan, np.nan])
    assert [text for _, text in Axis(1.5, 9, "x", log=True).ticks()] == ["2", "5"]
    assert len(Axis(1e-9, 1e9, "x", log=True).ticks()) <= 6
    assert [text for _, text in Axis(1, 4096, "x", log=True, at=(8, 256, 5000)).ticks()] == ["8", "256"]


def test_an_axis_of_names_has_a_name_in_the_middle_of_each_group():
    assert Axis.of_names(["one", "two"], "set").ticks() == [(25, "one"), (75, "two")]


def test_lines_stop_where_there_is_no_value():
    x, y = Axis(0, 10, "x"), Axis(0, 10, "y")
    assert polyline(x, y, [0, 1, 2, 3, 4], [0, 1, np.nan, 3, 4]) == "M0 1000L100 900M300 700L400 600"
    assert polyline(x, y, [], []) == band(x, y, [], [], []) == ""
    assert stairs(x, y, [0, 5, 10], [1, 2]) == "M0 900L500 900L500 800L1000 800"


def test_intervals_are_bands_or_whiskers():
    x, y = Axis(0, 10, "x"), Axis(0, 10, "y")
    assert band(x, y, [0, 10], [1, 2], [3, 4]) == "M0 900L1000 800L1000 600L0 700z"
    assert whiskers(x, y, [0, 10, 5], [1, 2, np.nan], [3, 4, 5]) == "M0 900V700M1000 800V600"


def test_a_heatmap_fills_each_cell_with_one_shade():
    x, y = Axis(0, 3, "x"), Axis(0, 2, "y")
    none, some = heatmap(x, y, [0, 1, 2, 3], [0, 1, 2], [[0, 0, 1], [1, 0, 1]], ["none", "some"])
    assert (none.classes, none.name, some.tip) == ("cells h0", "none", "some")
    assert none.path == "M0 1000H666.67V500H0zM333.33 500H666.67V0H333.33z"
    assert some.path == "M666.67 1000H1000V500H666.67zM0 500H333.33V0H0zM666.67 500H1000V0H666.67z"


def test_a_page_draws_marks_lines_labels_and_tips_escaped(tmp_path):
    x, y = Axis(0, 1, "across"), Axis(0, 1, "up")
    marks = [Mark(polyline(x, y, [0, 1], [0, 1]), "line c dash", "a <b>", "tip <i>")]
    lines = [Line(250, "a dot", "upright"), Line(750, "b", "level", across=True)]
    figure = Drawing("some", "words of it", x, y, marks, lines, [Label(500, 400, "here <u>")])
    write_figures(tmp_path / "page.html", "title", "words", [Section("heading", "words", figure)])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<path class="line c dash" d="M0 1000L1000 0"><title>tip &lt;i&gt;</title></path>' in text
    assert '<line class="a dot" x1="250" x2="250" y1="0" y2="1000"/>' in text
    assert '<line class="b" x1="0" x2="1000" y1="250" y2="250"/>' in text
    assert '<span class="level across" style="bottom: 75.0%">level</span>' in text
    assert '<span class="label" style="left: 50.0%; bottom: 60.0%">here &lt;u&gt;</span>' in text
    assert '<i class="key line c dash"></i>a &lt;b&gt;' in text
    assert 'id="some"' in text
    assert len(text) < 10_000  # no library


def test_ticks_of_a_tiny_range_stay_short():
    texts = [text for _, text in Axis(0.0, 5e-9, "rank").ticks()]
    assert texts[:3] == ["0", "1e-09", "2e-09"]
    assert [text for _, text in Axis(0.0, 0.05, "rank").ticks()][:2] == ["0.00", "0.01"]


def test_the_title_of_an_axis_stands_above_the_names_of_lines(tmp_path):
    x, y = Axis(0.0, 1.0, "x"), Axis(0.0, 1.0, "y")
    for name, row, above in (("low", 0, 1), ("high", 1, 2), ("", 0, 0)):
        figure = Drawing("figure", "words", x, y, [], [Line(500.0, "a", name, row), Line(500.0, "a", "n", across=True)])
        write_figures(tmp_path / "page.html", "title", "words", [Section("heading", "words", figure)])
        style = f' style="--above: {above}"' if above else ""
        assert f'<div class="plot"{style}>' in (tmp_path / "page.html").read_text()


def test_names_of_categories_keep_to_their_own_place(tmp_path):
    x, y = Axis.of_names(["one", "two", "three", "four"], "x"), Axis(0.0, 1.0, "y")
    figure = Drawing("figure", "words", x, y, [])
    write_figures(tmp_path / "page.html", "title", "words", [Section("heading", "words", figure)])
    page = (tmp_path / "page.html").read_text()
    assert '<span class="tick x name" style="left: 12.5%; width: 25.0%">one</span>' in page
