"""Pairs in time against the definition, row by row."""

import numpy as np
import pytest

from lab.chain import ChainGraph
from pairsift.data import DataError
from pairsift.temporal import temporal_pairs


def by_hand(sequences, times, keep, lag):
    """Every pair of rows of one sequence `lag` steps apart with every step between them there and kept."""
    at = {(s, t): row for row, (s, t) in enumerate(zip(sequences, times, strict=True)) if keep[row]}
    return {
        (row, at[s, t + lag]) for (s, t), row in at.items() if all((s, t + step) in at for step in range(1, lag + 1))
    }


@pytest.mark.filterwarnings("ignore:.*give no pair")
@pytest.mark.parametrize("seed", range(8))
def test_pairs_follow_the_definition(seed):
    rng = np.random.default_rng(seed)
    frames = [(s, t) for s in range(6) for t in range(int(rng.integers(1, 15))) if rng.random() < 0.9]
    rng.shuffle(frames)
    sequences, times = np.array(frames).T
    keep = rng.random(len(frames)) < 0.85
    pairs = temporal_pairs(sequences, [1, 3], [1, 3], times=times * 0.01, unit=0.01, keep=keep)
    for lag, share in ((1, 0.25), (3, 0.75)):
        chosen = pairs.lags == lag
        found = list(zip(pairs.anchors[chosen].tolist(), pairs.positives[chosen].tolist(), strict=True))
        assert set(found) == by_hand(sequences.tolist(), times.tolist(), keep, lag)
        assert len(set(found)) == len(found) > 0
        assert pairs.weights[chosen].sum() == pytest.approx(share)
        np.testing.assert_allclose(pairs.weights[chosen], share / chosen.sum())
    assert set(sequences[pairs.anchors] - sequences[pairs.positives]) == {0}


def test_rows_without_times_count_in_their_order():
    pairs = temporal_pairs(["b", "a", "b", "a", "b"])
    assert list(zip(pairs.anchors.tolist(), pairs.positives.tolist(), strict=True)) == [(1, 3), (0, 2), (2, 4)]
    assert pairs.times.tolist() == [0, 0, 1, 1, 2]
    listed = temporal_pairs([np.zeros((3, 4)), np.zeros((2, 4))])
    assert list(zip(listed.anchors.tolist(), listed.positives.tolist(), strict=True)) == [(0, 1), (1, 2), (3, 4)]


def test_a_dropped_frame_breaks_its_sequence():
    keep = np.array([True, True, False, True, True, True])
    pairs = temporal_pairs(np.zeros(6, int), [1, 2], keep=keep)
    assert list(zip(pairs.anchors.tolist(), pairs.positives.tolist(), strict=True)) == [(0, 1), (3, 4), (4, 5), (3, 5)]


def test_short_sequences_are_named():
    with pytest.warns(UserWarning, match="1 of 3 sequences give no pair, 'b' the first.*at lag 2"):
        pairs = temporal_pairs(["a"] * 4 + ["b"] * 2 + ["c"] * 3, lags=2)
    assert pairs.short == {"b": 2}


@pytest.mark.filterwarnings("ignore:.*give no pair")
def test_a_chain_counts_the_same_pairs():
    rng = np.random.default_rng(0)
    walks = [rng.integers(0, 4, rng.integers(1, 9)) for _ in range(30)]
    states = np.concatenate(walks)
    pairs = temporal_pairs(walks, [1, 2], [2, 1])
    joint = np.zeros((4, 4))
    np.add.at(joint, (states[pairs.anchors], states[pairs.positives]), pairs.weights)
    np.testing.assert_allclose(ChainGraph.from_sequences(walks, [1, 2], [2, 1]).joint.toarray(), joint, atol=1e-15)


BAD = [
    (lambda: temporal_pairs([]), "sequences must be"),
    (lambda: temporal_pairs([0.5, 1.5]), "whole numbers or names"),
    (lambda: temporal_pairs(["a", "b", "c"]), "lag 1 is longer than any unbroken sequence.*'a', has 1 frames"),
    (lambda: temporal_pairs(["a", "a", "b"], lags=[1, 2]), "lag 2 is longer"),
    (lambda: temporal_pairs([0, 0], lags=0), "each >= 1"),
    (lambda: temporal_pairs([0, 0], lags=[]), "got none"),
    (lambda: temporal_pairs([0, 0], weights=[1, 2]), "1 lags need as many weights, got 2"),
    (lambda: temporal_pairs([0, 0], weights=[0]), "not all 0"),
    (lambda: temporal_pairs([0, 0, 0], times=[0, 1]), r"times must be \(3,\)"),
    (lambda: temporal_pairs([0, 0, 0], times=[0, 1, np.nan]), "row 2 has a time that is not finite"),
    (lambda: temporal_pairs([0, 0, 0], times=[0, 1, 1.5]), "row 2 is 1.5 steps"),
    (lambda: temporal_pairs([0, 0, 0], times=[0, 1, 1]), "rows 1 and 2 of sequence 0 have one time"),
    (lambda: temporal_pairs([0, 0], times=[0, 1], unit=0), "unit"),
    (lambda: temporal_pairs([0, 0], keep=[1, 0]), r"keep must be \(2,\) bool"),
    (lambda: temporal_pairs([0, 0], keep=[False, False]), "keep leaves none"),
]


@pytest.mark.parametrize("number", range(len(BAD)))
def test_what_is_wrong_is_said(number):
    call, words = BAD[number]
    with pytest.raises(ValueError, match=words):
        call()


def test_kinds_of_errors():
    with pytest.raises(DataError):
        temporal_pairs([0, 1])
    with pytest.raises(TypeError, match="whole number of steps"):
        temporal_pairs([0, 0], lags=1.0)
