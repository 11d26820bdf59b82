"""Any default dtype gives the same: no tensor is made in whatever the default happens to be."""

import pytest
import torch
from objectives import LABELLED, NAMES, objective, rows, value_and_gradients

import pairsift as ps


@pytest.fixture(params=[torch.float64, torch.bfloat16, torch.float16])
def default(request):
    """Sets a default dtype; returns to the usual one afterwards."""
    yield lambda: torch.set_default_dtype(request.param)
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("n", [9, 150])
@pytest.mark.parametrize("name", [*NAMES, *LABELLED])
def test_losses(name, n, default):
    batch = rows(name, n, torch.float32)
    for select in ("band", "random"):
        expected = value_and_gradients(objective(name, "combined", dtype=torch.float32, select=select), *batch)
        default()
        found = value_and_gradients(objective(name, "combined", dtype=torch.float32, select=select), *batch)
        torch.set_default_dtype(torch.float32)
        for got, wanted in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
            assert got.dtype == wanted.dtype
            assert torch.equal(got, wanted)


def everything():
    """What selectors and baselines give for float32 features."""
    generator = torch.Generator().manual_seed(0)
    features = torch.eye(6, dtype=torch.float32).repeat_interleave(20, 0)
    features = features + 0.3 * torch.randn(120, 6, generator=generator, dtype=torch.float32)
    ids, results = torch.arange(120), []
    affinity = ps.Affinity.fit(features)
    mask = ps.GuideMask.fit(features, features.flip(1), margin=0.2, floor=0.3, cap=1.0, difficult=0.2)
    frames = torch.arange(120)
    for selector in (
        ps.RankBand(0.1, 0.3), ps.ConfidentNegatives(affinity), mask, ps.RandomPairs(ps.RankBand(0.1, 0.3)),
        ps.TemporalWindow(ps.RankBand(0.1, 0.3), 2, frames // 20, frames),
    ):  # fmt: skip
        masks = selector.masks(features, rows=ids)
        results += [masks.tile(0, 20), masks.whole(), masks.log_weights(0, 20)]
    for loss in (
        ps.losses.baselines.HardNegativeLoss(), ps.losses.baselines.DecoupledLoss(sigma=0.5),
        ps.losses.baselines.SimilarityTemperatureLoss(), ps.losses.baselines.FalseNegativeCancellationLoss(top_k=3),
    ):  # fmt: skip
        results.append(loss(features[:60], features[60:]))
    semantic = ps.losses.SemanticNegativeLoss(0.1, ps.Treatment(0.1))
    results.append(semantic(features[:40], features[40:80], features[80:]))
    return results


def test_selectors_and_baselines(default):
    expected = everything()
    default()
    found = everything()
    torch.set_default_dtype(torch.float32)
    for got, wanted in zip(found, expected, strict=True):
        assert (got is None) == (wanted is None)
        if got is not None:
            assert got.dtype == wanted.dtype
            torch.testing.assert_close(got, wanted)
