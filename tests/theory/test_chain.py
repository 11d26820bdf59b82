"""Chains against dense solvers, brute force and descent on the loss itself."""

import math
import time

import numpy as np
import pytest
import torch
from chains import random_transition
from scipy import sparse

from lab.chain_families import BlockChain, BridgedChain, CycleChain, PathChain
from pairsift.losses import SpectralLoss
from pairsift.theory import ChainGraph, SimilarityGraph, population

FAMILIES = [
    BlockChain(4, 5, 0.12), BlockChain(2, 1, 0.3), BlockChain(3, 4, 1.0), CycleChain(8), CycleChain(9, 0.3),
    CycleChain(12, 0.5), PathChain(2), PathChain(7), BridgedChain(4, 8, 0, 0.2), BridgedChain(4, 8, 1, 0.2),
    BridgedChain(4, 8, 2, 0.2), BridgedChain(4, 8, 4, 0.2), BridgedChain(4, 8, 8, 0.2), BridgedChain(2, 5, 4, 0.7),
    BridgedChain(3, 4, 3, 0.0), BridgedChain(5, 1, 1, 0.4),
]  # fmt: skip


@pytest.mark.parametrize("family", FAMILIES, ids=repr)
def test_closed_spectra_are_those_of_a_dense_solver(family):
    values, counts = family.spectrum()
    matrix = family.transition()
    assert counts.sum() == len(family) == len(matrix)
    np.testing.assert_allclose(matrix.sum(axis=1), 1, rtol=1e-14)
    np.testing.assert_array_equal(matrix, matrix.T)
    exact = np.sort(np.linalg.eigvalsh(matrix))[::-1]
    np.testing.assert_allclose(np.repeat(values, counts), exact, atol=1e-12)
    np.testing.assert_allclose(family.chain().eigenvalues(), exact, atol=1e-12)
    assert [family.eigenvalue(i) for i in (1, len(family))] == pytest.approx([exact[0], exact[-1]], abs=1e-12)


def test_values_of_the_closed_forms():
    assert BlockChain(4, 7, 0.12).spectrum()[0] == pytest.approx([1, 0.84, 0], abs=1e-12)
    assert BlockChain(4, 7, 0.12).spectrum()[1].tolist() == [1, 3, 24]
    cycle = [0.4 + 0.6 * math.cos(2 * math.pi * j / 10) for j in range(10)]
    assert CycleChain(10, 0.4).eigenvalue(4) == pytest.approx(sorted(cycle)[-4], abs=1e-12)
    assert [PathChain(5).eigenvalue(j + 1) for j in range(5)] == pytest.approx(
        [math.cos(math.pi * j / 5) for j in range(5)]
    )


@pytest.mark.parametrize(
    ("bridging", "second", "phi", "bound"), [(0, 1, 0, 0), (1, 0.97438, 0.025, 0.0625), (2, 0.94741, 0.05, 0.125),
     (4, 0.88830, 0.1, 0.25)]
)  # fmt: skip
def test_bridged_chains(bridging, second, phi, bound):
    family = BridgedChain(4, 8, bridging, 0.2)
    chain, labels = family.chain(), family.labels()
    assert chain.eigenvalues(4)[1:] == pytest.approx([second] * 3, abs=5e-6)
    assert chain.eigenvalue(5) == pytest.approx(0.2, abs=1e-12)
    assert chain.label_change(labels) == pytest.approx(phi, abs=1e-12)
    assert chain.bound(labels, 4).value == pytest.approx(bound, abs=1e-12)
    np.testing.assert_allclose(chain.bridging(labels), np.where(family.difficult(), 0.2, 0), atol=1e-12)
    assert chain.probe_error(labels, 4) == 0


