import math

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pairsift.theory import SimilarityGraph, bounds, edits, population

unit = st.floats(0, 1)


@st.composite
def graphs(draw, lowest_beta=-0.05, most=400):
    r = draw(st.integers(1, 7))
    n = draw(st.integers(1, most // (r + 1)))
    alpha = draw(st.floats(0.02, 1))
    beta = lowest_beta + draw(unit) * (alpha - lowest_beta) * 0.98
    gamma = beta + draw(unit) * (alpha - beta) * 0.99
    try:
        return SimilarityGraph(
            n, r, draw(st.integers(0, n)), alpha, beta, gamma, draw(st.sampled_from(["block", "matched"]))
        )
    except ValueError:  # a degree that is not positive, or gamma rounded up to alpha
        assume(False)


@settings(max_examples=60)
@given(graphs())
def test_closed_form_equals_the_dense_solver(graph):
    assume(min(graph.easy_degree, graph.difficult_degree) > 0.1)  # else eigenvalues, and the solver's error, are huge
    matrix = graph.normalized_adjacency()
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(graph.adjacency().sum(1), graph.degrees(), rtol=1e-12)
    values, counts = graph.spectrum()
    assert counts.sum() == len(graph)
    np.testing.assert_allclose(np.repeat(values, counts), np.linalg.eigvalsh(matrix)[::-1], atol=1e-12)


@settings(max_examples=40)
@given(graphs(lowest_beta=0.01, most=120))
def test_edits_restore_the_clean_graph(graph):
    clean = graph.without_difficult().normalized_adjacency()
    np.testing.assert_allclose(edits.apply_margin(graph, edits.margin_matrix(graph)), clean, atol=1e-13)
    np.testing.assert_allclose(edits.apply_temperature(graph, edits.temperature_matrix(graph)), clean, atol=1e-13)


@settings(max_examples=400)
@given(graphs(lowest_beta=0.001, most=10_000))
def test_conditions_hold_exactly_when_their_inequality_does(graph):
    """Inequalities of eigenvalues, in exact rational arithmetic's stead: cases within rounding of equality are left."""
    assume(0 < graph.n_d < graph.n)
    assume(graph.gamma - graph.beta > 1e-6)
    printed = bounds.with_difficult(graph, 0.1).eigenvalue

    def agrees(condition, smaller, larger):
        return math.isclose(smaller, larger, rel_tol=1e-12) or condition.holds == (smaller < larger)

    assert agrees(bounds.difficult_hurt(graph), bounds.without_difficult(graph, 0.1).eigenvalue, printed)
    assert agrees(bounds.removal_pays(graph), bounds.removed(graph, 0.1).eigenvalue, printed)
    treated = float(bounds.temperature(graph, 0.1)) - 0.8
    untreated = float(bounds.with_difficult(graph, 0.1)) - 0.8
    if untreated > 0 and math.isfinite(untreated):
        assert agrees(bounds.temperature_pays(graph), treated, untreated)
        if bounds.temperature_pays(graph).holds:
            assert bounds.temperature_pays_printed(graph).holds  # necessary, not sufficient


@settings(max_examples=40)
@given(graphs(lowest_beta=0.0, most=120), st.integers(1, 12), st.integers(0, 5))
def test_the_probe_errs_less_than_the_exact_bound(graph, k, seed):
    assume(k < len(graph))
    adjacency = np.clip(population.relax(graph.adjacency(), 0.2, seed), 0, None)
    labels = graph.labels()
    delta = population.labelling_error(adjacency, labels)
    features = population.optimal_features(adjacency, k)
    eigenvalue = population.leading_eigenpairs(population.normalize(adjacency), k + 1)[0][k]
    error = population.linear_probe_error(adjacency, features, labels)
    assert error <= bounds.from_eigenvalue(float(eigenvalue), delta) + 1e-9
