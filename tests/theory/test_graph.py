import math
import time

import numpy as np
import pytest

from pairsift.theory import SimilarityGraph, bounds

SETTINGS = (40, 3, 8, 0.5, 0.1, 0.3)
SMALL = (8, 2, 2, 0.387, 0.208, 0.241)


def dense(graph):
    return np.sort(np.linalg.eigvalsh(graph.normalized_adjacency()))[::-1]


def loop_adjacency(graph):
    """The definition, entry by entry."""
    out = np.empty((len(graph), len(graph)))
    for i in range(len(graph)):
        for j in range(len(graph)):
            (a, p), (b, q) = divmod(i, graph.n), divmod(j, graph.n)
            hard = min(p, q) >= graph.n - graph.n_d and (graph.pairing == "block" or p == q)
            out[i, j] = 1 if i == j else graph.alpha if a == b else graph.gamma if hard else graph.beta
    return out


@pytest.mark.parametrize("pairing", ["block", "matched"])
def test_matrices_follow_the_definition(pairing):
    graph = SimilarityGraph(5, 2, 3, 0.7, 0.1, 0.4, pairing)
    adjacency = loop_adjacency(graph)
    np.testing.assert_array_equal(graph.adjacency(), adjacency)
    np.testing.assert_allclose(graph.degrees(), adjacency.sum(1), rtol=1e-14)
    assert graph.volume == pytest.approx(adjacency.sum(), rel=1e-14)
    assert graph.difficult_degree == pytest.approx(adjacency.sum(1)[4])
    assert graph.labels().tolist() == [0] * 5 + [1] * 5 + [2] * 5
    assert graph.difficult().tolist() == [False, False, True, True, True] * 3
    degrees = adjacency.sum(1)
    np.testing.assert_allclose(
        graph.normalized_adjacency(), adjacency / np.sqrt(degrees[:, None] * degrees), rtol=1e-14
    )


def test_check_values():
    block, matched = SimilarityGraph(*SETTINGS), SimilarityGraph(*SETTINGS, pairing="matched")
    assert block.eigenvalue(5) == pytest.approx(0.11675, abs=5e-6)
    assert block.floor == pytest.approx(0.01538, abs=5e-6)
    assert matched.eigenvalue(5) == pytest.approx(0.03323, abs=5e-6)
    block, matched = SimilarityGraph(*SMALL), SimilarityGraph(*SMALL, pairing="matched")
    assert block.eigenvalue(4) == pytest.approx(0.09972, abs=5e-6)
    assert block.floor == pytest.approx(0.08711, abs=5e-6)
    assert [round(matched.eigenvalue(i), 5) for i in (4, 5)] == [0.09559, 0.09347]


def test_slow_modes_are_one_in_the_block_graph_and_n_d_in_the_matched_one():
    (mode,) = SimilarityGraph(*SETTINGS).slow_modes()
    assert mode.multiplicity == 1
    assert mode.lift == pytest.approx(0.11675 - 0.01538, abs=1e-5)
    modes = SimilarityGraph(*SETTINGS, pairing="matched").slow_modes()
    assert [mode.multiplicity for mode in modes] == [7, 1]
    assert modes[0].value == pytest.approx(0.03323, abs=5e-6)
    assert SimilarityGraph(40, 3, 0, 0.5, 0.1, 0.3).slow_modes() == []
    assert SimilarityGraph(40, 3, 8, 0.5, 0.1, 0.1, "matched").slow_modes() == []


