import warnings

import numpy as np
import pytest
import torch
from oracle import nt_xent
from peers import lightly_ntxent

import pairsift as ps
from pairsift.losses import NTXentLoss

BANDS = [(0.15, 0.22), (0.013, 0.5), (0.1, 1.0)]
TREATMENTS = {
    "none": {},
    "neutral": {"removal": "neutral"},
    "exclude": {"removal": "exclude"},
    "margin": {"sigma": 0.1},
    "temperature": {"rho": 0.6},
    "discard": {"rho": 1e9},
    "combined": {"sigma": 0.03, "rho": 0.7},
}


def treatment(name):
    settings = TREATMENTS[name]
    return ps.Treatment(settings.get("sigma", 0.0), settings.get("rho", 1.0), settings.get("removal"))


def batch(n, d=8, features=12, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, width, generator=generator, dtype=dtype) for width in (d, d, features, features)]


@pytest.mark.parametrize("n", [2, 3, 64])
@pytest.mark.parametrize("name", TREATMENTS)
@pytest.mark.parametrize("band", BANDS)
def test_loss_equals_the_oracle(n, name, band):
    z0, z1, h0, h1 = batch(n)
    loss = NTXentLoss(0.2, ps.RankBand(*band), treatment(name), reduction="none")
    pairs = loss.select(h0, h1)
    expected = nt_xent(z0.tolist(), z1.tolist(), 0.2, pairs, **TREATMENTS[name])
    np.testing.assert_allclose(loss(z0, z1, h0, h1).numpy(), expected, rtol=0, atol=1e-10)
    mean = NTXentLoss(0.2, ps.RankBand(*band), treatment(name))(z0, z1, h0, h1)
    assert float(mean) == pytest.approx(expected.mean(), abs=1e-10)


@pytest.mark.parametrize("name", TREATMENTS)
def test_flagged_positives_and_full_rows_follow_the_oracle(name):
    z0, z1, *_ = batch(5)
    loss = NTXentLoss(0.1, ps.RankBand(0.1, 0.5), treatment(name), reduction="none")
    for pairs in (torch.ones(10, 10, dtype=torch.bool).fill_diagonal_(False), torch.zeros(10, 10, dtype=torch.bool)):
        expected = nt_xent(z0.tolist(), z1.tolist(), 0.1, pairs, **TREATMENTS[name])
        np.testing.assert_allclose(loss(z0, z1, pairs=pairs).numpy(), expected, rtol=0, atol=1e-10)
        np.testing.assert_allclose(loss(z0, z1, pairs=pairs.T).numpy(), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", TREATMENTS)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_gradcheck(name, reduction):
    z0, z1, h0, h1 = batch(4)
    loss = NTXentLoss(0.5, ps.RankBand(0.1, 0.6), treatment(name), reduction)
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, h0, h1), (z0.requires_grad_(), z1.requires_grad_()))


@pytest.mark.parametrize("name", TREATMENTS)
def test_gradient_equals_autograd_through_the_treated_logits(name):
    z0, z1, h0, h1 = (x.requires_grad_() for x in batch(16))
    loss = NTXentLoss(0.3, ps.RankBand(0.1, 0.6), treatment(name))
    value = loss(z0, z1, h0, h1)
    ours = torch.autograd.grad(value, (z0, z1), retain_graph=True)
    again = torch.autograd.grad(value, (z0, z1))
    z = torch.nn.functional.normalize(torch.cat([z0, z1]), dim=1)
    pairs = loss.select(h0, h1)
    positive = torch.arange(32).roll(16)
    if name == "exclude":
        pairs[torch.arange(32), positive] = False
    logits = treatment(name).logits(z @ z.T, pairs, 0.3).masked_fill(torch.eye(32).bool(), -torch.inf)
    plain = torch.nn.functional.cross_entropy(logits, positive)
    for a, b, c in zip(ours, again, torch.autograd.grad(plain, (z0, z1)), strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, c, rtol=0, atol=1e-12)


def test_features_get_no_gradient():
    z0, z1, h0, h1 = (x.requires_grad_() for x in batch(8))
    NTXentLoss(0.5, ps.RankBand(0.1, 0.6), ps.Treatment(0.1, 0.7))(z0, z1, h0, h1).backward()
    assert h0.grad is None
    assert z0.grad.abs().sum() > 0


