import numpy as np
import pytest

from pairsift.theory import SimilarityGraph, edits

BLOCK = SimilarityGraph(12, 3, 4, 0.5, 0.1, 0.3)
MATCHED = SimilarityGraph(12, 3, 4, 0.5, 0.1, 0.3, "matched")


@pytest.mark.parametrize("graph", [BLOCK, MATCHED])
def test_edits_restore_the_clean_graph_exactly(graph):
    clean = graph.without_difficult()
    margins, temperatures = edits.margin_matrix(graph), edits.temperature_matrix(graph)
    for matrix in (margins, temperatures):
        np.testing.assert_array_equal(matrix, matrix.T)
    for edited in (edits.apply_margin(graph, margins), edits.apply_temperature(graph, temperatures)):
        np.testing.assert_allclose(edited, clean.normalized_adjacency(), atol=1e-16)
        values, counts = clean.spectrum()
        np.testing.assert_allclose(np.linalg.eigvalsh(edited)[::-1], np.repeat(values, counts), atol=1e-14)


def test_printed_cases_of_the_block_graph():
    n, r, n_d, alpha, beta, gamma = 12, 3, 4, 0.5, 0.1, 0.3
    c2 = (1 - alpha) + n * alpha + n * r * beta
    c1 = c2 + n_d * r * (gamma - beta)
    c0 = (1 - alpha) + n * alpha + (n - n_d) * r * beta
    margins, temperatures = edits.margin_cases(BLOCK), edits.temperature_cases(BLOCK)
    assert len(margins) == len(temperatures) == 6
    assert margins["difficult pair"] == pytest.approx(c0 * (gamma - beta) / (c1**2 * c2), rel=1e-12)
    assert temperatures["difficult pair"] == pytest.approx(c1 / c2 * beta / gamma, rel=1e-12)
    assert temperatures["difficult with itself"] == pytest.approx(c1 / c2, rel=1e-12)
    assert temperatures["easy with difficult, same class"] == pytest.approx((c1 / c2) ** 0.5, rel=1e-12)
    assert margins["easy with anything easy"] == 0
    assert temperatures["easy with anything easy"] == 1
    # Only difficult pairs are pushed down; the other cases make up for the degrees.
    assert [kind for kind, value in margins.items() if value > 0] == ["difficult pair"]


def test_the_matched_graph_has_a_seventh_case():
    assert list(edits.margin_cases(MATCHED)) == list(edits.KINDS)
    matrix = edits.margin_matrix(MATCHED)
    hard = np.flatnonzero(MATCHED.difficult())
    assert matrix[hard[0], hard[4]] == edits.margin_cases(MATCHED)["difficult pair"]
    assert matrix[hard[0], hard[5]] == edits.margin_cases(MATCHED)[edits.KINDS[6]]


@pytest.mark.parametrize("n_d", [0, 12])
def test_without_and_with_nothing_but_difficult_examples(n_d):
    graph = SimilarityGraph(12, 3, n_d, 0.5, 0.1, 0.3)
    clean = graph.without_difficult().normalized_adjacency()
    np.testing.assert_allclose(edits.apply_margin(graph, edits.margin_matrix(graph)), clean, atol=1e-16)
    assert (n_d == 0) == (np.abs(edits.margin_matrix(graph)).max() == 0)


def test_zero_similarity_cannot_be_scaled():
    with pytest.raises(ValueError, match=r"beta = -0\.01"):
        edits.temperature_matrix(SimilarityGraph(12, 3, 4, 0.5, -0.01, 0.0))
    assert edits.temperature_cases(SimilarityGraph(12, 3, 4, 0.5, 0.0, 0.0))["difficult pair"] == 1
