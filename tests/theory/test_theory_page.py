import math
import re

import numpy as np
import pytest

from pairsift.theory import SimilarityGraph, bounds
from pairsift.theory import page as figures

GRAPH = SimilarityGraph(40, 3, 8, 0.5, 0.1, 0.3)


def curve(figure, name):
    (found,) = [trace for trace in figure.data if trace.name == name]
    return np.array(found.x), np.array(found.y)


def test_spectrum_shows_every_eigenvalue_at_its_ranks_and_marks_the_lifted():
    figure = figures.spectrum(GRAPH)
    x, y = curve(figure, "with difficult examples")
    values, counts = GRAPH.spectrum()
    np.testing.assert_array_equal(y[::3], values)
    np.testing.assert_array_equal(x[1::3] - x[::3] + 1, counts)
    assert x[1::3][-1] == 160
    x, y = curve(figure, "lifted by difficult examples")
    assert x.tolist() == [5]
    assert y.tolist() == [GRAPH.eigenvalue(5)]
    assert len(figures.spectrum(GRAPH.without_difficult()).data) == 2


def test_bounds_are_those_of_the_theory():
    gaps, untreated = curve(figures.bounds_over_gap(GRAPH, 0.05, 4), "untreated, exact")
    assert gaps[0] == 0
    i = 30
    graph = SimilarityGraph(40, 3, 8, 0.5, 0.1, 0.1 + gaps[i])
    assert untreated[i] == bounds.exact(graph, 0.05, 4)
    shares, removal = curve(figures.bounds_over_share(GRAPH, 0.05, 4), "removal, Cor 4.1")
    assert math.isnan(removal[-1])  # nothing is left to remove from
    assert shares[-1] == 1
    assert removal[0] == pytest.approx(bounds.removed(GRAPH.without_difficult(), 0.05).value)


def test_phases_name_what_lowers_the_bound():
    (heat, _) = figures.phases(GRAPH, 0.05, 4).data
    words = np.array(heat.text)
    assert set(words[0]) == {"none"}  # no difficult examples: nothing to treat
    row = int(np.argmin(np.abs(np.array(heat.y) - 0.2)))
    column = int(np.argmin(np.abs(np.array(heat.x) - 0.2)))
    assert words[row, column] == "margin, removal"
    graph = SimilarityGraph(40, 3, round(40 * heat.y[row]), 0.5, 0.1, 0.1 + heat.x[column])
    untreated = bounds.exact(graph, 0.05, 4)
    assert float(bounds.removed(graph, 0.05)) < untreated < float(bounds.temperature(graph, 0.05))


def test_looseness_stays_right_of_the_line():
    for trace in figures.looseness(GRAPH).data[:-1]:
        assert (np.array(trace.y) <= np.array(trace.x)).all()
        assert np.array(trace.y)[0] == pytest.approx(0.75, abs=0.05)  # one dimension tells one class of four


def test_page_is_whole_and_needs_no_network(tmp_path):
    figures.theory_page(tmp_path / "page.html", GRAPH, 0.05, 4)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<h2>") == 5
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="?http', page)
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(ValueError, match="k=160"):
        figures.theory_page(tmp_path / "other.html", GRAPH, 0.05, 160)
    assert not (tmp_path / "other.html").exists()
