"""Chains estimated from sequences: counts by hand, and errors that cover the truth."""

import numpy as np
import pytest
from chains import random_transition, walk

from lab.chain_families import BridgedChain, CycleChain
from pairsift.theory import ChainGraph, estimation_errors


def test_counts_never_cross_from_one_sequence_to_the_next():
    chain = ChainGraph.from_sequences([[0, 1, 1], [2, 0], [1]])
    counts = np.array([[0, 1, 0], [0, 1, 0], [1, 0, 0]])
    np.testing.assert_allclose(chain.joint.toarray(), counts / 3)
    np.testing.assert_allclose(chain.adjacency(), (counts + counts.T) / 6)
    np.testing.assert_allclose(chain.stationary, [2 / 6, 3 / 6, 1 / 6])
    assert chain.asymmetry == pytest.approx(2 / 3)
    lagged = ChainGraph.from_sequences([[0, 1, 1, 0], [1, 0, 0]], lags=2)
    np.testing.assert_allclose(lagged.joint.toarray(), np.array([[0, 1], [2, 0]]) / 3)
    mixed = ChainGraph.from_sequences([[0, 1, 1, 0], [1, 0, 0]], lags=[1, 2], weights=[1, 3])
    one = ChainGraph.from_sequences([[0, 1, 1, 0], [1, 0, 0]])
    np.testing.assert_allclose(mixed.adjacency(), one.adjacency() / 4 + lagged.adjacency() * 3 / 4)


def test_a_million_steps_give_the_chain_within_three_standard_errors():
    transition = random_transition(6, 4)
    truth = ChainGraph(transition)
    states = walk(transition, 1_000_000, np.random.default_rng(0))
    chain = ChainGraph.from_sequences([states])
    errors = estimation_errors(chain, 3, np.arange(6) // 3)
    z = (chain.transition().toarray() - transition) / errors.transitions.toarray()
    assert np.abs(z).max() < 3.5  # the largest of 36
    assert (np.abs(z) < 2).mean() > 0.85
    assert np.abs(chain.eigenvalues(3) - truth.eigenvalues(3))[1:] == pytest.approx(
        [0, 0], abs=3 * errors.eigenvalues[1]
    )
    assert abs(chain.label_change(np.arange(6) // 3) - truth.label_change(np.arange(6) // 3)) < 3 * errors.label_change
    assert errors.clusters == 50  # one long sequence, cut into blocks


def test_errors_cover_the_truth():
    family = BridgedChain(2, 4, 2, 0.2)
    transition, labels = family.transition(), family.labels()
    truth, covered = (family.eigenvalue(2), family.chain().label_change(labels)), []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        start = rng.integers(0, 8, 100)
        walks = [walk(transition, 41, rng, state) for state in start]
        chain = ChainGraph.from_sequences(walks)
        errors = estimation_errors(chain, 2, labels)
        covered.append(
            [abs(chain.eigenvalue(2) - truth[0]) < 1.96 * errors.eigenvalues[1],
             abs(chain.label_change(labels) - truth[1]) < 1.96 * errors.label_change]
        )  # fmt: skip
    assert (np.mean(covered, axis=0) >= 0.88).all(), np.mean(covered, axis=0)
    assert (np.mean(covered, axis=0) < 1).all()


def test_smoothing_connects_and_shrinks():
    apart = [[0, 1, 0, 1, 1, 0, 0]] * 5 + [[2, 3, 3, 2, 2, 3]] * 5
    assert ChainGraph.from_sequences(apart).eigenvalue(2) == pytest.approx(1)
    values = [ChainGraph.from_sequences(apart, smoothing=s).eigenvalue(2) for s in (0.1, 1, 10)]
    assert 1 > values[0] > values[1] > values[2]
    unseen = ChainGraph.from_sequences(apart, smoothing=1, n_states=6)
    assert unseen.stationary[5] == pytest.approx(1 / (55 + 6))
    np.testing.assert_allclose(unseen.transition().sum(axis=1), 1)
    errors = [estimation_errors(ChainGraph.from_sequences(apart, smoothing=s), 2).eigenvalues[1] for s in (0.1, 10)]
    assert errors[1] < 1 / 5 + errors[0]


BAD = [
    (lambda: ChainGraph.from_sequences([]), "no sequences"),
    (lambda: ChainGraph.from_sequences([[], []]), "all 2 sequences are empty"),
    (lambda: ChainGraph.from_sequences([[0], [1], [0]]), "lag 1 is longer than any sequence: the longest, number 0"),
    (lambda: ChainGraph.from_sequences([[0, 1], [1, 0, 0]], lags=3), "lag 3 is longer .* number 1, has 3"),
    (lambda: ChainGraph.from_sequences([[0, 1], [1, 0, 0]], lags=[1, 3]), "lag 3 is longer"),
    (lambda: ChainGraph.from_sequences([[0, 1]], lags=0), "each >= 1"),
    (lambda: ChainGraph.from_sequences([[0, 1]], lags=[1], weights=[1, 2]), "1 lags need as many weights, got 2"),
    (lambda: ChainGraph.from_sequences([[0, 1]], weights=[np.nan]), "finite"),
    (lambda: ChainGraph.from_sequences([[0, 2, 0]]), "state 1 is never visited .*smoothing"),
    (lambda: ChainGraph.from_sequences([[0, 1], [0, -1]]), "sequence 1 has state -1"),
    (lambda: ChainGraph.from_sequences([[0, 5]], n_states=5), "sequence 0 has state 5.*below n_states=5"),
    (lambda: ChainGraph.from_sequences([[[0, 5]]]), "sequence 0 must be"),
    (lambda: ChainGraph.from_sequences([[0, 1]], smoothing=-1), "smoothing"),
    (lambda: ChainGraph.from_sequences([[0, 0, 1]]).transition(), "no transition out of state 1 was seen"),
    (lambda: estimation_errors(CycleChain(5).chain(), 2), "known, not estimated"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_what_is_wrong_is_said(number):
    call, words = BAD[number]
    with pytest.raises(ValueError, match=words):
        call()


def test_states_are_whole_numbers():
    with pytest.raises(TypeError, match="sequence 0 must hold state numbers, got float64"):
        ChainGraph.from_sequences([[0.5, 1.0]])
