import math

import numpy as np
import pytest
import torch
from oracle import band_pairs

import pairsift as ps
from pairsift.pairs import selector
from pairsift.pairs.selector import kth_largest

# Rows of small integers with few distinct norms: many exact ties, which float32 and float64 see alike.
TIED = torch.tensor([[1, 0, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, -1, 0], [1, 0, 0]]).float()


def test_band_edges_are_nearest_ranks():
    assert ps.RankBand(0.15, 0.22).ranks(1023) == (154, 226)
    assert ps.RankBand(0.07, 1.0).ranks(100) == (7, 100)  # 0.07 * 100 is 7.000000000000001
    assert ps.RankBand(0.1, 0.2).ranks(1) == (1, 1)
    assert ps.RankBand.for_classes(10) == ps.RankBand(start=0.1, stop=1.0)


@pytest.mark.parametrize(
    ("high", "low", "message"),
    [
        (0.3, 0.2, "must exceed its start .*, got start=0.3, stop=0.2"),
        (0.2, 0.2, "must exceed its start"),
        (0.0, 0.2, "0 < start < stop <= 1"),
        (0.1, 1.5, "0 < start < stop <= 1"),
        (math.nan, 0.2, "must exceed its start"),
    ],
)
def test_bad_bands_are_refused(high, low, message):
    with pytest.raises(ValueError, match=message):
        ps.RankBand(high, low)


def test_bad_band_types_and_class_counts_are_refused():
    with pytest.raises(TypeError, match=r"RankBand.stop must be a number"):
        ps.RankBand(0.1, "0.2")
    with pytest.raises(ValueError, match="n_classes=1"):
        ps.RankBand.for_classes(1)


@pytest.mark.parametrize("band", [(0.15, 0.22), (0.013, 0.5), (0.1, 1.0), (0.5, 0.51), (0.99, 1.0)])
@pytest.mark.parametrize("n", [2, 4, 6, 65])
def test_selection_equals_the_oracle(band, n):
    features = torch.randn(n, 7, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    expected = band_pairs(features.tolist(), *band)
    np.testing.assert_array_equal(ps.select_pairs(features, ps.RankBand(*band)).numpy(), expected)


@pytest.mark.parametrize("band", [(0.15, 0.22), (0.2, 0.6), (0.1, 1.0), (0.5, 0.8)])
def test_ties_are_in_at_the_lower_edge_and_out_at_the_upper(band):
    expected = band_pairs(TIED.tolist(), *band)
    np.testing.assert_array_equal(ps.select_pairs(TIED, ps.RankBand(*band)).numpy(), expected)


def test_a_tie_by_hand():
    # Row 0 sees 1, 1, 0, 0, 0, 0, -1: ranks 3 to 5 of 7 begin in the tie at 0, which is all in.
    pairs = ps.select_pairs(TIED, ps.RankBand(2 / 7, 5 / 7))
    assert pairs[0].tolist() == [False, False, True, True, True, False, True, False]
    # An upper edge inside the tie puts all of it out.
    pairs = ps.select_pairs(TIED, ps.RankBand(3 / 7, 1.0))
    assert pairs[0].tolist() == [False, False, False, False, False, True, False, False]


def test_equal_rows_and_single_neighbours_flag_nothing():
    assert not ps.select_pairs(torch.ones(5, 3), ps.RankBand(0.2, 1.0)).any()
    assert not ps.select_pairs(torch.randn(2, 3), ps.RankBand(0.2, 1.0)).any()
    assert ps.select_pairs(torch.randn(1, 3), ps.RankBand(0.2, 1.0)).tolist() == [[False]]


def test_keys_are_ranked_instead_of_the_batch():
    generator = torch.Generator().manual_seed(0)
    rows, keys = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (9, 23))
    pairs = ps.select_pairs(rows, ps.RankBand(0.1, 0.4), keys=keys)
    np.testing.assert_array_equal(pairs.numpy(), band_pairs(rows.tolist(), 0.1, 0.4, keys.tolist()))


def test_tiles_do_not_show():
    features = torch.randn(600, 8, generator=torch.Generator().manual_seed(0))
    whole = ps.select_pairs(features, ps.RankBand(0.1, 0.3))
    assert (whole.sum(1) == math.ceil(0.3 * 599) - math.ceil(0.1 * 599)).all()
    keyed = ps.select_pairs(features[300:], ps.RankBand(0.1, 0.3), keys=features)
    assert (keyed.sum(1) == math.ceil(0.3 * 600) - math.ceil(0.1 * 600)).all()


