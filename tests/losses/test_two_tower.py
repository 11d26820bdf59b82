import math

import pytest
import torch
from oracle import band_pairs, two_tower

import pairsift as ps
from pairsift.losses import TwoTowerLoss

BANDS = [(0.15, 0.22), (0.1, 1.0)]
TREATMENTS = {
    "none": {},
    "neutral": {"removal": "neutral"},
    "exclude": {"removal": "exclude"},
    "margin": {"sigma": 0.1},
    "temperature": {"rho": 0.6},
    "combined": {"sigma": 0.03, "rho": 0.7},
}


def treatment(name):
    settings = TREATMENTS[name]
    return ps.Treatment(settings.get("sigma", 0.0), settings.get("rho", 1.0), settings.get("removal"))


def batch(n, k=None, d=8, features=12, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((n, d), (k or n, d), (n, features), (k or n, features))
    return [torch.randn(*shape, generator=generator, dtype=dtype) for shape in shapes]


@pytest.mark.parametrize(("n", "k"), [(2, 2), (3, 5), (48, 48), (20, 48)])
@pytest.mark.parametrize("name", TREATMENTS)
@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("flag_positive", [False, True])
def test_both_directions_equal_the_oracle(n, k, name, band, flag_positive):
    z0, z1, h0, h1 = batch(n, k)
    forth = band_pairs(h0.tolist(), *band, h1.tolist())
    back = band_pairs(h1[:n].tolist(), *band, h0.tolist())
    if not flag_positive:
        forth[range(n), range(n)] = back[range(n), range(n)] = False
    settings = dict(selector=ps.RankBand(*band), treatment=treatment(name), flag_positive=flag_positive)
    rows = two_tower(z0.tolist(), z1.tolist(), 0.2, forth, **TREATMENTS[name])
    keys = two_tower(z1[:n].tolist(), z0.tolist(), 0.2, back, **TREATMENTS[name])
    one = TwoTowerLoss(0.2, symmetric=False, **settings)(z0, z1, h0, h1)
    assert float(one) == pytest.approx(rows, abs=1e-10)
    both = TwoTowerLoss(0.2, **settings)(z0, z1, h0, h1)
    assert float(both) == pytest.approx((rows + keys) / 2, abs=1e-10)


@pytest.mark.parametrize("name", TREATMENTS)
def test_gradcheck_also_of_the_temperature(name):
    z0, z1, h0, h1 = batch(4, 6)
    loss = TwoTowerLoss(0.5, True, ps.RankBand(0.2, 0.9), treatment(name)).double()
    pairs = loss.select(h0, h1)

    def value(a, b, log_temperature):
        loss.log_temperature.data = log_temperature.data
        return torch.func.functional_call(loss, {"log_temperature": log_temperature}, (a, b), {"pairs": pairs})

    start = torch.tensor(math.log(0.5), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(value, (z0.requires_grad_(), z1.requires_grad_(), start))


def test_neutral_treatments_equal_plain_clip():
    z0, z1, h0, h1 = batch(16)
    logits = torch.nn.functional.normalize(z0) @ torch.nn.functional.normalize(z1).T / 0.07
    target = torch.arange(16)
    cross = torch.nn.functional.cross_entropy
    expected = float(cross(logits, target) + cross(logits.T, target)) / 2
    assert float(TwoTowerLoss()(z0, z1)) == pytest.approx(expected, abs=1e-6)
    neutral = TwoTowerLoss(selector=ps.RankBand(0.1, 0.5), treatment=ps.Treatment())
    assert float(neutral(z0, z1, h0, h1)) == float(TwoTowerLoss()(z0, z1))


def test_the_temperature_is_learned_and_bounded():
    z = torch.eye(8)
    loss = TwoTowerLoss(0.5, learnable=True)
    optimizer = torch.optim.SGD(loss.parameters(), lr=5.0)
    for _ in range(200):
        optimizer.zero_grad()
        loss(z, z).backward()
        optimizer.step()
    assert loss.temperature.item() == pytest.approx(0.01)  # what is perfectly aligned wants it colder still
    loss.log_temperature.data.fill_(-20)
    assert loss.temperature.item() == pytest.approx(0.01)
    assert "log_temperature" in loss.state_dict()
    assert not list(TwoTowerLoss(0.07).parameters())


def test_the_positive_is_flagged_only_when_asked():
    h = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    far = -h  # every positive is the least similar key of its row
    band = ps.RankBand(0.1, 1.0)
    assert not TwoTowerLoss(selector=band).select(h, far).diagonal().any()
    assert TwoTowerLoss(selector=band, flag_positive=True).select(h, far).diagonal().all()


def test_bad_input_is_refused():
    z0, z1, h0, h1 = batch(4)
    loss = TwoTowerLoss(selector=ps.RankBand(0.2, 0.5), treatment=ps.Treatment(0.1))
    with pytest.raises(ValueError, match="temperature must be finite"):
        TwoTowerLoss(0)
    with pytest.raises(ValueError, match=r">= 0.01, got 0.001"):
        TwoTowerLoss(0.001, learnable=True)
    with pytest.raises(ValueError, match="K >= N"):
        loss(z0, z1[:3])
    with pytest.raises(ValueError, match="K >= N"):
        loss(z0, z1[:, :3])
    with pytest.raises(ValueError, match="12 and 7 dimensions and cannot be compared"):
        loss(z0, z1, h0, h1[:, :7])
    with pytest.raises(ValueError, match="a row for each"):
        loss(z0, z1, h0[:3], h1)
    with pytest.raises(ValueError, match="of both towers"):
        loss(z0, z1, h0)
    with pytest.raises(ValueError, match="pairs must be bool"):
        loss(z0, z1, pairs=torch.ones(4, 4))