def test_neutral_treatments_equal_the_plain_loss():
    z0, z1, h0, h1 = batch(32)
    plain = NTXentLoss(0.2)(z0, z1)
    assert (
        NTXentLoss(0.2, ps.RankBand(0.1, 0.5), ps.Treatment(margin=0.0, temperature_scale=1.0))(z0, z1, h0, h1) == plain
    )
    assert NTXentLoss(0.2, ps.RankBand(0.1, 0.5))(z0, z1, h0, h1) == plain
    nothing = torch.zeros(64, 64, dtype=torch.bool)
    for name in TREATMENTS:
        torch.testing.assert_close(
            NTXentLoss(0.2, ps.RankBand(0.1, 0.5), treatment(name))(z0, z1, pairs=nothing), plain
        )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_plain_loss_equals_lightly(temperature, dtype):
    z0, z1, *_ = batch(64, d=32, dtype=dtype)
    theirs = lightly_ntxent()(temperature=temperature)(z0, z1)
    assert float(NTXentLoss(temperature)(z0, z1)) == pytest.approx(
        float(theirs), rel=1e-6 if dtype == torch.float32 else 1e-12
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_plain_loss_equals_pytorch_metric_learning(temperature, dtype):
    losses = pytest.importorskip("pytorch_metric_learning.losses")
    z0, z1, *_ = batch(64, d=32, dtype=dtype)
    theirs = losses.SelfSupervisedLoss(losses.NTXentLoss(temperature=temperature))(z0, z1)
    assert float(NTXentLoss(temperature)(z0, z1)) == pytest.approx(
        float(theirs), rel=1e-6 if dtype == torch.float32 else 1e-12
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_and_autocast_do_not_overflow(dtype):
    z0, z1, h0, h1 = (x.to(dtype) for x in batch(32, dtype=torch.float32))
    loss = NTXentLoss(0.05, ps.RankBand(0.1, 0.5), ps.Treatment(margin=0.3, temperature_scale=0.5))
    expected = loss(z0.float(), z1.float(), h0.float(), h1.float())
    z0.requires_grad_()
    with torch.autocast("cpu", dtype):
        value = loss(z0, z1, h0, h1)
        value.backward()  # inside autocast on purpose: the gradient must not be computed in half precision either
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(expected.item(), abs=1e-5)
    assert torch.isfinite(z0.grad).all()


def test_very_small_temperatures_stay_finite():
    z0, z1, *_ = batch(32, dtype=torch.float32)
    value = NTXentLoss(0.001)(z0.requires_grad_(), z1)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(z0.grad).all()


def test_missing_features_warn_once_and_projections_are_used():
    z0, z1, *_ = batch(16)
    loss = NTXentLoss(0.5, ps.RankBand(0.1, 0.5), ps.Treatment(0.1))
    with pytest.warns(UserWarning, match="Table 7") as caught:
        value = loss(z0, z1)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert loss(z0, z1) == value
        assert loss(z0, z1, z0, z1) == value
        NTXentLoss(0.5)(z0, z1)


def test_random_selection_is_a_control():
    z0, z1, h0, h1 = batch(32)
    settings = (0.5, ps.RankBand(0.1, 0.3), ps.Treatment(0.1, 0.6))
    band, control = NTXentLoss(*settings), NTXentLoss(*settings, select="random", seed=3)
    drawn = control.select(h0, h1)
    assert torch.equal(drawn.sum(1), band.select(h0, h1).sum(1))
    assert not drawn.diagonal().any()
    saved = control.state_dict()
    following = control(z0, z1, h0, h1)
    assert following != control(z0, z1, h0, h1)
    resumed = NTXentLoss(*settings, select="random", seed=3)
    assert torch.equal(resumed.select(h0, h1), drawn)
    resumed.load_state_dict(saved)
    assert resumed(z0, z1, h0, h1) == following


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"temperature": 0.0}, "temperature must be finite and > 0, got 0.0"),
        ({"treatment": ps.Treatment(0.1)}, "needs a selector"),
        ({"reduction": "sum"}, "reduction must be 'mean' or 'none', got 'sum'"),
        ({"select": "hard"}, "select must be 'band' or 'random', got 'hard'"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NTXentLoss(**arguments)


def test_bad_batches_are_refused():
    loss = NTXentLoss(0.5, ps.RankBand(0.1, 0.5), ps.Treatment(0.1))
    z, h = torch.randn(4, 3), torch.randn(4, 5)
    with pytest.raises(ValueError, match=r"of one shape, got \(4, 3\) and \(3, 3\)"):
        loss(z, z[:3], h, h)
    with pytest.raises(ValueError, match=r"got \(0, 3\)"):
        loss(z[:0], z[:0])
    with pytest.raises(ValueError, match="both views"):
        loss(z, z, h)
    with pytest.raises(ValueError, match="a row for each of z0 and z1"):
        loss(z, z, h[:2], h[:2])
    with pytest.raises(ValueError, match="pairs must be bool"):
        loss(z, z, pairs=torch.zeros(4, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="row 5 is not finite"):
        loss(z, z, h, torch.where(torch.arange(4)[:, None] == 1, torch.nan, h))
