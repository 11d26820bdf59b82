import math
import re
from dataclasses import replace

import numpy as np
import pytest

from pairsift.report.drawing import SIDE
from pairsift.theory import SimilarityGraph, bounds, page

GRAPH = SimilarityGraph(40, 3, 8, 0.5, 0.1, 0.3)


def named(drawing):
    """The path of every mark in the legend, by its name."""
    return {mark.name: mark.path for mark in drawing.marks if mark.name}


def places(drawing, path):
    """The values along both axes of the points of a path: (P, 2)."""
    numbers = np.array(re.findall(r"[ML]([\d.]+) ([\d.]+)", path), float)
    x, y = drawing.x, drawing.y
    low, high = (math.log10(x.low), math.log10(x.high)) if x.log else (x.low, x.high)
    across = low + numbers[:, 0] / SIDE * (high - low)
    up = y.low + (SIDE - numbers[:, 1]) / SIDE * (y.high - y.low)
    return np.stack([10**across if x.log else across, up], axis=1)


def test_spectrum_shows_every_eigenvalue_at_its_ranks_and_marks_the_lifted():
    drawing = page.draw_spectrum(GRAPH)
    values, counts = GRAPH.spectrum()
    lines = [mark for mark in drawing.marks if mark.classes == "line a"]
    drawn = np.array([places(drawing, mark.path) for mark in lines])
    np.testing.assert_allclose(drawn[:, 0, 1], values, atol=1e-3)
    np.testing.assert_allclose(drawn[:, 1, 0] - drawn[:, 0, 0] + 1, counts, rtol=0.01)
    assert lines[0].tip == "with difficult examples: 1 x 1"
    assert drawn[-1, 1, 0] == pytest.approx(160, rel=0.01)
    ((rank, value),) = places(drawing, named(drawing)["lifted by difficult examples"])
    assert rank == pytest.approx(5, rel=0.01)
    assert value == pytest.approx(GRAPH.eigenvalue(5), abs=2e-3)
    assert [label.text for label in drawing.labels] == ["1 x"]
    assert set(named(page.draw_spectrum(GRAPH.without_difficult()))) == {"with difficult examples", "without"}


def test_bounds_are_those_of_the_theory():
    graphs = [SimilarityGraph(40, 3, n_d, 0.5, 0.1, 0.3) for n_d in (0, 20, 40)]
    curves = page.bound_curves(graphs, 0.05, 4)
    assert curves["untreated, exact"].tolist() == [bounds.exact(graph, 0.05, 4) for graph in graphs]
    assert curves["temperature, Thm 4.5"].tolist() == [bounds.temperature(graph, 0.05, 4).value for graph in graphs]
    removal = curves["removal, Cor 4.1"]
    assert removal[0] == pytest.approx(bounds.removed(GRAPH.without_difficult(), 0.05).value)
    assert math.isnan(removal[-1])  # no example is left after removal


@pytest.mark.parametrize(("draw", "end"), [(page.draw_bounds_over_gap, 0.398), (page.draw_bounds_over_share, 1.0)])
def test_curves_lie_at_their_values_inside_the_figure(draw, end):
    drawing = draw(GRAPH, 0.05, 4)
    at = places(drawing, named(drawing)["untreated, exact"])
    assert at[0, 0] == 0
    assert at[-1, 0] == pytest.approx(end, abs=1e-3)
    middle = len(at) // 2
    changed = (
        SimilarityGraph(40, 3, 8, 0.5, 0.1, 0.1 + at[middle, 0])
        if draw is page.draw_bounds_over_gap
        else SimilarityGraph(40, 3, round(40 * at[middle, 0]), 0.5, 0.1, 0.3)
    )
    assert at[middle, 1] == pytest.approx(bounds.exact(changed, 0.05, 4), abs=1e-3)
    for path in named(drawing).values():
        up = places(drawing, path)[:, 1]
        assert ((up >= drawing.y.low) & (up <= drawing.y.high)).all()
    assert drawing.lines[0].at == pytest.approx(SIDE * 0.2 / drawing.x.high)


