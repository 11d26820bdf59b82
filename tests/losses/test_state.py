"""What losses keep in a state dict: nothing, unless a resumed run needs it."""

import copy
import io

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import pairsift as ps
from pairsift.losses import LabelledNTXentLoss, MixedContrastiveLoss, MoCoLoss, NTXentLoss, SpectralLoss, TwoTowerLoss

BAND, TREATMENT = ps.RankBand(0.1, 0.5), ps.Treatment(0.1, 0.7)
STATELESS = {
    "plain": lambda: NTXentLoss(0.5), "band": lambda: NTXentLoss(0.5, BAND, TREATMENT),
    "spectral": lambda: SpectralLoss(1.0, BAND, TREATMENT), "mixed": lambda: MixedContrastiveLoss(0.5, 0.5, BAND),
    "labelled": lambda: LabelledNTXentLoss(0.5, BAND, TREATMENT), "semantic": lambda: ps.losses.SemanticNegativeLoss(),
    "two-tower": lambda: TwoTowerLoss(0.5, False, BAND, TREATMENT),
    "window": lambda: NTXentLoss(0.5, ps.TemporalWindow(BAND, 1, torch.arange(4), torch.arange(4)), TREATMENT),
}  # fmt: skip
OLD = {"_extra_state": {"draws": 3}}


class Model(nn.Module):
    def __init__(self, criterion):
        super().__init__()
        self.net, self.criterion = nn.Linear(4, 4), criterion


def random(draws=0):
    loss = NTXentLoss(0.5, BAND, TREATMENT, select="random")
    for _ in range(draws):
        loss.select(*torch.randn(2, 8, 4))
    return loss


def masked():
    mask = ps.GuideMask.fit(torch.randn(20, 4), torch.randn(20, 4))
    return TwoTowerLoss(0.5, selector=mask), mask


@pytest.mark.parametrize("name", STATELESS)
def test_a_loss_without_state_adds_no_key(name, tmp_path):
    ours, plain = Model(STATELESS[name]()), Model(nn.CosineEmbeddingLoss())
    assert set(ours.state_dict()) == set(plain.state_dict())
    ours.load_state_dict(plain.state_dict())
    plain.load_state_dict(ours.state_dict())
    save_file(ours.state_dict(), tmp_path / "x.safetensors")
    ours.load_state_dict(load_file(tmp_path / "x.safetensors"))
    average = torch.optim.swa_utils.AveragedModel(ours, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9))
    average.update_parameters(copy.deepcopy(ours))


def test_draws_and_counts_go_on_in_tensors(tmp_path):
    loss = random(draws=3)
    assert set(loss.state_dict()) == {"selector_state.draws"}
    save_file(loss.state_dict(), tmp_path / "x.safetensors")
    again = random()
    again.load_state_dict(load_file(tmp_path / "x.safetensors"))
    h = torch.randn(2, 8, 4)
    assert torch.equal(again.select(*h), loss.select(*h))
    towers, mask = masked()
    towers(*torch.randn(4, 20, 4), rows=torch.arange(20))
    other, counted = masked()
    stream = io.BytesIO()
    torch.save(towers.state_dict(), stream)
    stream.seek(0)
    other.load_state_dict(torch.load(stream, weights_only=True))
    assert counted.report() == mask.report()
    assert mask.report().rows == 40


def test_distributed_checkpoints_find_the_state():
    from torch.distributed.checkpoint.state_dict import get_model_state_dict, set_model_state_dict

    mask = ps.TemporalWindow(masked()[1], 1, torch.arange(20), torch.arange(20))
    for make in (lambda: random(2), lambda: TwoTowerLoss(0.5, selector=mask), lambda: MoCoLoss(8, 4)):
        model, again = Model(make()), Model(make())
        state = get_model_state_dict(model)
        assert set(state) == set(model.state_dict())
        set_model_state_dict(again, state)
        assert all(torch.equal(value, state[name]) for name, value in again.state_dict().items())


def test_missing_and_superfluous_state_is_no_error():
    model = Model(random(2))
    model.load_state_dict(Model(NTXentLoss(0.5)).state_dict())
    assert model.criterion.selector.draws == 2
    Model(NTXentLoss(0.5)).load_state_dict(model.state_dict())
    Model(masked()[0]).load_state_dict(model.state_dict())
    queue = MoCoLoss(16, 4)
    state = queue.state_dict()
    assert set(state) == {"queue_z", "queue_h", "_next", "_filled"}
    queue.enqueue(torch.randn(4, 4), rows=torch.arange(4))
    full = queue.state_dict()
    assert set(full) == {*state, "queue_rows"}
    fresh = MoCoLoss(16, 4)
    fresh.load_state_dict(full)
    assert torch.equal(fresh.queue_rows, queue.queue_rows)
    fresh.load_state_dict(state)
    assert (fresh.queue_rows == -1).all()
    with pytest.raises(RuntimeError, match="Missing key"):
        MoCoLoss(16, 4).load_state_dict({})


def test_extra_state_of_version_0_2_is_read():
    loss = random()
    loss.load_state_dict(OLD)
    assert loss.selector.draws == 3
    NTXentLoss(0.5).load_state_dict(OLD)
    towers, mask = masked()
    towers.load_state_dict({"_extra_state": {"draws": 0, "mask": {"counts": [7, 1, 0, 3, 0, 0, 0, 0, 0]}}})
    assert (mask.report().pairs, mask.report().rows) == (7, 3)
