"""Nearest rows by an inverted file."""

import numpy as np
import pytest

from pairsift.neighbors import NearestIndex, unit_rows


@pytest.mark.parametrize("half", [False, True])
def test_an_index_takes_the_centres_of_another(half):
    rng = np.random.default_rng(0)
    rows, others = (unit_rows(rng.standard_normal((600, 9)).astype(np.float32)) for _ in range(2))
    first = NearestIndex(9, lists=20, probes=2, half=half)
    first.train(rows)
    taken = NearestIndex(9, lists=20, probes=2, half=half, centres=first.centres)
    taken.train(others)  # nothing to learn
    for index in (first, taken):
        index.add(rows)
    centres = taken.centres
    del first
    again = NearestIndex(9, lists=20, probes=2, half=half, centres=centres)
    again.add(rows)
    expected = taken.search(others, 5)
    for found, right in zip(again.search(others, 5), expected, strict=True):
        np.testing.assert_array_equal(found, right)
    assert 0.4 < taken.recall(others, [rows], 5) < 1
    assert NearestIndex.of(rows).centres is None
