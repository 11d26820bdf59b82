"""Soft masks and weighted same-class pairs: what a selector may say beyond yes and no."""

import math

import pytest
import torch
from objectives import rows, value_and_gradients
from oracle import cosine

import pairsift as ps


class Soft(ps.Selector):
    """A selector of seeded difficulties in [0, 1] and weights of all pairs, for any rows and keys."""

    def masks(self, h, keys=None, own=None, *, rows=None, key_rows=None, precision="fp32"):
        return SoftMasks(len(h), len(h) if keys is None else len(keys))


class SoftMasks(ps.pairs.PairMasks):
    def __init__(self, n, k):
        super().__init__(n, k, torch.device("cpu"))
        generator = torch.Generator().manual_seed(n + k)
        self.difficulty = torch.rand(n, k, generator=generator)
        self.weights = torch.rand(n, k, generator=generator)

    def tile(self, start, stop):
        return self.difficulty[start:stop].clone()

    def log_weights(self, start, stop):
        return self.weights[start:stop].log()


TREATMENT = ps.Treatment(margin=0.1, temperature_scale=0.7, same_class_weight=1.5)


def losses(name, tile):
    settings = {"selector": Soft(), "treatment": TREATMENT, "tile": tile}
    if name == "ntxent":
        return ps.losses.NTXentLoss(0.3, **settings)
    if name == "two-tower":
        return ps.losses.TwoTowerLoss(0.3, learnable=True, **settings).double()
    loss = ps.losses.LabelledNTXentLoss(0.3, **settings)
    return lambda z0, z1, h0, h1: loss(torch.cat([z0, z1]), torch.arange(len(z0)).repeat(2), torch.cat([h0, h1]))


@pytest.mark.parametrize("tile", [1, 4, 64])
@pytest.mark.parametrize("name", ["ntxent", "two-tower"])
def test_tiles_equal_whole_matrices(name, tile):
    batch = rows(name, 9)
    dense, tiled = (value_and_gradients(losses(name, each), *batch) for each in ("dense", tile))
    torch.testing.assert_close(tiled, dense, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("tile", ["dense", 4])
@pytest.mark.parametrize("name", ["ntxent", "labelled"])
def test_the_loss_equals_the_formula(name, tile):
    """One loss per view by nested loops; a positive is treated by its difficulty and never weakened."""
    batch = rows(name, 5)
    z = torch.cat(batch[:2]).tolist()
    soft, total = SoftMasks(10, 10), 0.0
    for i in range(10):
        terms = []
        for k in range(10):
            if k == i:
                continue
            m = float(soft.difficulty[i, k])
            logit = cosine(z[i], z[k]) / 0.3 * (1 + m * (1 / 0.7 - 1)) + m * 0.1 / (0.7 * 0.3)
            positive = k == (i + 5) % 10
            terms.append(math.exp(logit) * (1 if positive else float(soft.weights[i, k]) ** 1.5))
            if positive:
                numerator = logit
        total += math.log(sum(terms)) - numerator
    assert float(losses(name, tile)(*batch)) == pytest.approx(total / 10, abs=1e-6)


def test_the_spectral_loss_has_no_weights():
    with pytest.raises(ValueError, match=r"same_class_weight=1.5 weighs the terms of a softmax"):
        ps.losses.SpectralLoss(1.0, Soft(), TREATMENT)
