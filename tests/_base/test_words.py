"""One thing is counted in the singular, in every message."""

import numpy as np
import pytest

import pairsift as ps
from pairsift._base.words import counted


def test_numbers_agree_with_their_nouns():
    assert [counted(number, "row") for number in (0, 1, 2, 1234)] == ["0 rows", "1 row", "2 rows", "1,234 rows"]
    assert [counted(number, "copy is", "copies are") for number in (1, 2)] == ["1 copy is", "2 copies are"]


def test_a_scan_with_one_of_everything_says_so(tmp_path):
    rows = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
    rows[3], rows[4] = 0, np.nan
    found = ps.scan(rows, 2, threads=1, skip_bad=True)
    assert "1 row is all zero: failed embeddings?" in found.notes
    assert "1 row is not finite and has no score: 4" in found.notes
    with pytest.raises(ps.scanning.ScanError, match="features has 1 row: a scan"):
        ps.scan(rows[:1])