def test_regions_name_what_lowers_the_bound():
    found = page.treatment_regions(GRAPH, 0.05, 4)
    names = np.array(page.REGIONS)[found.codes]
    assert set(names[0]) == {"none"}  # without difficult examples there is nothing to treat
    row, column = (int(np.argmin(np.abs(axis - 0.2))) for axis in (found.shares, found.gaps))
    assert names[row, column] == "margin, removal"
    graph = SimilarityGraph(40, 3, round(40 * found.shares[row]), 0.5, 0.1, 0.1 + found.gaps[column])
    untreated = bounds.exact(graph, 0.05, 4)
    assert float(bounds.removed(graph, 0.05)) < untreated < float(bounds.temperature(graph, 0.05))
    drawing = page.draw_regions(GRAPH, 0.05, 4)
    assert [mark.name for mark in drawing.marks] == [*page.REGIONS, "this graph"]


def test_the_probe_errs_less_than_its_bound_allows():
    found = page.probe_errors(GRAPH)
    assert list(found) == [0.0, 0.05, 0.1, 0.2]
    for pairs in found.values():
        bound, error = np.array(pairs).T
        assert len(pairs) == 8
        assert (error <= bound).all()
        assert error[0] == pytest.approx(0.75, abs=0.05)  # one dimension tells one class of four


@pytest.mark.parametrize(
    "graph",
    [
        SimilarityGraph(1, 1, 0, 0.5, 0.1, 0.1),
        SimilarityGraph(3, 2, 3, 0.5, -0.05, 0.2),
        SimilarityGraph(10, 2, 2, 0.5, 0.0, 0.0),
        SimilarityGraph(10_000, 99, 800, 0.9, 0.1, 0.3, "matched"),
        SimilarityGraph(5, 2_500, 1, 0.5, 0.01, 0.2),
    ],
    ids=["two vertices", "all difficult", "no similarity between classes", "large", "too many classes for the probe"],
)
def test_every_graph_has_a_page(tmp_path, graph, monkeypatch):
    monkeypatch.setattr(page, "_VERTICES", 300)  # the probe of the large graph takes minutes otherwise
    page.theory_page(tmp_path / "page.html", graph, 0.0, 1)
    text = (tmp_path / "page.html").read_text()
    assert text.count("<h2>") == (5 if graph.r < 1000 else 4)
    assert "nan" not in text.replace("nano", "")


def test_page_is_whole_and_needs_no_network(tmp_path):
    page.theory_page(tmp_path / "page.html", GRAPH, 0.05, 4)
    text = (tmp_path / "page.html").read_text()
    assert text.count("<h2>") == text.count("<figure") == 5
    assert len(text) < 100_000
    assert "plotly" not in text.lower()
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="?http', text)
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    with pytest.raises(ValueError, match="k=160"):
        page.theory_page(tmp_path / "other.html", GRAPH, 0.05, 160)
    assert not (tmp_path / "other.html").exists()


def test_the_first_words_explain_every_symbol():
    words = page.facts(GRAPH, 0.05, 4)
    assert words == (
        "r + 1 = 4 classes of n = 40 augmented examples, n_d = 8 of them difficult. The similarity is alpha = 0.5 "
        "inside a class and beta = 0.1 between classes, except gamma = 0.3 between a difficult example and all of the "
        "difficult examples of each other class. The labels have an error of delta = 0.05, and the features have "
        "k = 4 dimensions."
    )
    assert "and one of the difficult" in page.facts(replace(GRAPH, pairing="matched"), 0.05, 4)


def test_one_lifted_eigenvalue_is_singular(tmp_path):
    page.theory_page(tmp_path / "page.html", SimilarityGraph(12, 3, 4, 0.5, 0.1, 0.3), 0.05, 4)
    assert "Difficult examples lift 1 eigenvalue above" in (tmp_path / "page.html").read_text()