@pytest.mark.parametrize("pairing", ["block", "matched"])
@pytest.mark.parametrize(
    "values",
    [
        (1, 1, 0, 0.5, 0.1, 0.1), (1, 1, 1, 0.5, 0.1, 0.3), (6, 1, 6, 0.5, 0.1, 0.3), (6, 4, 0, 0.5, 0.1, 0.3),
        (6, 4, 1, 0.5, 0.1, 0.3), (6, 4, 5, 0.5, 0.1, 0.1), (6, 2, 3, 1.0, 0.0, 0.5), (9, 3, 4, 0.6, -0.05, 0.2),
        (7, 2, 3, 0.5, -0.1, -0.02), (5, 2, 5, 1.0, 0.2, 0.2),
    ],
)  # fmt: skip
def test_closed_form_at_the_edges(values, pairing):
    graph = SimilarityGraph(*values, pairing=pairing)
    spectrum, counts = graph.spectrum()
    assert counts.sum() == len(graph)
    assert (np.diff(spectrum) < 0).all()
    expected = dense(graph)
    np.testing.assert_allclose(np.repeat(spectrum, counts), expected, atol=1e-13)
    assert [graph.eigenvalue(i) for i in range(1, len(graph) + 1)] == pytest.approx(expected, abs=1e-13)


def test_a_single_difficult_example_makes_both_pairings_one():
    one = [SimilarityGraph(9, 3, 1, 0.5, 0.1, 0.3, pairing) for pairing in ("block", "matched")]
    np.testing.assert_array_equal(one[0].adjacency(), one[1].adjacency())
    np.testing.assert_allclose(one[0].spectrum()[0], one[1].spectrum()[0], rtol=1e-14)


def test_a_billion_vertices_cost_no_more_and_lose_no_digits():
    graph = SimilarityGraph(10**8, 9, 8 * 10**6, 0.472, 0.191, 0.209)
    start = time.perf_counter()
    values, counts = graph.spectrum()
    assert time.perf_counter() - start < 0.5  # a matrix of this size would need 8 exabytes
    assert counts.sum() == 10**9
    assert values[0] == 1
    # The limit n -> infinity of lambda_{r+2} at a fixed share of difficult examples, from its closed form.
    alpha, beta, gamma, share, r = 0.472, 0.191, 0.209, 0.08, 9
    same, extra = alpha + r * beta, share * r * (gamma - beta)
    limit = (1 - share) * same * extra / ((same + extra) * same)
    assert graph.eigenvalue(11) == pytest.approx(limit, rel=1e-6)
    assert graph.eigenvalue(12) == pytest.approx(0.528 / (same * 1e8), rel=1e-7)
    assert graph.eigenvalue(10**9) == values[-1]


def test_graphs_made_from_a_graph():
    graph = SimilarityGraph(*SETTINGS)
    assert graph.without_difficult() == SimilarityGraph(40, 3, 0, 0.5, 0.1, 0.3)
    assert graph.remove_difficult() == SimilarityGraph(32, 3, 0, 0.5, 0.1, 0.3)
    assert bounds.exact(graph, 0.05, 4) == pytest.approx(0.2 / (1 - 0.1167498453) + 0.4)
    with pytest.raises(ValueError, match="all n=4 examples"):
        SimilarityGraph(4, 1, 4, 0.5, 0.1, 0.3).remove_difficult()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"alpha": 0.3}, ValueError, "alpha=0.3"),
        ({"gamma": 0.05}, ValueError, "gamma=0.05"),
        ({"alpha": 1.1}, ValueError, "alpha=1.1"),
        ({"beta": math.nan}, ValueError, "beta must be finite"),
        ({"n_d": 41}, ValueError, "n_d=41"),
        ({"n_d": -1}, ValueError, "n_d=-1"),
        ({"n": 0, "n_d": 0}, ValueError, "n=0"),
        ({"r": 0}, ValueError, "r=0"),
        ({"n": 2.5}, TypeError, "2.5"),
        ({"alpha": "x"}, TypeError, "'x'"),
        ({"pairing": "random"}, ValueError, "'random'"),
        ({"beta": -0.5, "gamma": -0.5}, ValueError, "beta=-0.5 is too negative"),
    ],
)
def test_bad_graphs_are_refused(change, error, message):
    values = dict(n=40, r=3, n_d=8, alpha=0.5, beta=0.1, gamma=0.3)
    with pytest.raises(error, match=message):
        SimilarityGraph(**values | change)


@pytest.mark.parametrize("i", [0, -1, 161])
def test_eigenvalues_are_counted_from_one(i):
    with pytest.raises(ValueError, match=f"got {i}"):
        SimilarityGraph(*SETTINGS).eigenvalue(i)