@pytest.mark.parametrize("n", [7, 30])
@pytest.mark.parametrize("reversible", [True, False])
def test_the_loss_is_a_factorisation_of_the_symmetrised_law(n, reversible):
    transition = random_transition(n, n)
    if reversible:
        weights = transition + transition.T
        transition = weights / weights.sum(axis=1, keepdims=True)
    chain = ChainGraph(transition)
    pi, rng = chain.stationary, np.random.default_rng(0)
    np.testing.assert_allclose(pi @ transition, pi, atol=1e-15)
    assert (chain.asymmetry < 1e-12) == reversible
    features = rng.standard_normal((n, 3))
    products = features @ features.T
    by_hand = -2 * (pi[:, None] * transition * products).sum() + (pi[:, None] * pi * products**2).sum()
    reverse = transition.T * pi / pi[:, None]  # the time-reversed chain
    a_bar = np.sqrt(pi)[:, None] * (transition + reverse) / 2 / np.sqrt(pi)
    np.testing.assert_allclose(chain.normalized_adjacency(), a_bar, atol=1e-13)
    scaled = np.sqrt(pi)[:, None] * features
    assert by_hand == pytest.approx(np.sum((a_bar - scaled @ scaled.T) ** 2) - np.sum(a_bar**2), rel=1e-12)
    assert by_hand == pytest.approx(population.spectral_loss(features, chain.adjacency()), rel=1e-12)


@pytest.mark.parametrize(
    "chain", [CycleChain(8).chain(), ChainGraph(random_transition(9, 1)), BridgedChain(2, 3, 1, 0.3).chain()]
)
@pytest.mark.parametrize("k", [2, 8])
def test_descent_reaches_the_positive_part_of_the_spectrum_and_no_more(chain, k):
    values = chain.eigenvalues()
    k = min(k, len(chain))
    least = -(values[: min(k, chain.usable_dimensions)] ** 2).sum()
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


def test_a_ring_loses_its_negative_eigenvalues():
    ring = CycleChain(8).chain()
    assert ring.usable_dimensions == 3
    assert -(np.maximum(ring.eigenvalues(), 0) ** 2).sum() == pytest.approx(-2, abs=1e-12)
    assert -(ring.eigenvalues() ** 2).sum() == pytest.approx(-4, abs=1e-12)
    assert ring.lazy().usable_dimensions == 7  # the eighth, -1, becomes 0
    np.testing.assert_allclose(ring.lazy(0.25).eigenvalues(), 0.25 + 0.75 * ring.eigenvalues(), atol=1e-12)


@pytest.mark.parametrize("k", range(1, 65))
def test_as_many_eigenvalues_as_asked_for_where_they_are_equal(k):
    family = BridgedChain(classes=4, states=16, bridging=0, eps=0.7)
    values, vectors = family.chain().eigenfunctions(k)
    assert values.shape == (k,)
    assert vectors.shape == (64, k)
    np.testing.assert_allclose(values, np.repeat(*family.spectrum())[:k], atol=1e-12)


def test_lags():
    chain = BridgedChain(3, 5, 2, 0.3).chain()
    values = chain.eigenvalues()
    for lag in (2, 3, 5):
        np.testing.assert_allclose(chain.lagged(lag).eigenvalues(), np.sort(values**lag)[::-1], atol=1e-12)
    mixed = 0.25 * values + 0.75 * values**4
    np.testing.assert_allclose(chain.lagged([4, 1], [3, 1]).eigenvalues(), np.sort(mixed)[::-1], atol=1e-12)
    g = 0.6
    lags = list(range(1, 80))
    geometric = chain.lagged(lags, [(1 - g) * g ** (lag - 1) for lag in lags])
    np.testing.assert_allclose(geometric.eigenvalues(), np.sort((1 - g) * values / (1 - g * values))[::-1], atol=1e-10)
    assert CycleChain(12).chain().lagged(2).eigenvalue(2) == pytest.approx(1, abs=1e-12)
    transition = random_transition(6, 3)
    one_way = ChainGraph(transition)
    third = np.linalg.matrix_power(transition, 3) * one_way.stationary[:, None]
    np.testing.assert_allclose(one_way.lagged(3).adjacency(), (third + third.T) / 2, atol=1e-14)


