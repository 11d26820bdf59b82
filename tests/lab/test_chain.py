"""Chains against dense solvers, brute force and descent on the loss itself."""

import math
import time

import numpy as np
import pytest
import torch
from chains import random_transition, walk
from scipy import sparse

from lab.chain import BridgedChain, ChainGraph, estimation_errors
from pairsift.losses import SpectralLoss
from pairsift.theory import SimilarityGraph, population

RING = (np.roll(np.eye(8), 1, axis=1) + np.roll(np.eye(8), -1, axis=1)) / 2
FAMILIES = [
    BridgedChain(4, 8, 0, 0.2), BridgedChain(4, 8, 1, 0.2), BridgedChain(4, 8, 4, 0.2), BridgedChain(4, 8, 8, 0.2),
    BridgedChain(2, 5, 4, 0.7), BridgedChain(3, 4, 3, 0.0), BridgedChain(5, 1, 1, 0.4),
]  # fmt: skip


def one_way(n, seed, sparsity=0.0):
    """A chain that is not reversible, with its transition matrix and stationary distribution."""
    transition = random_transition(n, seed, sparsity)
    pi = np.linalg.matrix_power(transition, 10_000)[0]
    return ChainGraph(pi[:, None] * transition), transition, pi


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_closed_spectra_are_those_of_a_dense_solver(family):
    matrix = family.transition()
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_array_equal(matrix, matrix.T)
    exact = np.sort(np.linalg.eigvalsh(matrix))[::-1]
    np.testing.assert_allclose(family.spectrum(), exact, atol=1e-12)
    np.testing.assert_allclose(ChainGraph(matrix).eigenvalues(), exact, atol=1e-12)


@pytest.mark.parametrize(
    ("bridging", "second", "phi", "bound"), [(0, 1, 0, 0), (1, 0.97438, 0.025, 0.0625), (2, 0.94741, 0.05, 0.125),
     (4, 0.88830, 0.1, 0.25)]
)  # fmt: skip
def test_bridged_chains(bridging, second, phi, bound):
    family = BridgedChain(4, 8, bridging, 0.2)
    chain, labels = ChainGraph(family.transition()), family.labels()
    assert chain.eigenvalues(4)[1:] == pytest.approx([second] * 3, abs=5e-6)
    assert chain.label_change(labels) == pytest.approx(phi, abs=1e-12)
    assert chain.bound(labels, 4).value == pytest.approx(bound, abs=1e-12)
    np.testing.assert_allclose(chain.bridging(labels), np.where(family.difficult(), 0.2, 0), atol=1e-12)
    assert chain.probe_error(labels, 4) == 0


@pytest.mark.parametrize("n", [7, 30])
def test_the_loss_is_a_factorisation_of_the_symmetrised_law(n):
    chain, transition, pi = one_way(n, n)
    np.testing.assert_allclose(chain.stationary, pi, atol=1e-14)
    assert chain.asymmetry > 0.01
    features = np.random.default_rng(0).standard_normal((n, 3))
    products = features @ features.T
    by_hand = -2 * (pi[:, None] * transition * products).sum() + (pi[:, None] * pi * products**2).sum()
    reverse = transition.T * pi / pi[:, None]  # the time-reversed chain
    a_bar = np.sqrt(pi)[:, None] * (transition + reverse) / 2 / np.sqrt(pi)
    scaled = np.sqrt(pi)[:, None] * features
    assert by_hand == pytest.approx(np.sum((a_bar - scaled @ scaled.T) ** 2) - np.sum(a_bar**2), rel=1e-12)
    assert by_hand == pytest.approx(population.spectral_loss(features, chain.adjacency()), rel=1e-12)


