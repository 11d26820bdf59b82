import numpy as np
import pytest
import torch

from pairsift import RankBand
from pairsift.theory.levels import GroupSums, band_parts, band_sums


def cosines(features):
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    return unit @ unit.T


def test_band_parts_hold_every_pair_once_from_each_side():
    features, band = np.random.default_rng(0).standard_normal((300, 4)), RankBand(0.1, 0.4)
    parts = [torch.cat(part).numpy() for part in zip(*band_parts(torch.from_numpy(features), band), strict=True)]
    similar = cosines(features)
    rows = np.sort(np.array([np.delete(row, i) for i, row in enumerate(similar)]), axis=1)[:, ::-1]
    high, low = band.ranks(299)
    # Pairs tied with the upper edge, its own pair among them, are above the band.
    expected = [rows[:, :high], rows[:, high:low], rows[:, low:]]
    for part, each in zip(parts, expected, strict=True):
        np.testing.assert_allclose(np.sort(part), np.sort(each.ravel()), atol=1e-6)
    sums = band_sums(torch.from_numpy(features), band)
    np.testing.assert_allclose(sums, [[x.size, x.sum(), (x**2).sum()] for x in expected], atol=1e-3)


def test_an_empty_band_has_no_parts():
    features = torch.eye(3)
    assert list(band_parts(features, RankBand(0.1, 0.2))) == []
    assert not band_sums(features, RankBand(0.1, 0.2)).any()


def test_group_sums_are_those_of_the_pairs():
    features = np.random.default_rng(1).standard_normal((40, 5))
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    first, second = GroupSums(5), GroupSums(5)
    first.add(unit[:10])
    second.add(unit[10:25])
    second.add(unit[25:])
    pairs = cosines(features)[np.triu_indices(40, 1)]
    np.testing.assert_allclose(first.merge(second).pairs(), [pairs.size, pairs.sum(), (pairs**2).sum()], rtol=1e-10)


def test_bad_features_are_refused():
    with pytest.raises(ValueError, match="row 1 is not finite"):
        list(band_parts(torch.tensor([[1.0, 0.0], [torch.nan, 0.0]]), RankBand(0.1, 0.2)))