def test_both_selection_algorithms_agree(monkeypatch):
    similarities = torch.randn(40, 333, generator=torch.Generator().manual_seed(0)).mul(4).round().div(4)
    for ranks in ((2, 1), (90, 33), (333, 1), (333, 332), (7,)):
        by_numpy = kth_largest(similarities, *ranks)
        with monkeypatch.context() as patch:
            patch.setattr(selector, "transformed", lambda: True)
            by_torch = kth_largest(similarities, *ranks)
        sorted_rows = similarities.sort(dim=1, descending=True).values
        for rank, ours, theirs in zip(ranks, by_numpy, by_torch, strict=True):
            assert torch.equal(ours, theirs)
            assert torch.equal(ours, sorted_rows[:, rank - 1 : rank])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_type_is_ranked_in_float32(dtype):
    features = torch.randn(50, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    expected = ps.select_pairs(features.float(), ps.RankBand(0.1, 0.5))
    assert torch.equal(ps.select_pairs(features, ps.RankBand(0.1, 0.5)), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ps.select_pairs(features, ps.RankBand(0.1, 0.5)), expected)


def test_scale_does_not_matter_even_beyond_float32():
    features = torch.randn(20, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = ps.select_pairs(features, ps.RankBand(0.1, 0.5))
    scale = torch.logspace(-200, 200, 20, dtype=torch.float64)[:, None]
    assert torch.equal(ps.select_pairs(features * scale, ps.RankBand(0.1, 0.5)), expected)


def test_no_gradient_flows_and_the_diagonal_is_false():
    features = torch.randn(30, 6, requires_grad=True)
    pairs = ps.select_pairs(features, ps.RankBand(0.1, 1.0))
    assert not pairs.requires_grad
    assert pairs.dtype == torch.bool
    assert not pairs.diagonal().any()
    assert not torch.equal(pairs, pairs.T)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_features_are_refused_with_their_row(value):
    features = torch.randn(8, 3)
    features[5, 1] = value
    with pytest.raises(ValueError, match=r"features row 5 is not finite \(1 of 8"):
        ps.select_pairs(features, ps.RankBand(0.1, 0.5))
    with pytest.raises(ValueError, match="keys row 5"):
        ps.select_pairs(torch.randn(2, 3), ps.RankBand(0.1, 0.5), keys=features)


def test_misshapen_features_are_refused():
    band = ps.RankBand(0.1, 0.5)
    with pytest.raises(ValueError, match=r"non-empty .* got shape \(0, 3\)"):
        ps.select_pairs(torch.zeros(0, 3), band)
    with pytest.raises(ValueError, match=r"got shape \(3,\)"):
        ps.select_pairs(torch.zeros(3), band)
    with pytest.raises(TypeError, match=r"torch.int64"):
        ps.select_pairs(torch.zeros(3, 3, dtype=torch.long), band)
    with pytest.raises(ValueError, match="3 dimensions and keys 4"):
        ps.select_pairs(torch.ones(3, 3), band, keys=torch.ones(2, 4))


def test_random_pairs_keep_the_counts_and_avoid_the_diagonal():
    pairs = torch.rand(40, 40, generator=torch.Generator().manual_seed(0)) < torch.linspace(0, 1, 40)[:, None]
    pairs.fill_diagonal_(False)
    drawn = ps.random_pairs(pairs, torch.Generator().manual_seed(1))
    assert torch.equal(drawn.sum(1), pairs.sum(1))
    assert not drawn.diagonal().any()
    assert not torch.equal(drawn, pairs)
    assert torch.equal(drawn, ps.random_pairs(pairs, torch.Generator().manual_seed(1)))
    assert torch.equal(ps.random_pairs(torch.ones(3, 3, dtype=torch.bool), own=None), torch.ones(3, 3) > 0)


def test_random_pairs_are_uniform():
    pairs = torch.zeros(6, 6, dtype=torch.bool)
    pairs[:, :2] = True
    pairs.fill_diagonal_(False)
    pairs[0, 2], pairs[1, 2] = True, True
    generator = torch.Generator().manual_seed(0)
    mean = torch.stack([ps.random_pairs(pairs, generator) for _ in range(4000)]).double().mean(0)
    assert torch.allclose(mean[~torch.eye(6, dtype=torch.bool)], torch.tensor(0.4, dtype=torch.double), atol=0.04)


def test_pair_shares_by_hand():
    labels = torch.tensor([0, 0, 1])
    pairs = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 0]]).bool()
    share, base = ps.pair_shares(pairs, labels)
    assert share == pytest.approx(2 / 3)
    assert base == pytest.approx(4 / 6)
    assert math.isnan(ps.pair_shares(torch.zeros(3, 3, dtype=torch.bool), labels)[0])


@pytest.mark.parametrize("keys", [False, True])
def test_pairs_of_unlabelled_rows_have_no_share(keys):
    """They are neither of one class nor of different ones: the shares are those of the labelled rows alone."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0, -1, 1, 1, -1, 2, -1, 0])
    key_labels = torch.tensor([-1, 2, 0, -1, 1]) if keys else None
    others = labels if key_labels is None else key_labels
    pairs = torch.rand(len(labels), len(others), generator=generator) < 0.5
    if not keys:
        pairs.fill_diagonal_(False)
    known, known_keys = labels >= 0, others >= 0
    some = pairs[known][:, known_keys]
    expected = ps.pair_shares(some, labels[known], others[known_keys] if keys else None)
    assert ps.pair_shares(pairs, labels, key_labels) == expected
    candidates = pairs.numel() - (0 if keys else len(labels))
    assert ps.pair_shares(pairs, labels, key_labels, candidates) == expected
    assert all(map(math.isnan, ps.pair_shares(pairs, torch.full_like(labels, -1), key_labels)))