def test_the_bound_holds_on_random_chains():
    rng, checked = np.random.default_rng(0), 0
    for seed in range(200):
        n, classes = int(rng.integers(6, 30)), int(rng.integers(2, 5))
        chain = ChainGraph(random_transition(n, seed, sparsity=rng.uniform(0, 0.9)))
        labels = rng.permutation(np.arange(n) % classes) if seed % 2 else np.arange(n) * classes // n
        a_bar, pi = chain.normalized_adjacency(), chain.stationary
        phi = sum(chain.adjacency()[labels == c][:, labels != c].sum() for c in range(classes))
        assert chain.label_change(labels) == pytest.approx(phi, abs=1e-12)
        values, vectors = np.linalg.eigh(a_bar)
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
    assert checked > 2000


def test_a_bound_says_when_it_is_vacuous_or_undefined():
    chain = ChainGraph(np.eye(4), stationary=np.full(4, 1 / 4))
    assert not chain.bound([0, 0, 1, 1], 2).holds
    assert math.isinf(chain.bound([0, 0, 1, 1], 2))
    fast = BlockChain(4, 3, 0.75).chain()
    assert "vacuous" in fast.bound(np.arange(12) // 3, 2).condition
    assert "vacuous" not in BridgedChain(4, 8, 1, 0.2).chain().bound(np.arange(32) // 8, 4).condition


@pytest.mark.parametrize("pairing", ["block", "matched"])
def test_similarity_graphs_are_chains(pairing):
    graph = SimilarityGraph(40, 3, 8, 0.5, 0.1, 0.3, pairing)
    chain = ChainGraph.from_similarity(graph)
    values, counts = graph.spectrum()
    np.testing.assert_allclose(chain.eigenvalues(), np.repeat(values, counts), atol=1e-12)
    found, multiplicities = chain.spectrum()
    np.testing.assert_allclose(found, values, atol=1e-12)
    np.testing.assert_array_equal(multiplicities, counts)
    phi, at_4, at_12 = {"block": (0.387328, 0.8771, 0.7868), "matched": (0.371551, 0.7686, 0.7547)}[pairing]
    assert chain.label_change(graph.labels()) == pytest.approx(phi, abs=5e-7)
    assert chain.bound(graph.labels(), 4).value == pytest.approx(at_4, abs=5e-5)
    assert chain.bound(graph.labels(), 12).value == pytest.approx(at_12, abs=5e-5)
    assert population.labelling_error(chain.adjacency(), graph.labels()) == pytest.approx(phi / 2, abs=5e-7)
    clean = ChainGraph.from_similarity(graph.without_difficult())
    assert clean.label_change(graph.labels()) == pytest.approx(0.369231, abs=5e-7)


def test_dropping_breaks_or_closes():
    family = BridgedChain(4, 8, 2, 0.2)
    chain, hard = family.chain(), family.difficult()
    labels = family.labels()[~hard]
    broken, closed = chain.drop(hard), chain.drop(np.flatnonzero(hard), gap="close")
    assert broken.label_change(labels) == 0
    values, counts = broken.spectrum()
    assert (values.round(12).tolist(), counts.tolist()) == ([1, 0.25], [4, 20])
    assert closed.label_change(labels) == pytest.approx(0.046154, abs=5e-7)
    assert closed.eigenvalues(4)[1:] == pytest.approx([0.93846] * 3, abs=5e-6)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        family = BridgedChain(*rng.integers(2, [5, 9]).tolist(), 1, float(rng.uniform(0.05, 0.9)))
        labels = family.labels()[~family.difficult()]
        phis = [family.chain().drop(family.difficult(), gap).label_change(labels) for gap in ("break", "close")]
        assert phis[0] <= phis[1]


def test_editing_transitions():
    family = BridgedChain(4, 8, 2, 0.2)
    chain, labels, hard = family.chain(), family.labels(), family.difficult()
    apart = (labels[:, None] != labels) & hard[:, None] & hard
    values = [chain.edited(np.where(apart, factor, 1)).label_change(labels) for factor in (1, 0.5, 0)]
    assert values[0] == pytest.approx(0.05, abs=1e-12)
    assert values == sorted(values, reverse=True)
    assert values[2] == 0
    assert chain.edited(np.where(apart, 0, 1)).eigenvalue(4) == pytest.approx(1, abs=1e-12)
    kept = ChainGraph(sparse.csr_array(chain.transition())).edited(np.where(apart, 0.5, 1))
    np.testing.assert_allclose(kept.adjacency(), chain.edited(np.where(apart, 0.5, 1)).adjacency(), atol=1e-15)


@pytest.mark.parametrize("distance", [0.25, 0.01])
def test_mixing_time_is_the_first_step_that_arrives(distance):
    for chain in (CycleChain(9, 0.3).chain(), ChainGraph(random_transition(8, 2, 0.6)), BlockChain(3, 4, 0.02).chain()):
        transition, pi, power, steps = chain.transition(), chain.stationary, np.eye(len(chain)), 0
        while np.abs(power - pi).sum(axis=1).max() / 2 > distance:
            power, steps = power @ transition, steps + 1
        assert chain.mixing_time(distance) == steps
    assert math.isinf(CycleChain(8).chain().mixing_time())


def test_slow_modes_and_features():
    chain = BlockChain(3, 4, 0.1).chain()
    modes = chain.slow_modes(3)
    assert [mode.value for mode in modes] == pytest.approx([0.85, 0.85, 0], abs=1e-12)
    assert modes[0].time == pytest.approx(-1 / math.log(0.85))
    assert modes[2].time == 0
    for mode in modes:
        assert chain.stationary @ mode.function == pytest.approx(0, abs=1e-12)
        assert chain.stationary @ mode.function**2 == pytest.approx(1)
    features = chain.optimal_features(5)
    reference = population.optimal_features(chain.adjacency(), 5)
    np.testing.assert_allclose(features @ features.T, reference @ reference.T, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 2.0])
def test_lanczos_and_sparse_matrices_agree_with_dense_ones(smoothing):
    rng = np.random.default_rng(0)
    walks = [np.cumsum(rng.integers(-3, 4, 300)) % 1200 for _ in range(200)] + [np.arange(1200)]
    chain = ChainGraph.from_sequences(walks, smoothing=smoothing)
    assert sparse.issparse(chain.joint)
    exact = np.sort(np.linalg.eigvalsh(chain.normalized_adjacency()))[::-1]
    np.testing.assert_allclose(chain.eigenvalues(7), exact[:7], atol=1e-9)
    assert chain.adjacency().sum() == pytest.approx(1)
    np.testing.assert_allclose(chain.adjacency().sum(axis=1), chain.stationary, atol=1e-15)
    labels = np.arange(1200) // 300
    assert chain.label_change(labels) == pytest.approx(2 * population.labelling_error(chain.adjacency(), labels))
    counts = np.zeros((1200, 1200))
    for states in walks:
        np.add.at(counts, (states[:-1], states[1:]), 1)
    counts += smoothing / 1200
    np.testing.assert_allclose(chain.adjacency(), (counts + counts.T) / 2 / counts.sum(), atol=1e-15)
    sparse_one = ChainGraph(sparse.csr_array(random_transition(40, 5, 0.5)))
    np.testing.assert_allclose(sparse_one.stationary, ChainGraph(random_transition(40, 5, 0.5)).stationary, atol=1e-14)


def test_a_million_transitions_of_ten_thousand_states_take_seconds():
    rng = np.random.default_rng(0)
    walks = list((rng.integers(0, 10_000, (1000, 1)) + rng.integers(-40, 41, (1000, 1001)).cumsum(axis=1)) % 10_000)
    start = time.perf_counter()
    chain = ChainGraph.from_sequences(walks)
    values = chain.eigenvalues(6)
    assert time.perf_counter() - start < 10
    assert len(chain.observed) == 1_000_000
    assert 0.99 < values[1] < 1
    assert chain.joint.nnz < 820_000


BAD = [
    (lambda: ChainGraph([[0.5, 0.4], [0.5, 0.5]]), "row 0 of the transition matrix sums to 0.9"),
    (lambda: ChainGraph([[1.5, -0.5], [0.5, 0.5]]), "from state 0 to state 1 is negative"),
    (lambda: ChainGraph(sparse.csr_array([[0.5, 0.5], [np.nan, 0.5]])), "from state 1 to state 0 is not finite"),
    (lambda: ChainGraph(np.ones((2, 3)) / 3), "square"),
    (lambda: ChainGraph(np.zeros((0, 0))), "not empty"),
    (lambda: ChainGraph([[0.7, 0.3, 0], [0.2, 0.8, 0], [0, 0, 1]]), "2 sets of states.*pass stationary"),
    (lambda: ChainGraph([[0.5, 0.5], [0, 1]]), "state 0 is left for good"),
    (lambda: ChainGraph([[0.5, 0.5], [0.2, 0.8]], stationary=[0.5, 0.5]), "not kept"),
    (lambda: ChainGraph(np.eye(2), stationary=[1, 0]), "positive probabilities"),
    (lambda: ChainGraph.from_joint([[1, 0], [0, 0]]), "state 1 is never visited"),
    (lambda: ChainGraph.from_similarity(SimilarityGraph(20, 2, 0, 0.5, -0.1, 0)), "negative"),
    (lambda: CycleChain(8).chain().eigenvalue(9), "asked for 9"),
    (lambda: CycleChain(8).chain().optimal_features(0), "asked for 0"),
    (lambda: CycleChain(8).chain().label_change([0, 1]), r"labels must be \(8,\)"),
    (lambda: CycleChain(8).chain().bound(np.arange(8), 8), "k must lie"),
    (lambda: CycleChain(8).chain().lagged(0), "each >= 1"),
    (lambda: CycleChain(8).chain().lagged([1, 1]), "different"),
    (lambda: CycleChain(8).chain().lagged([1, 2], [1]), "2 lags need as many weights"),
    (lambda: CycleChain(8).chain().lagged([1, 2], [1, -1]), ">= 0"),
    (lambda: CycleChain(8).chain().lazy(1), "stay"),
    (lambda: CycleChain(8).chain().drop([9]), "numbers from 0 to 7"),
    (lambda: CycleChain(8).chain().drop(np.ones(8, bool)), "no chain is left"),
    (lambda: CycleChain(8).chain().drop(np.ones(3, bool)), r"\(8,\) bool"),
    (lambda: CycleChain(8).chain().drop([1, 3]), "state 1 is never visited"),
    (lambda: CycleChain(8).chain().drop([1], gap="skip"), "'break' or 'close'"),
    (lambda: CycleChain(8).chain().edited(np.ones((2, 2))), "factors"),
    (lambda: CycleChain(8).chain().edited(-np.ones((8, 8))), "negative"),
    (lambda: CycleChain(8).chain().mixing_time(0), "between 0 and 1"),
    (lambda: CycleChain(2), "at least 3"),
    (lambda: BlockChain(3, 4, 1.2), "eps"),
    (lambda: BridgedChain(3, 4, 5, 0.2), "bridging=5"),
    (lambda: BridgedChain(3, 4, 1, 1), "eps=1"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BAD)))
def test_what_is_wrong_is_said(number):
    call, words = BAD[number]
    with pytest.raises(ValueError, match=words):
        call()


def test_a_lag_is_a_whole_number():
    with pytest.raises(TypeError, match=r"1\.5"):
        CycleChain(8).chain().lagged([1.5])
