"""Properties of all losses: temperatures, single images, half precision, transforms of torch.func."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import pairsift as ps
from pairsift.losses import (
    LabelledNTXentLoss,
    MixedContrastiveLoss,
    MoCoLoss,
    NTXentLoss,
    SemanticNegativeLoss,
    SpectralLoss,
    TwoTowerLoss,
    baselines,
)

BAND, TREATMENT = ps.RankBand(0.1, 0.5), ps.Treatment(0.1, 0.7)


def views(n=8, d=6, dtype=torch.float64):
    return torch.randn(4, n, d, generator=torch.Generator().manual_seed(0), dtype=dtype).unbind()


def queue(temperature=0.2, *chosen):
    loss = MoCoLoss(400, 6, 6, temperature, *chosen).double()
    loss.enqueue(*views(20)[:2])
    return lambda *batch, **options: loss(*batch, enqueue=False, **options)


CALLS = {
    "ntxent": lambda *settings: NTXentLoss(*settings), "two-tower": lambda tau, *rest: TwoTowerLoss(tau, False, *rest),
    "moco": queue, "spectral": lambda tau, *rest: SpectralLoss(1 / tau, *rest),
    "mixed": lambda tau, *rest: lambda z0, z1, *h: MixedContrastiveLoss(0.5, tau, *rest)(
        z0, z1, torch.arange(len(z0)) % 3, *h
    ),
    "labelled": lambda tau, *rest: lambda z0, z1, *h: LabelledNTXentLoss(tau, *rest)(
        torch.cat([z0, z1]), torch.arange(len(z0)).repeat(2), torch.cat(h)
    ),
}  # fmt: skip
PLAIN = [
    baselines.HardNegativeLoss(), baselines.DebiasedLoss(), baselines.DecoupledLoss(sigma=0.5),
    baselines.SimilarityTemperatureLoss(), baselines.FalseNegativeCancellationLoss(top_k=1),
]  # fmt: skip


@pytest.mark.parametrize("tile", ["dense", 3])
@pytest.mark.parametrize("kind", [NTXentLoss, TwoTowerLoss, MoCoLoss, MixedContrastiveLoss])
def test_a_temperature_may_be_a_tensor_with_a_gradient(kind, tile):
    z0, z1, h0, h1 = views()
    settings = {"selector": BAND, "treatment": TREATMENT, "tile": tile}
    loss = MoCoLoss(32, 6, 6, **settings).double() if kind is MoCoLoss else kind(**settings).double()
    if kind is MoCoLoss:
        loss.enqueue(z1, h1)
    labels = {"labels": torch.arange(8) % 3} if kind is MixedContrastiveLoss else {}
    more = {"enqueue": False} if kind is MoCoLoss else {}
    names = ("h_q", "h_k") if kind is MoCoLoss else ("h0", "h1")

    def value(scale):
        loss.temperature = 1 / scale.exp()
        return loss(z0, z1, **dict(zip(names, (h0, h1), strict=True)), **labels, **more)

    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(value, (scale,))
    loss.temperature = math.exp(-1.5)
    assert float(value(scale)) == pytest.approx(float(value(scale.detach())), abs=1e-12)


def test_a_temperature_may_be_set_and_is_checked():
    z0, z1, _, _ = views()
    for make in (NTXentLoss, TwoTowerLoss, lambda tau: LabelledNTXentLoss(tau), SemanticNegativeLoss):
        loss = make(0.5)
        loss.temperature = 0.1
        assert loss.temperature == 0.1
        assert "temperature=0.1" in repr(loss)
        with pytest.raises(ValueError, match="temperature must be finite and > 0, got -1"):
            loss.temperature = -1
        with pytest.raises(TypeError, match="temperature cannot be a parameter itself"):
            loss.temperature = nn.Parameter(torch.tensor(0.1))
    loss = NTXentLoss(0.5)
    loss.temperature = 0.1
    assert loss(z0, z1) == NTXentLoss(0.1)(z0, z1)
    with pytest.raises(ValueError, match=r"scalar tensor, got shape \(3,\)"):
        loss.temperature = torch.ones(3)
    with pytest.raises(TypeError, match="LabelledNTXentLoss takes a temperature that is a number"):
        LabelledNTXentLoss(0.5).temperature = torch.tensor(0.5)


@pytest.mark.parametrize(
    "make", [lambda **s: NTXentLoss(0.5, learnable=True, **s), lambda **s: TwoTowerLoss(0.5, True, **s)]
)
def test_a_temperature_may_be_learned(make):
    z0, z1, h0, h1 = views()
    loss = make(selector=BAND, treatment=TREATMENT)
    (gradient,) = torch.autograd.grad(loss(z0, z1, h0, h1), loss.parameters())
    eps = 1e-3
    values = []
    for shift in (-eps, eps):
        loss.temperature = 0.5 * math.exp(shift)
        values.append(float(loss(z0, z1, h0, h1)))
    assert float(gradient) == pytest.approx((values[1] - values[0]) / (2 * eps), rel=1e-3)
    assert set(loss.state_dict()) == {"log_temperature"}
    loss.temperature = 0.02
    with torch.no_grad():
        loss.log_temperature -= 5
    assert float(loss.temperature) == pytest.approx(0.01)


@pytest.mark.parametrize("name", [*sorted(CALLS.keys() - {"moco"}), *(type(loss).__name__ for loss in PLAIN)])
def test_a_single_image_gives_no_loss_and_no_gradient(name):
    z0, z1, h0, h1 = views(1)
    z0 = z0.clone().requires_grad_()
    plain = {type(loss).__name__: loss for loss in PLAIN}
    for settings in ((0.5,), (0.5, BAND, TREATMENT)):
        value = plain[name](z0, z1) if name in plain else CALLS[name](*settings)(z0, z1, h0, h1)
        assert float(value) == pytest.approx(0, abs=1e-12)
        (gradient,) = torch.autograd.grad(value, z0)
        assert gradient.abs().max() < 1e-12


@pytest.mark.parametrize("name", CALLS)
def test_half_precision_is_computed_in_float32(name):
    rounded = [each.to(torch.bfloat16) for each in views(16)]
    call = CALLS[name](0.2, BAND, TREATMENT)
    with torch.autocast("cpu", torch.bfloat16):
        value = call(*rounded)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(float(call(*(each.double() for each in rounded))), abs=1e-4)


@pytest.mark.parametrize("name", CALLS)
def test_functional_transforms(name):
    """Also of batches that are large enough for tiles."""
    z0, z1, h0, h1 = views(150)
    call = CALLS[name](0.5, BAND, TREATMENT)
    a = z0.clone().requires_grad_()
    (expected,) = torch.autograd.grad(call(a, z1, h0, h1), a)
    torch.testing.assert_close(torch.func.grad(lambda z: call(z, z1, h0, h1))(z0), expected)
    both = torch.stack([z0, z1])
    values = torch.func.vmap(lambda z: call(z, z1, h0, h1))(both)
    torch.testing.assert_close(values, torch.stack([call(z, z1, h0, h1) for z in both]))
    each = torch.func.vmap(torch.func.grad(lambda z: call(z, z1, h0, h1)))(both)
    torch.testing.assert_close(each[0], expected)
    if name != "moco":
        with pytest.raises(RuntimeError, match=r"pairs cannot be selected on .* that vmap batches: select them before"):
            torch.func.vmap(lambda h: call(z0, z1, h, h1))(torch.stack([h0, h1]))


def test_masked_values_are_refused():
    features = np.ma.array(np.random.default_rng(0).standard_normal((20, 4)), mask=False)
    labels = np.ma.array(np.arange(20), mask=False)
    assert ps.GuideMask.fit(features, features, labels=labels).table.n == 20
    hidden = features.copy()
    hidden[3, 1] = np.ma.masked
    with pytest.raises(ValueError, match="guide features of positives row 3 is not finite"):
        ps.GuideMask.fit(features, hidden)
    masked = labels.copy()
    masked[2] = np.ma.masked
    with pytest.raises(ValueError, match="labels have 1 masked values: fill them"):
        ps.GuideMask.fit(features, features, labels=masked)
    with pytest.raises(ValueError, match="ids have 1 masked values"):
        ps.GuideMask.fit(features, features, ids=masked)
    for make in (
        lambda: ps.TemporalWindow(ps.RankBand(0.1, 0.3), 2, masked, labels),
        lambda: ps.TemporalWindow(ps.RankBand(0.1, 0.3), 2, labels, masked),
        lambda: ps.retrieval.DistinctBatchSampler(masked[:, None], 4),
        lambda: ps.evaluate.knn(features, masked % 4, features, labels % 4),
        lambda: ps.evaluate.collapse(features, masked % 4), lambda: ps.evaluate.t_interval(masked),
        lambda: ps.SpectralMap(2).partial_fit(hidden, features),
        lambda: ps.SpectralMap.fit(features, features, dimensions=2, ridge=0.1, power=1.0, drop=masked),
        lambda: ps.same_class.patch_features(np.ma.masked_less(np.ones((50, 3, 8, 8), np.uint8), 2)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"have [0-9]+ masked values: fill them"):
            make()
    with pytest.raises(ValueError, match="texts of anchors have 1 masked values"):
        ps.GuideMask.fit(features, features, texts=[masked, labels])


def test_a_queue_does_not_grow_inside_transforms():
    loss, (z0, z1) = MoCoLoss(32, 8), torch.randn(2, 6, 8)
    loss.enqueue(z1)
    with pytest.raises(RuntimeError, match=r"a queue cannot grow inside torch\.func: pass enqueue=False"):
        torch.func.grad(lambda z: loss(z, z1))(z0)
    assert torch.func.grad(lambda z: loss(z, z1, enqueue=False))(z0).isfinite().all()
