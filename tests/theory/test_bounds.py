import math
import re

import numpy as np
import pytest

from pairsift.theory import SimilarityGraph, bounds, population

GRAPH = SimilarityGraph(40, 3, 8, 0.5, 0.1, 0.3)


def test_printed_eigenvalues_at_the_check_values():
    assert bounds.with_difficult(GRAPH, 0.05).eigenvalue == pytest.approx(0.02949, abs=5e-6)
    small = SimilarityGraph(8, 2, 2, 0.387, 0.208, 0.241)
    assert bounds.with_difficult(small, 0.05).eigenvalue == pytest.approx(0.09471, abs=5e-6)
    assert bounds.without_difficult(GRAPH, 0.05).eigenvalue == GRAPH.without_difficult().eigenvalue(5)
    assert bounds.removed(GRAPH, 0.05).eigenvalue == GRAPH.remove_difficult().eigenvalue(5)
    assert float(bounds.without_difficult(GRAPH, 0.05)) == pytest.approx(0.2 / (1 - 0.5 / 32.5) + 0.4)


def test_trend_of_table_10():
    """Ratios of the printed formula to the 0 % column follow the table within 1 %; its values lie 7 % above."""
    levels = [(0.472, 0.191, 0.209), (0.440, 0.195, 0.221), (0.412, 0.201, 0.231), (0.387, 0.208, 0.241)]
    table = np.array([2.93, 3.36, 3.58, 3.72])
    graphs = [SimilarityGraph(10_000, 9, 800, *level) for level in levels]
    ours = np.array([1e5 * bounds.with_difficult(graph, 0.1).eigenvalue for graph in graphs])
    np.testing.assert_allclose(ours, [3.13, 3.59, 3.83, 3.99], atol=0.005)
    np.testing.assert_allclose(ours / ours[0], table / table[0], rtol=0.01)
    np.testing.assert_allclose(ours / table, 1.07, atol=0.01)


@pytest.mark.parametrize(("classes", "x0"), [(10, 1.8869), (100, 1.9757), (1000, 1.9948)])
def test_x0_of_remark_1(classes, x0):
    found = bounds.semicircle_quantile(0.08 / classes)
    assert found == pytest.approx(x0, abs=5e-5)
    assert found * math.sqrt(4 - found**2) / 2 + 2 * math.asin(found / 2) == pytest.approx(
        (1 - 0.16 / classes) * math.pi, rel=1e-12
    )


def test_semicircle_quantile_is_that_of_random_matrices():
    values = np.sort(np.linalg.eigvalsh(population.relax(np.zeros((1500, 1500)), 1.0, 0)))[::-1] / math.sqrt(1500)
    for share in (0.01, 0.1, 0.5, 0.8):
        assert bounds.semicircle_quantile(share) == pytest.approx(values[int(share * 1500)], abs=0.02)
    assert bounds.semicircle_quantile(0) == 2
    assert bounds.semicircle_quantile(1) == -2
    with pytest.raises(ValueError, match=r"got -0\.1"):
        bounds.semicircle_quantile(-0.1)


def test_the_noise_theorems_lack_the_size_of_the_graph():
    clean = SimilarityGraph(100, 9, 8, 0.47, 0.19, 0.19)
    noisy = population.normalize(population.relax(clean.without_difficult().adjacency(), 0.05, 0))
    measured = np.sort(np.linalg.eigvalsh(noisy))[-11]
    assert measured == pytest.approx(0.0167, abs=1e-4)
    printed = bounds.noise_without_difficult(clean, 0.05, 0.05)
    corrected = bounds.noise_without_difficult(clean, 0.05, 0.05, "corrected")
    assert printed.eigenvalue == pytest.approx(0.0029, abs=5e-5)
    assert corrected.eigenvalue == pytest.approx(measured, rel=0.05)
    gain = (corrected.eigenvalue - clean.floor) / (printed.eigenvalue - clean.floor)
    assert gain == pytest.approx(math.sqrt(1000))
    with_difficult = bounds.noise_with_difficult(GRAPH, 0.05, 0.1)
    assert with_difficult.eigenvalue - bounds.with_difficult(GRAPH, 0.05).eigenvalue == pytest.approx(
        bounds.semicircle_quantile(8 / 160) * 0.1 / 32.5
    )


