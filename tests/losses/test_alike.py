import numpy as np
import pytest
import torch

import pairsift as ps
from pairsift.losses import (
    LabelledNTXentLoss,
    MixedContrastiveLoss,
    MoCoLoss,
    NTXentLoss,
    SpectralLoss,
    TwoTowerLoss,
    baselines,
)

SETTINGS = {"selector": ps.RankBand(0.1, 0.5), "treatment": ps.Treatment(0.1)}


def labelled(z0, z1, h0, h1):
    labels = torch.arange(len(z0))
    return LabelledNTXentLoss(**SETTINGS)(z0, labels, h0, ref_z=z1, ref_labels=labels, ref_h=h1)


def mixed(z0, z1, h0, h1):
    return MixedContrastiveLoss(**SETTINGS)(z0, z1, torch.arange(len(z0)) % 3, h0, h1)


QUEUE = MoCoLoss(32, 4, 6, **SETTINGS)
LOSSES = [NTXentLoss(**SETTINGS), SpectralLoss(**SETTINGS), TwoTowerLoss(**SETTINGS), QUEUE, labelled, mixed]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: getattr(loss, "__name__", type(loss).__name__))
def test_mixed_dtypes_and_devices_are_refused(loss):
    z0, z1, h0, h1 = torch.randn(8, 4), torch.randn(8, 4), torch.randn(8, 6), torch.randn(8, 6)
    for inputs, message in (
        ((z0, z1.double(), h0, h1), "both projections .* torch.float32 and torch.float64"),
        ((z0.long(), z1.long(), h0, h1), "(both projections .*|z must be floating point, got) torch.int64"),
        ((z0, z1, h0.half(), h1), "both features .* torch.float16 and torch.float32"),
        ((z0, z1, h0, h1.to("meta")), "on one device, got cpu, cpu, cpu, meta"),
    ):
        with pytest.raises(ValueError, match=message):
            loss(*inputs)
    assert torch.isfinite(loss(z0, z1, h0.bfloat16(), h1.bfloat16()))


def test_a_queue_on_another_device_is_refused():
    loss = MoCoLoss(32, 4).to("meta")
    with pytest.raises(ValueError, match="projections are on cpu and the queue on meta"):
        loss(torch.randn(8, 4), torch.randn(8, 4))


def test_baselines_refuse_mixed_dtypes():
    with pytest.raises(ValueError, match="of one dtype"):
        baselines.DecoupledLoss()(torch.randn(8, 4), torch.randn(8, 4).double())


def test_settings_may_be_numbers_of_numpy():
    z0, z1 = torch.randn(2, 8, 4)
    half = np.float32(0.5)
    assert ps.losses.NTXentLoss(half)(z0, z1) == ps.losses.NTXentLoss(0.5)(z0, z1)
    assert ps.losses.SpectralLoss(half)(z0, z1) == ps.losses.SpectralLoss(0.5)(z0, z1)
