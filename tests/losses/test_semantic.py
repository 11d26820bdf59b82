import math

import oracle
import pytest
import torch
import torch.nn.functional as F

import pairsift as ps
from pairsift.losses import SemanticNegativeLoss, TwoTowerLoss
from pairsift.pairs import OwnMasks

TREATMENTS = {
    "none": None,
    "margin": ps.Treatment(margin=0.2),
    "temperature": ps.Treatment(temperature_scale=0.6),
    "combined": ps.Treatment(0.1, 0.7),
    "neutral": ps.Treatment(removal="neutral"),
    "exclude": ps.Treatment(removal="exclude"),
}
PRESENT = torch.tensor([True, False, True, True, False, True, True, True, True])


def triplets(n=9, d=5, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(n, d, generator=draw, dtype=torch.float64) for _ in range(3)]


def settings(treatment):
    if treatment is None:
        return {}
    return {"sigma": treatment.margin, "rho": treatment.temperature_scale, "removal": treatment.removal}


@pytest.mark.parametrize("tile", ["dense", 2, 4])
@pytest.mark.parametrize("present", [None, PRESENT], ids=["all", "some"])
@pytest.mark.parametrize("name", TREATMENTS)
def test_loss_equals_the_oracle(name, present, tile):
    z, synonym, antonym = triplets()
    loss = SemanticNegativeLoss(0.2, TREATMENTS[name], tile=tile)(z, synonym, antonym, present=present)
    there = [True] * 9 if present is None else present.tolist()
    expected = oracle.semantic(z.tolist(), synonym.tolist(), antonym.tolist(), 0.2, there, **settings(TREATMENTS[name]))
    assert loss.item() == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("in_batch", [True, False])
@pytest.mark.parametrize("tile", ["dense", 4])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradients(tile, in_batch, weighted):
    inputs = [each.requires_grad_() for each in triplets()]
    loss = SemanticNegativeLoss(0.3, TREATMENTS["combined"], in_batch, tile=tile)
    weights = torch.linspace(0, 2, 9).double() if weighted else None
    assert torch.autograd.gradcheck(lambda *z: loss(*z, present=PRESENT, weights=weights), inputs)


@pytest.mark.parametrize("name", TREATMENTS)
def test_tiles_are_dense(name):
    z = [each.float() for each in triplets(300, 16)]
    values, gradients = [], []
    for tile in ("dense", 64):
        inputs = [each.clone().requires_grad_() for each in z]
        value = SemanticNegativeLoss(0.1, TREATMENTS[name], tile=tile)(*inputs)
        value.backward()
        values.append(value.detach())
        gradients.append(torch.cat([each.grad for each in inputs]))
    torch.testing.assert_close(*values)
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-4)


