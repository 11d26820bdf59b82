import numpy as np
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracle import band_pairs

import pairsift as ps

bands = st.tuples(st.integers(1, 99), st.integers(2, 100)).filter(lambda b: b[0] < b[1])
# Signed basis vectors: similarities are exactly -1, 0 or 1, so that ties are exact everywhere.
axes = st.lists(st.tuples(st.integers(0, 3), st.sampled_from([-1.0, 1.0])), min_size=2, max_size=14)


@given(axes, bands)
@settings(max_examples=200)
def test_tied_rows_equal_the_oracle(rows, band):
    features = torch.zeros(len(rows), 4)
    for row, (axis, sign) in enumerate(rows):
        features[row, axis] = sign
    high, low = band[0] / 100, band[1] / 100
    found = ps.select_pairs(features, ps.RankBand(high, low)).numpy()
    np.testing.assert_array_equal(found, band_pairs(features.tolist(), high, low))


@given(st.integers(2, 60), bands, st.integers(0, 2**32 - 1))
@settings(max_examples=100)
def test_order_and_scale_do_not_matter(n, band, seed):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 5))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    # Similarities closer than float32 can tell apart may change places when the rows do.
    assume(n == 2 or np.diff(np.sort(unit @ unit.T, axis=1), axis=1).min() > 1e-6)
    rank_band = ps.RankBand(band[0] / 100, band[1] / 100)
    pairs = ps.select_pairs(torch.from_numpy(features), rank_band)
    order = rng.permutation(n)
    scale = 2.0 ** rng.integers(-60, 60, size=(n, 1))
    moved = ps.select_pairs(torch.from_numpy((features * scale)[order]), rank_band)
    assert torch.equal(moved, pairs[order][:, order])
    high, low = rank_band.ranks(n - 1)
    assert (pairs.sum(1) == low - high).all()
