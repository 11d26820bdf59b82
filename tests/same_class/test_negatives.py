"""Confident negatives of a batch."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import pairsift as ps
from pairsift.same_class import AffinityError


@pytest.fixture(scope="module")
def fitted():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 60)
    features = torch.from_numpy(np.eye(4, 8)[labels] + 0.3 * rng.standard_normal((240, 8))).float()
    return features, ps.Affinity.fit(features)


def expected(similar, different, probability, count):
    """The definition, row by row."""
    flags = torch.zeros(similar.shape, dtype=torch.bool)
    for row, (values, confident) in enumerate(zip(similar, different >= probability, strict=True)):
        candidates = [k for k in values.argsort(descending=True).tolist() if confident[k]]
        flags[row, candidates[:count]] = True
    return flags


def test_the_most_similar_of_the_confident_are_flagged(fitted):
    _features, affinity = fitted
    rows = torch.arange(0, 240, 3)
    h = torch.randn(80, 5, generator=torch.Generator().manual_seed(0))
    masks = ps.ConfidentNegatives(affinity, 0.9, 0.1).masks(h, rows=rows)
    similar = F.normalize(h, dim=1) @ F.normalize(h, dim=1).T
    different = 1 - affinity.between(affinity.codes[rows], affinity.codes[rows])
    different.fill_diagonal_(0)
    flags = masks.whole()
    assert (masks.rows, masks.columns, masks.empty) == (80, 80, False)
    assert torch.equal(flags, expected(similar, different, 0.9, 8))  # ceil(0.1 * 79)
    assert flags.any()
    assert not flags.diagonal().any()
    assert torch.equal(masks.tile(16, 48), flags[16:48].float())
    assert masks.purity() == pytest.approx(float(different[flags].mean()), abs=1e-6)
    assert masks.purity() >= 0.9


def test_fewer_candidates_than_the_share_are_all_flagged(fitted):
    features, affinity = fitted
    rows = torch.arange(0, 240, 4)
    different = 1 - affinity.between(affinity.codes[rows], affinity.codes[rows])
    different.fill_diagonal_(0)
    flags = ps.ConfidentNegatives(affinity, 0.8, 1.0).masks(features[rows], rows=rows).whole()
    assert torch.equal(flags, different >= 0.8)
    assert flags.sum() < flags.numel() - len(rows)


def test_keys_and_the_row_among_them(fitted):
    features, affinity = fitted
    keys = torch.arange(239, -1, -2)
    h, k, ids = features[keys[10:30]], features[keys], {"rows": keys[10:30], "key_rows": keys}
    selector = ps.ConfidentNegatives(affinity, 0.001, 1.0)
    with_own, without = selector.masks(h, k, 10, **ids), selector.masks(h, k, **ids)
    assert with_own.whole().shape == (20, 120)
    assert not with_own.whole()[torch.arange(20), torch.arange(10, 30)].any()
    assert torch.equal(with_own.log_weights(0, 20)[torch.arange(20), torch.arange(10, 30)], torch.zeros(20))
    assert (without.log_weights(0, 20)[torch.arange(20), torch.arange(10, 30)] < 0).all()


def test_weights_are_the_logarithm_of_different_classes(fitted):
    features, affinity = fitted
    rows = torch.arange(0, 240, 4)
    masks = ps.ConfidentNegatives(affinity).masks(features[rows], rows=rows)
    weights = masks.log_weights(5, 25)
    log = (1 - affinity.between(affinity.codes[rows], affinity.codes[rows])).clamp_min(1e-6).log()
    log.fill_diagonal_(0)
    torch.testing.assert_close(weights, log[5:25])
    assert weights.max() <= 0
    assert weights.isfinite().all()


def test_a_tile_and_its_weights_share_one_computation(fitted, monkeypatch):
    features, affinity = fitted
    masks = ps.ConfidentNegatives(affinity).masks(features[:40], rows=torch.arange(40))
    calls = []
    between = affinity.between
    monkeypatch.setattr(type(affinity), "between", lambda self, *codes: calls.append(1) or between(*codes))
    first = masks.tile(0, 20).clone()
    masks.log_weights(0, 20).zero_()
    assert torch.equal(masks.tile(0, 20), first)
    assert len(calls) == 1
    masks.tile(20, 40)
    assert len(calls) == 2


def test_without_an_affinity_nothing_is_selected_until_there_is_one(fitted):
    features, affinity = fitted
    selector = ps.ConfidentNegatives()
    masks = selector.masks(features)
    assert masks.empty
    assert masks.log_weights(0, 10) is None
    assert math.isnan(masks.purity())
    assert not masks.whole().any()
    assert not masks.tile(0, 10).any()
    selector.affinity = affinity
    assert selector.masks(features, rows=torch.arange(240)).whole().any()


def test_a_loss_runs_on_attached_features(fitted):
    features, affinity = fitted
    rows = torch.arange(0, 240, 8)
    generator = torch.Generator().manual_seed(0)
    z0, z1 = torch.randn(2, 30, 6, generator=generator).requires_grad_().unbind()
    h = [features[rows] + 0.05 * torch.randn(30, 8, generator=generator) for _ in range(2)]
    selector = ps.ConfidentNegatives(affinity)
    assert isinstance(selector, ps.Selector)
    loss = ps.losses.NTXentLoss(0.5, selector, ps.Treatment(margin=0.3))
    value = loss(z0, z1, *h, rows=rows)
    assert value.isfinite()
    assert value != ps.losses.NTXentLoss(0.5)(z0, z1)
    value.backward()
    pairs = loss.select(*h, rows=rows)
    assert pairs.shape == (60, 60)
    assert pairs.any()
    assert not (pairs & torch.eye(60, dtype=torch.bool).roll(30, 0)).any()  # no view is a negative of the other


def test_half_precision_selects_nearly_the_same(fitted):
    features, affinity = fitted
    selector, rows = ps.ConfidentNegatives(affinity), torch.arange(240)
    full, half = (selector.masks(features, rows=rows, precision=each).whole() for each in ("fp32", "bf16"))
    assert (full != half).float().mean() < 0.02


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"affinity": 3}, TypeError, "must be an Affinity"),
        ({"probability": 0}, ValueError, "between 0 and 1"),
        ({"probability": 1.0}, ValueError, "between 0 and 1"),
        ({"share": 0}, ValueError, "share of the keys"),
        ({"share": 1.5}, ValueError, "share of the keys"),
    ],
)
def test_settings_out_of_range_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ps.ConfidentNegatives(**arguments)


def test_ids_that_are_missing_or_of_another_set_are_refused(fitted):
    features, affinity = fitted
    selector, rows = ps.ConfidentNegatives(ps.Affinity(affinity.codes)), torch.arange(240)
    with pytest.raises(ValueError, match="ConfidentNegatives has to know which examples these are: pass rows="):
        selector.masks(features)
    with pytest.raises(ValueError, match="pass key_rows="):
        selector.masks(features, features, rows=rows)
    with pytest.raises(AffinityError, match="key_rows hold positions from 1 to 240, and the set has 240"):
        selector.masks(features, features, rows=rows, key_rows=rows + 1)
    with pytest.raises(ValueError, match="features are 240 rows, and there are 3 ids"):
        selector.masks(features, rows=rows[:3])
    with pytest.raises(ValueError, match="8 dimensions and keys 5"):
        selector.masks(features, features[:, 3:], rows=rows, key_rows=rows)


def test_from_features_recommends_a_treatment(fitted):
    features, _affinity = fitted
    selector = ps.ConfidentNegatives.from_features(features)
    estimate = ps.same_class.estimate(selector, features, guide=True)
    assert selector.decision == estimate.decide()
    assert selector.decision.on
    assert ps.losses.NTXentLoss(0.2, selector=selector).treatment == selector.decision.treatment
    own = ps.Treatment(margin=0.1)
    assert ps.losses.NTXentLoss(0.2, selector=selector, treatment=own).treatment == own
    assert ps.ConfidentNegatives().decision is None


def test_noise_is_not_treated():
    noise = torch.randn(400, 32, generator=torch.Generator().manual_seed(0))
    selector = ps.ConfidentNegatives.from_features(noise)
    assert not selector.decision.on
    assert "stays off" in selector.decision.reason
    z = torch.randn(2, 40, 8, generator=torch.Generator().manual_seed(1))
    h = torch.randn(2, 40, 8, generator=torch.Generator().manual_seed(2))
    loss = ps.losses.NTXentLoss(0.2, selector=selector)
    assert loss(*z, *h, rows=torch.arange(40)) == ps.losses.NTXentLoss(0.2)(*z, *h)


def test_from_images_uses_patch_features():
    images = ps.data.load_images("digits:train", per_class=20).images
    selector = ps.ConfidentNegatives.from_images(images, seed=1)
    features = ps.same_class.patch_features(images, seed=1)
    same = ps.ConfidentNegatives.from_features(features, seed=1)
    assert torch.equal(selector.affinity.codes, same.affinity.codes)
    assert selector.decision == same.decision
    with pytest.raises(AffinityError, match="uint8"):
        ps.ConfidentNegatives.from_images(np.zeros((60, 3, 8, 8)))
