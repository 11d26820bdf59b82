import copy
import io

import pytest
import torch
from oracle import band_pairs, moco

import pairsift as ps
from pairsift.losses import MoCoLoss

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


def batch(n, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, width, generator=generator, dtype=dtype) for width in (6, 6, 10, 10)]


def filled(size, name="none", band=(0.1, 1.0), n=7, batches=3):
    loss = MoCoLoss(size, 6, 10, 0.2, ps.RankBand(*band), treatment(name)).double()
    for seed in range(batches):
        _, k, _, h = batch(n, seed + 100)
        loss.enqueue(k, h)
    return loss


@pytest.mark.parametrize("name", TREATMENTS)
@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("size", [16, 64])  # a queue that went round, and one that is not full
def test_loss_equals_the_oracle(name, band, size):
    loss = filled(size, name, band)
    z, h = loss.keys()
    q, k, h_q, h_k = batch(9)
    pairs = band_pairs(h_q.tolist(), *band, h.tolist())
    given = loss.select(h_q)
    assert float(loss(q, k, h_q, h_k, pairs=given, enqueue=False)) == float(loss(q, k, h_q, h_k, enqueue=False))
    expected = moco(q.tolist(), k.tolist(), z.tolist(), 0.2, pairs, **TREATMENTS[name])
    assert float(loss(q, k, h_q, h_k)) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("name", TREATMENTS)
def test_gradcheck_and_no_gradient_to_keys(name):
    loss = filled(16, name)
    q, k, h_q, h_k = batch(4)
    q.requires_grad_(), k.requires_grad_(), h_q.requires_grad_()
    assert torch.autograd.gradcheck(lambda q: loss(q, k, h_q, h_k, enqueue=False), (q,))
    loss(q, k, h_q, h_k).backward()
    assert k.grad is None
    assert h_q.grad is None


def test_neutral_treatments_equal_the_plain_loss():
    q, k, h_q, h_k = batch(5)
    plain = float(filled(16)(q, k, h_q, h_k))
    loss = MoCoLoss(16, 6, 10, 0.2).double()
    loss.load_state_dict(filled(16).state_dict())
    assert float(loss(q, k, h_q, h_k)) == plain


@pytest.mark.parametrize("n", [1, 3, 5, 10])
def test_the_queue_holds_exactly_the_last_keys_whatever_the_batch(n):
    loss = MoCoLoss(10, 6, 10)
    seen_z, seen_h = [], []
    for seed in range(9):
        _, k, _, h = batch(n, seed, torch.float32)
        loss.enqueue(k, h)
        seen_z.append(torch.nn.functional.normalize(k))
        seen_h.append(h)
        z, features = loss.keys()
        torch.testing.assert_close(z, torch.cat(seen_z)[-10:])
        torch.testing.assert_close(features, torch.cat(seen_h)[-10:])


def test_an_empty_queue_gives_no_loss_and_then_fills():
    loss = MoCoLoss(16, 6, 10, 0.2, ps.RankBand(0.1, 0.5), ps.Treatment(0.1))
    q, k, h_q, h_k = batch(4, dtype=torch.float32)
    q.requires_grad_()
    value = loss(q, k, h_q, h_k)
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-6)
    assert len(loss.keys()[0]) == 4
    assert loss(q, k, h_q, h_k).item() > 0.1
    with pytest.raises(ValueError, match="the queue is empty"):
        MoCoLoss(16, 6, 10, selector=ps.RankBand(0.1, 0.5)).select(h_q)


def test_a_saved_loss_goes_on_as_if_it_had_not_stopped():
    straight = filled(16, "combined")
    stopped = io.BytesIO()
    torch.save(straight.state_dict(), stopped)
    stopped.seek(0)
    resumed = MoCoLoss(16, 6, 10, 0.2, ps.RankBand(0.1, 1.0), treatment("combined")).double()
    resumed.load_state_dict(torch.load(stopped))
    for seed in range(4):
        values = [float(loss(*batch(5, seed))) for loss in (straight, resumed)]
        assert values[0] == values[1]


def test_random_selection_draws_anew_and_is_saved_too():
    loss = MoCoLoss(64, 6, 10, 0.2, ps.RankBand(0.2, 0.5), ps.Treatment(0.1), select="random").double()
    loss.load_state_dict(filled(64).state_dict())
    h = batch(5)[2]
    first = loss.select(h)
    copied = copy.deepcopy(loss)
    assert not torch.equal(first, loss.select(h))
    assert torch.equal(loss.select(h).sum(1), first.sum(1))
    assert copied.selector.draws == copied.state_dict()["selector_state.draws"] == 1


def test_without_features_it_selects_on_projections_with_a_warning():
    loss = MoCoLoss(16, 6, selector=ps.RankBand(0.1, 0.5), treatment=ps.Treatment(0.1)).double()
    q, k, *_ = batch(8)
    loss(q, k)
    with pytest.warns(UserWarning, match="selected on the projections"):
        value = float(loss(q, k, enqueue=False))
    z = loss.keys()[0].tolist()
    pairs = band_pairs(q.tolist(), 0.1, 0.5, z)
    assert value == pytest.approx(moco(q.tolist(), k.tolist(), z, 0.2, pairs, sigma=0.1), abs=1e-10)


def test_bad_input_is_refused():
    q, k, h_q, h_k = batch(5)
    loss = MoCoLoss(4, 6, 10)
    with pytest.raises(ValueError, match="5 keys do not fit into a queue of 4"):
        loss(q, k, h_q, h_k)
    with pytest.raises(ValueError, match=r"pairs must be bool of shape \(5, 16\)"):
        filled(16, "margin")(q, k, h_q, h_k, pairs=torch.zeros(5, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="5 keys do not fit into a queue of 4"):
        loss.enqueue(k, h_k)
    loss = MoCoLoss(16, 6, 10)
    with pytest.raises(ValueError, match=r"\(N, 6\) matrices of one shape"):
        loss(q[:, :5], k[:, :5], h_q, h_k)
    with pytest.raises(ValueError, match=r"h_q must have shape \(5, 10\) .*, got None"):
        loss(q, k)
    with pytest.raises(ValueError, match=r"h_k must have shape \(5, 10\)"):
        loss(q, k, h_q, h_k[:3])
    with pytest.raises(ValueError, match="set feature_dim=10"):
        MoCoLoss(16, 6)(q, k, h_q, h_k)
    for arguments in ({"queue_size": 0}, {"temperature": 0}, {"feature_dim": 0}):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            MoCoLoss(**{"queue_size": 4, "projection_dim": 6} | arguments)
    with pytest.raises(ValueError, match="needs a selector"):
        MoCoLoss(4, 6, treatment=ps.Treatment(0.1))