@pytest.mark.parametrize("chain", [ChainGraph(RING), one_way(9, 1)[0]])
@pytest.mark.parametrize("k", [2, 8])
def test_descent_reaches_the_positive_part_of_the_spectrum_and_no_more(chain, k):
    least = -(chain.eigenvalues()[: min(k, chain.usable_dimensions)] ** 2).sum()
    assert population.spectral_loss(chain.optimal_features(k), chain.adjacency()) == pytest.approx(least, abs=1e-10)
    torch.manual_seed(0)
    free = torch.randn(len(chain), k, dtype=torch.float64, requires_grad=True)
    positives, weights = torch.from_numpy(chain.adjacency()), torch.from_numpy(chain.stationary)
    loss = SpectralLoss(mu=1e6)
    optimizer = torch.optim.LBFGS(
        [free], max_iter=2000, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure():
        optimizer.zero_grad()
        value = loss(free, free, positives=positives, weights=weights) * 1e6
        value.backward()
        return value

    optimizer.step(closure)
    assert float(closure().detach()) == pytest.approx(least, abs=1e-6)


def test_a_ring_has_negative_eigenvalues_that_no_feature_fits():
    ring = ChainGraph(RING)
    assert ring.usable_dimensions == 3
    assert ring.eigenvalues()[-1] == pytest.approx(-1)


def test_the_bound_holds_on_random_chains():
    rng, checked = np.random.default_rng(0), 0
    for seed in range(60):
        n, classes = int(rng.integers(6, 30)), int(rng.integers(2, 5))
        chain, _, pi = one_way(n, seed, rng.uniform(0, 0.9))
        labels = rng.permutation(np.arange(n) % classes) if seed % 2 else np.arange(n) * classes // n
        phi = sum(chain.adjacency()[labels == c][:, labels != c].sum() for c in range(classes))
        assert chain.label_change(labels) == pytest.approx(phi, abs=1e-12)
        values, vectors = np.linalg.eigh(population.normalize(chain.adjacency()))
        values, vectors = values[::-1], vectors[:, ::-1]
        for k in range(1, n):
            bound, used = chain.bound(labels, k), min(k, int((values > 1e-10).sum()))
            assert bound.holds
            assert bound.value == pytest.approx(2 * phi / (1 - values[used]), rel=1e-9)
            assert chain.probe_error(labels, k) <= bound.value + 1e-9
            onehot = np.sqrt(pi)[:, None] * np.eye(classes)[labels]
            squared = np.sum((onehot - vectors[:, :used] @ (vectors[:, :used].T @ onehot)) ** 2)
            assert squared <= bound.value / 2 + 1e-9
            checked += 1
    assert checked > 600


def test_a_bound_says_when_it_is_vacuous_or_undefined():
    apart = ChainGraph(np.eye(4)).bound([0, 0, 1, 1], 2)
    assert not apart.holds
    assert math.isinf(apart)
    assert "vacuous" in one_way(9, 2)[0].bound(np.arange(9) % 3, 2).condition


@pytest.mark.parametrize("pairing", ["block", "matched"])
def test_similarity_graphs_are_chains(pairing):
    graph = SimilarityGraph(40, 3, 8, 0.5, 0.1, 0.3, pairing)
    chain = ChainGraph(graph.adjacency())
    np.testing.assert_allclose(chain.eigenvalues(), np.repeat(*graph.spectrum()), atol=1e-12)
    phi, at_4, at_12 = {"block": (0.387328, 0.8771, 0.7868), "matched": (0.371551, 0.7686, 0.7547)}[pairing]
    assert chain.label_change(graph.labels()) == pytest.approx(phi, abs=5e-7)
    assert chain.bound(graph.labels(), 4).value == pytest.approx(at_4, abs=5e-5)
    assert chain.bound(graph.labels(), 12).value == pytest.approx(at_12, abs=5e-5)
    assert population.labelling_error(chain.adjacency(), graph.labels()) == pytest.approx(phi / 2, abs=5e-7)


def test_lanczos_and_sparse_matrices_agree_with_dense_ones():
    rng = np.random.default_rng(0)
    walks = [np.cumsum(rng.integers(-3, 4, 300)) % 1200 for _ in range(200)] + [np.arange(1200)]
    chain = ChainGraph.from_sequences(walks)
    assert sparse.issparse(chain.joint)
    exact = np.sort(np.linalg.eigvalsh(population.normalize(chain.adjacency())))[::-1]
    np.testing.assert_allclose(chain.eigenvalues(7), exact[:7], atol=1e-9)
    counts = np.zeros((1200, 1200))
    for states in walks:
        np.add.at(counts, (states[:-1], states[1:]), 1)
    np.testing.assert_allclose(chain.adjacency(), (counts + counts.T) / 2 / counts.sum(), atol=1e-15)


def test_a_million_transitions_of_ten_thousand_states_take_seconds():
    rng = np.random.default_rng(0)
    walks = list((rng.integers(0, 10_000, (1000, 1)) + rng.integers(-40, 41, (1000, 1001)).cumsum(axis=1)) % 10_000)
    start = time.process_time()
    chain = ChainGraph.from_sequences(walks)
    values = chain.eigenvalues(6)
    assert time.process_time() - start < 10
    assert 0.99 < values[1] < 1
    assert chain.joint.nnz < 820_000


def test_counts_never_cross_from_one_sequence_to_the_next():
    chain = ChainGraph.from_sequences([[0, 1, 1], [2, 0], [1]])
    counts = np.array([[0, 1, 0], [0, 1, 0], [1, 0, 0]])
    np.testing.assert_allclose(chain.joint.toarray(), counts / 3)
    np.testing.assert_allclose(chain.stationary, [2 / 6, 3 / 6, 1 / 6])
    assert chain.asymmetry == pytest.approx(2 / 3)
    lagged = ChainGraph.from_sequences([[0, 1, 1, 0], [1, 0, 0]], lags=2)
    np.testing.assert_allclose(lagged.joint.toarray(), np.array([[0, 1], [2, 0]]) / 3)
    mixed = ChainGraph.from_sequences([[0, 1, 1, 0], [1, 0, 0]], lags=[1, 2], weights=[1, 3])
    one = ChainGraph.from_sequences([[0, 1, 1, 0], [1, 0, 0]])
    np.testing.assert_allclose(mixed.adjacency(), one.adjacency() / 4 + lagged.adjacency() * 3 / 4)


def test_a_long_sequence_gives_the_chain_within_three_standard_errors():
    truth, transition, _ = one_way(6, 4)
    chain = ChainGraph.from_sequences([walk(transition, 200_000, np.random.default_rng(0))])
    errors, change = estimation_errors(chain, 3, np.arange(6) // 3)
    assert (np.abs(chain.eigenvalues(3) - truth.eigenvalues(3))[1:] < 3 * errors[1:]).all()
    assert abs(chain.label_change(np.arange(6) // 3) - truth.label_change(np.arange(6) // 3)) < 3 * change
    assert chain.observed.clusters.max() == 49  # one long sequence, cut into blocks


def test_errors_cover_the_truth():
    family = BridgedChain(2, 4, 2, 0.2)
    transition, labels = family.transition(), family.labels()
    truth, covered = (family.spectrum()[1], ChainGraph(transition).label_change(labels)), []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        walks = [walk(transition, 41, rng, state) for state in rng.integers(0, 8, 100)]
        chain = ChainGraph.from_sequences(walks)
        errors, change = estimation_errors(chain, 2, labels)
        found = chain.eigenvalues(2)[1], chain.label_change(labels)
        covered.append([abs(found[0] - truth[0]) < 1.96 * errors[1], abs(found[1] - truth[1]) < 1.96 * change])
    assert (np.mean(covered, axis=0) >= 0.88).all(), np.mean(covered, axis=0)
    assert (np.mean(covered, axis=0) < 1).all()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ChainGraph([[1, -1], [1, 1]]), "square matrix of finite numbers >= 0"),
        (lambda: ChainGraph(sparse.csr_array([[1, 1], [np.nan, 1]])), "finite"),
        (lambda: ChainGraph(np.ones((2, 3))), "square"),
        (lambda: ChainGraph([[1, 0], [0, 0]]), "state 1 is never visited"),
        (lambda: ChainGraph(RING).optimal_features(0), "k must lie in"),
        (lambda: ChainGraph(RING).label_change([0, 1]), r"labels must be \(8,\)"),
        (lambda: ChainGraph(RING).bound(np.arange(8), 8), "k must lie"),
        (lambda: ChainGraph.from_sequences([[0, 1], [1, 0, 0]], lags=3), "longer than any sequence"),
        (lambda: ChainGraph.from_sequences([[0, 1]], lags=0), "each >= 1"),
        (lambda: estimation_errors(ChainGraph(RING), 2), "known, not estimated"),
    ],
)
def test_bad_input_is_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
