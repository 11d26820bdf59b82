import numpy as np
import pytest

from pairsift.theory import SimilarityGraph, edits, population

GRAPH = SimilarityGraph(6, 2, 2, 0.5, 0.1, 0.3)
RNG = np.random.default_rng(0)


def loops(features, adjacency, margins, temperatures):
    """The population losses of Eqs. 31 and 40, pair by pair."""
    volume, degrees = adjacency.sum(), adjacency.sum(1)
    margin = temperature = 0.0
    for i in range(len(adjacency)):
        for j in range(len(adjacency)):
            product = features[i] @ features[j]
            both = degrees[i] * degrees[j] / volume**2
            margin += -2 * adjacency[i, j] / volume * product + both * (product + margins[i, j]) ** 2
            scaled = product / temperatures[i, j]
            temperature += -2 * adjacency[i, j] / volume * scaled + both * scaled**2
    return margin, temperature


@pytest.mark.parametrize("pairing", ["block", "matched"])
def test_losses_equal_their_definitions_and_differ_from_factorisations_by_a_constant(pairing):
    graph = SimilarityGraph(6, 2, 2, 0.5, 0.1, 0.3, pairing)
    adjacency = graph.adjacency()
    normalized = population.normalize(adjacency)
    margins = edits.margin_matrix(graph) * graph.volume
    temperatures = edits.temperature_matrix(graph)
    w = population.weights(adjacency)
    shift = margins * np.sqrt(w[:, None] * w)
    for _ in range(5):
        features = RNG.standard_normal((18, 4)) * RNG.uniform(0.1, 3)
        margin, temperature = loops(features, adjacency, margins, temperatures)
        assert population.margin_loss(features, adjacency, margins) == pytest.approx(margin, rel=1e-12)
        assert population.temperature_loss(features, adjacency, temperatures) == pytest.approx(temperature, rel=1e-12)
        plain = population.spectral_loss(features, adjacency) - population.factorization_loss(features, adjacency)
        assert plain == pytest.approx(-(normalized**2).sum(), abs=1e-8)
        difference = margin - population.factorization_loss(features, adjacency, margins)
        assert difference == pytest.approx((shift**2).sum() - ((normalized - shift) ** 2).sum(), abs=1e-8)
        fitted = np.sqrt(w[:, None] * w) * (features @ features.T) / temperatures
        difference = temperature - ((normalized - fitted) ** 2).sum()  # the weighted norm of Thm 4.4
        assert difference == pytest.approx(-(normalized**2).sum(), abs=1e-8)
    # In these units the margin loss factorises the clean graph.
    np.testing.assert_allclose(normalized - shift, graph.without_difficult().normalized_adjacency(), atol=1e-15)


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_optimal_features_minimise_the_loss(k):
    adjacency = GRAPH.adjacency()
    best = population.optimal_features(adjacency, k)
    values = np.linalg.eigvalsh(population.normalize(adjacency))[::-1]
    loss = population.spectral_loss(best, adjacency)
    assert loss == pytest.approx(-(np.maximum(values[:k], 0) ** 2).sum(), rel=1e-12)
    for scale in (1e-3, 0.1, 1):
        for _ in range(20):
            other = best + scale * RNG.standard_normal(best.shape)
            assert population.spectral_loss(other, adjacency) >= loss - 1e-12


def test_probe_error_counts_the_classes_that_cannot_be_told_apart():
    adjacency, labels = GRAPH.adjacency(), GRAPH.labels()
    errors = [
        population.linear_probe_error(adjacency, population.optimal_features(adjacency, k), labels) for k in (1, 2, 3)
    ]
    assert errors == pytest.approx([2 / 3, 1 / 3, 0], abs=1e-12)


def test_labelling_error_is_half_the_crossing_mass():
    assert population.labelling_error(GRAPH.adjacency(), GRAPH.labels()) == pytest.approx(
        GRAPH.adjacency()[GRAPH.labels()[:, None] != GRAPH.labels()].sum() / GRAPH.volume / 2
    )
    apart = SimilarityGraph(6, 2, 0, 0.5, 0.0, 0.0)
    assert population.labelling_error(apart.adjacency(), apart.labels()) == 0


def test_lanczos_and_dense_solvers_agree():
    matrix = SimilarityGraph(250, 1, 30, 0.5, 0.1, 0.3).normalized_adjacency()
    values, vectors = population.leading_eigenpairs(matrix, 3)
    expected = np.linalg.eigh(matrix)
    np.testing.assert_allclose(values, expected[0][::-1][:3], atol=1e-10)
    np.testing.assert_allclose(np.abs((vectors * expected[1][:, ::-1][:, :3]).sum(0)), 1, atol=1e-8)


def test_relaxation_is_symmetric_seeded_noise_of_the_named_size():
    base = np.eye(400)
    noisy = population.relax(base, 0.3, 1)
    np.testing.assert_array_equal(noisy, noisy.T)
    np.testing.assert_array_equal(noisy, population.relax(base, 0.3, 1))
    assert not np.array_equal(noisy, population.relax(base, 0.3, 2))
    np.testing.assert_array_equal(np.diag(noisy), 1)
    assert noisy[np.triu_indices(400, 1)].std() == pytest.approx(0.3, rel=0.01)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: population.weights(np.ones((2, 3))), "square"),
        (lambda: population.weights(np.zeros((0, 0))), "not empty"),
        (lambda: population.weights(np.array([[1, 2.0], [0, 1]])), "symmetric"),
        (lambda: population.weights(np.array([[1, -2.0], [-2, 1]])), "vertex 0 has degree -1"),
        (lambda: population.weights(np.array([[1, np.nan], [np.nan, 1]])), "row 0"),
        (lambda: population.optimal_features(np.eye(3), 0), "got 0"),
        (lambda: population.optimal_features(np.eye(3), 4), "got 4"),
        (lambda: population.spectral_loss(np.ones((2, 1)), np.eye(3)), r"\(3, k\)"),
        (lambda: population.linear_probe_error(np.eye(3), np.ones((3, 1)), np.zeros(3, int)), "every label is 0"),
        (lambda: population.linear_probe_error(np.eye(3), np.ones((3, 1)), np.zeros(2, int)), r"\(2,\)"),
        (lambda: population.relax(np.eye(3), -1, 0), "got -1"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