@pytest.mark.parametrize("scale", ["printed", "corrected"])
def test_admissible_noise_is_where_a_bound_becomes_infinite(scale):
    most = bounds.admissible_epsilon(GRAPH, scale)
    inside, outside = (bounds.noise_with_difficult(GRAPH, 0.05, factor * most, scale) for factor in (0.999, 1.001))
    assert inside.holds
    assert math.isfinite(inside.value)
    assert not outside.holds
    assert outside.value == math.inf


def test_compare_names_where_the_printed_statements_part_from_the_exact_ones():
    statuses = {k: {row.statement: row.status for row in bounds.compare(GRAPH, 0.05, k)} for k in (3, 4, 5)}
    assert statuses[4] == {
        "none difficult": "exact", "untreated": "violated", "removal": "exact", "margin": "exact",
        "temperature": "exact",
    }  # fmt: skip
    assert statuses[5]["untreated"] == "loose"
    matched = SimilarityGraph(40, 3, 8, 0.5, 0.1, 0.3, "matched")
    assert [bounds.compare(matched, 0.05, k)[1].status for k in (4, 10, 11, 12)] == [
        "violated", "violated", "violated", "loose",
    ]  # fmt: skip
    row = bounds.compare(GRAPH, 0.05, 4)[1]
    assert row.printed.holds
    assert row.eigenvalue == GRAPH.eigenvalue(5)
    assert row.exact == bounds.exact(GRAPH, 0.05, 4) > row.printed.value
    low = bounds.compare(GRAPH, 0.05, 3)[0]
    assert not low.printed.holds
    assert re.search("k >= r . 1 = 4, got k=3", low.printed.condition)


def test_conditions_are_counted_at_their_edges():
    assert bounds.with_difficult(GRAPH, 0.1, 4).holds
    assert bounds.with_difficult(GRAPH, 0.1, 11).holds
    assert not bounds.with_difficult(GRAPH, 0.1, 12).holds
    assert not bounds.with_difficult(GRAPH.without_difficult(), 0.1, 4).holds
    assert bounds.difficult_hurt(GRAPH).holds
    assert not bounds.difficult_hurt(SimilarityGraph(40, 3, 40, 0.1, 0.001, 0.05)).holds


def test_the_printed_condition_of_the_temperature_theorem_is_not_sufficient():
    graph = SimilarityGraph(100, 4, 2, 0.5, 0.05, 0.3)
    assert bounds.temperature_pays_printed(graph).holds
    assert not bounds.temperature_pays(graph).holds
    assert float(bounds.temperature(graph, 0.1)) > float(bounds.with_difficult(graph, 0.1))


def test_no_error_no_bound_and_infinite_bounds():
    assert bounds.exact(GRAPH, 0.0, 1) == 0
    apart = SimilarityGraph(5, 2, 0, 0.5, 0.0, 0.0)
    assert bounds.exact(apart, 0.1, 2) == math.inf  # three components: lambda_3 = 1
    assert bounds.exact(apart, 0.1, 3) < math.inf


def test_potential_lower_bound_is_as_printed():
    mu = (0.5 - 3 * 0.2) / (32.5 + 8 * 3 * 0.2)
    assert bounds.potential_lower_bound(GRAPH, 0.5, 2.0) == pytest.approx((0.25 - 1 + 2 * mu) / (1 - mu))
    with pytest.raises(ValueError, match="phi"):
        bounds.potential_lower_bound(GRAPH, 1.5, 2)
    with pytest.raises(ValueError, match="c must"):
        bounds.potential_lower_bound(GRAPH, 0.5, 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bounds.exact(GRAPH, 1.5, 4), "got 1.5"),
        (lambda: bounds.exact(GRAPH, -0.1, 4), "got -0.1"),
        (lambda: bounds.exact(GRAPH, math.nan, 4), "got nan"),
        (lambda: bounds.exact(GRAPH, 0.1, 0), "got k=0"),
        (lambda: bounds.compare(GRAPH, 0.1, 160), "got k=160"),
        (lambda: bounds.with_difficult(GRAPH, 2), "got 2"),
        (lambda: bounds.temperature(SimilarityGraph(9, 1, 2, 0.5, 0.0, 0.1), 0.1), "got 0.0"),
        (lambda: bounds.noise_with_difficult(GRAPH, 0.1, -1), "got -1"),
        (lambda: bounds.noise_with_difficult(GRAPH, 0.1, 1, "other"), "'other'"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()