# One text with cosines .9 and .8 at tau .1.
@pytest.mark.parametrize(
    ("treatment", "expected"),
    [
        (None, 0.313262), (ps.Treatment(margin=0.1), 0.693147), (ps.Treatment(temperature_scale=0.5), 7.000911),
        (ps.Treatment(removal="neutral"), 1.2340e-4), (ps.Treatment(removal="exclude"), 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("in_batch", [True, False])
def test_values_of_one_text(treatment, expected, in_batch):
    z = torch.tensor([[1.0, 0]]).double()
    near = [torch.tensor([[c, math.sqrt(1 - c * c)]]).double() for c in (0.9, 0.8)]
    assert SemanticNegativeLoss(0.1, treatment, in_batch)(z, *near).item() == pytest.approx(expected, abs=1e-6)


def test_as_printed_it_is_the_softplus_of_a_difference():
    z, synonym, antonym = triplets()
    u, v = ((z * each).sum(dim=1) for each in (synonym, antonym))
    loss = SemanticNegativeLoss(1, in_batch=False, similarity="dot")
    torch.testing.assert_close(loss(z, synonym, antonym), F.softplus(v - u).mean())
    two = torch.stack([u, v], dim=1)
    torch.testing.assert_close(loss(z, synonym, antonym), F.cross_entropy(two, torch.zeros(9, dtype=torch.long)))
    torch.testing.assert_close(loss(z, synonym, antonym, present=PRESENT), F.softplus(v - u)[PRESENT].mean())


def test_the_printed_loss_has_a_shortcut_that_the_batch_closes():
    e = torch.zeros(8, 4).double()
    e[:, 0] = 1
    for c in (1, 2, 3):
        value = SemanticNegativeLoss(1, in_batch=False, similarity="dot")(c * e, c * e, -c * e)
        assert value.item() == pytest.approx(math.log1p(math.exp(-2 * c * c)))
    assert SemanticNegativeLoss(0.05)(e, e, -e).item() == pytest.approx(math.log(8))


def test_without_antonym_versions_it_is_the_two_tower_loss():
    z, synonym, antonym = triplets()
    none = torch.zeros(9, dtype=torch.bool)
    expected = TwoTowerLoss(0.1, symmetric=False)(z, synonym)
    for treatment in (None, ps.Treatment(margin=0.1)):
        loss = SemanticNegativeLoss(0.1, treatment)
        torch.testing.assert_close(loss(z, synonym, antonym, present=none), expected)
    assert SemanticNegativeLoss(0.1, in_batch=False)(z, synonym, antonym, present=none) == 0


def test_treated_it_is_the_two_tower_loss_of_given_pairs():
    z, synonym, antonym = triplets()
    pairs = torch.cat([torch.zeros(9, 9), torch.eye(9)], dim=1).bool()
    treatment = ps.Treatment(0.1, 0.7)
    towers = TwoTowerLoss(0.1, selector=ps.GivenPairs(pairs), treatment=treatment, symmetric=False)
    keys = torch.cat([synonym, antonym])
    loss = SemanticNegativeLoss(0.1, treatment)
    torch.testing.assert_close(loss(z, synonym, antonym), towers(z, keys, pairs=pairs))
    untreated = SemanticNegativeLoss(0.1)(z, synonym, antonym)
    torch.testing.assert_close(loss(z, synonym, antonym, treated=False), untreated)


@pytest.mark.parametrize("in_batch", [True, False])
def test_what_a_missing_version_holds_reaches_nothing(in_batch):
    z, synonym, antonym = triplets()
    antonym[~PRESENT] = math.nan
    inputs = [each.requires_grad_() for each in (z, synonym, antonym)]
    value = SemanticNegativeLoss(0.1, in_batch=in_batch)(*inputs, present=PRESENT)
    value.backward()
    assert all(torch.isfinite(each.grad).all() for each in inputs)
    assert not inputs[2].grad[~PRESENT].any()


def test_weights_count_texts():
    z, synonym, antonym = triplets()
    loss = SemanticNegativeLoss(0.1)
    torch.testing.assert_close(loss(z, synonym, antonym, weights=torch.full((9,), 3.0)), loss(z, synonym, antonym))
    each = torch.stack([loss(z, synonym, antonym, weights=row) for row in torch.eye(9)])
    weights = torch.arange(9.0)
    expected = (each * weights).sum() / weights.sum()
    torch.testing.assert_close(loss(z, synonym, antonym, weights=weights), expected)


def test_own_masks():
    masks = OwnMasks(torch.tensor([2, -1, 0]), 4)
    assert masks.whole().tolist() == [[False, False, True, False], [False] * 4, [True, False, False, False]]
    assert masks.tile(1, 3).shape == (2, 4)


def test_bad_input():
    z = torch.randn(4, 3)
    with pytest.raises(ValueError, match="similarity must be 'cosine' or 'dot', got 'l2'"):
        SemanticNegativeLoss(similarity="l2")
    with pytest.raises(ValueError, match="temperature"):
        SemanticNegativeLoss(0)
    with pytest.raises(TypeError, match="no argument 'margin'"):
        SemanticNegativeLoss(margin=0.1)
    loss = SemanticNegativeLoss()
    with pytest.raises(ValueError, match=r"one shape, got \(4, 3\), \(4, 3\) and \(3, 3\)"):
        loss(z, z, z[:3])
    with pytest.raises(ValueError, match="one dtype"):
        loss(z, z, z.double())
    with pytest.raises(ValueError, match=r"present must be bool of shape \(4,\)"):
        loss(z, z, z, present=torch.ones(4))
    with pytest.raises(ValueError, match="weights must be 4 numbers >= 0"):
        loss(z, z, z, weights=-torch.ones(4))
