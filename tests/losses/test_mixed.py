import math

import pytest
import torch

import pairsift as ps
from pairsift.losses import MixedContrastiveLoss, NTXentLoss

TREATMENTS = {
    "none": None,
    "margin": ps.Treatment(margin=0.1),
    "combined": ps.Treatment(margin=0.05, temperature_scale=0.7),
    "neutral": ps.Treatment(removal="neutral"),
    "exclude": ps.Treatment(removal="exclude"),
}
BAND = ps.RankBand(0.04, 0.5)  # wide enough to hold some views of the anchor's own image
N, TAU = 12, 0.3


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    z0, z1, h0, h1 = (torch.randn(N, w, generator=generator, dtype=torch.float64) for w in (6, 6, 9, 9))
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 5, 1, 0])  # 5 has one image
    return z0, z1, labels, h0, h1


def oracle(z0, z1, labels, pairs, alpha, treatment, form, own_view):
    """The definition, a pair at a time."""
    z = torch.nn.functional.normalize(torch.cat([z0, z1]), dim=1)
    every, total = torch.cat([labels, labels]), 0.0
    margin, scale = (treatment.margin, treatment.temperature_scale) if treatment else (0, 1)
    removal = treatment.removal if treatment else None
    for i in range(len(z)):
        own = (i + len(z0)) % len(z)
        plain = [float(z[i] @ z[k]) / TAU for k in range(len(z))]
        treated = list(plain)
        for k in range(len(z)):
            if treatment and pairs[i, k]:
                treated[k] = (plain[k] + margin / TAU) / scale
                if removal == "neutral":
                    treated[k] = 0.0
                if removal == "exclude":
                    treated[k] = plain[k] if k == own else -math.inf
        below = math.log(sum(math.exp(treated[k]) for k in range(len(z)) if k != i))
        mates = [k for k in range(len(z)) if k != i and every[k] == every[i] >= 0 and (own_view or k != own)]
        if not mates:
            total += below - treated[own]
        elif form == "outside":
            total += below - alpha * treated[own] - (1 - alpha) * sum(plain[k] for k in mates) / len(mates)
        else:
            mean = sum(math.exp(plain[k]) for k in mates) / len(mates)
            total += below - alpha * treated[own] - (1 - alpha) * math.log(mean)
    return total / len(z)


@pytest.mark.parametrize("own_view", [True, False])
@pytest.mark.parametrize("form", ["outside", "inside"])
@pytest.mark.parametrize("treatment", TREATMENTS)
def test_loss_equals_the_definition(batch, treatment, form, own_view):
    z0, z1, labels, h0, h1 = batch
    pairs = ps.select_pairs(torch.cat([h0, h1]), BAND)
    assert pairs[torch.arange(N), torch.arange(N) + N].any()
    for alpha in (0.0, 0.3, 1.0):
        for unlabelled in (0, 4, N):
            partly = labels.clone()
            partly[:unlabelled] = -1
            expected = oracle(z0, z1, partly, pairs, alpha, TREATMENTS[treatment], form, own_view)
            for tile in ("dense", 1, 5, 64):
                loss = MixedContrastiveLoss(alpha, TAU, BAND, TREATMENTS[treatment], form, own_view, tile=tile)
                assert float(loss(z0, z1, partly, h0, h1)) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("tile", ["dense", 37])
@pytest.mark.parametrize("form", ["outside", "inside"])
def test_many_rows_of_few_and_of_many_classes(form, tile):
    """Values and gradients against whole matrices, with classes larger and smaller than what is walked at once."""
    torch.manual_seed(1)
    z = torch.randn(400, 8, dtype=torch.float64, requires_grad=True)
    for classes in (2, 70):
        labels = torch.randint(-1, classes, (200,))
        every = labels.repeat(2)
        s = torch.nn.functional.normalize(z, dim=1)
        logits = (s @ s.T / TAU).fill_diagonal_(-math.inf)
        alike = (every[:, None] == every) & (every >= 0) & ~torch.eye(400, dtype=torch.bool)
        if form == "outside":
            pull = logits.masked_fill(~alike, 0).sum(1) / alike.sum(1).clamp_min(1)
        else:
            pull = logits.masked_fill(~alike, -1e30).logsumexp(1) - alike.sum(1).clamp_min(1).double().log()
        own = logits[torch.arange(400), torch.arange(400).roll(200)]
        weight = torch.ones(400, dtype=torch.float64).masked_fill(every >= 0, 0.3)
        expected = (logits.logsumexp(1) - weight * own - (1 - weight) * pull.where(every >= 0, 0)).mean()
        value = MixedContrastiveLoss(0.3, TAU, form=form, tile=tile)(*z.chunk(2), labels)
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-10)
        gradients = [torch.autograd.grad(each, z, retain_graph=True)[0] for each in (value, expected)]
        torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ["outside", "inside"])
@pytest.mark.parametrize("tile", ["dense", 5])
def test_gradients(batch, form, tile):
    z0, z1, labels, h0, h1 = batch
    loss = MixedContrastiveLoss(0.3, TAU, BAND, TREATMENTS["combined"], form, tile=tile)
    assert torch.autograd.gradcheck(lambda *z: loss(*z, labels, h0, h1), [z0.requires_grad_(), z1.requires_grad_()])


@pytest.mark.parametrize("tile", ["dense", 5])
@pytest.mark.parametrize("treatment", TREATMENTS)
def test_without_labels_or_supervision_it_is_nt_xent(batch, treatment, tile):
    z0, z1, labels, h0, h1 = batch
    settings = {"selector": BAND, "treatment": TREATMENTS[treatment], "tile": tile}
    expected = NTXentLoss(TAU, **settings)(z0, z1, h0, h1)
    assert torch.equal(MixedContrastiveLoss(1, TAU, **settings)(z0, z1, labels, h0, h1), expected)
    assert torch.equal(MixedContrastiveLoss(0.2, TAU, **settings)(z0, z1, None, h0, h1), expected)


def test_the_weight_with_own_views_is_a_larger_one_without_them(batch):
    z0, z1, *_ = batch
    n, labels = 4, torch.arange(N) % 3
    for weight in (0.0, 0.4, 1.0):
        within = MixedContrastiveLoss(weight, TAU)(z0, z1, labels)
        without = MixedContrastiveLoss(weight + (1 - weight) / (2 * n - 1), TAU, own_view=False)(z0, z1, labels)
        torch.testing.assert_close(without, within, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("alpha", "share"), [(0.1, 0.0), (0.3, 0.17093), (0.5, 0.35252), (1.0, 0.81818)])
def test_free_embeddings_take_the_within_class_share_of_theory(alpha, share):
    """Three classes of four images in 16 dimensions, tau 0.5; the solution of the one-parameter problem."""
    torch.manual_seed(0)
    z = torch.randn(12, 16, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(12) // 4
    loss = MixedContrastiveLoss(alpha, 0.5)
    optimizer = torch.optim.LBFGS([z], max_iter=3000, tolerance_grad=1e-10, tolerance_change=1e-14, history_size=20,
                                  line_search_fn="strong_wolfe")  # fmt: skip

    def closure():
        optimizer.zero_grad()
        value = loss(z, z, labels)
        value.backward()
        return value

    optimizer.step(closure)
    u = torch.nn.functional.normalize(z.detach(), dim=1)
    within = 1 - u.view(3, 4, 16).mean(dim=1).square().sum(dim=1).mean()
    assert float(within) == pytest.approx(share, abs=1e-3)


def test_bad_input_is_refused(batch):
    z0, z1, labels, h0, h1 = batch
    loss = MixedContrastiveLoss()
    banded = MixedContrastiveLoss(selector=BAND, treatment=TREATMENTS["margin"])
    for call, message in (
        (lambda: MixedContrastiveLoss(1.1), r"alpha must be in \[0, 1\].* got 1.1"),
        (lambda: MixedContrastiveLoss(math.nan), "got nan"),
        (lambda: MixedContrastiveLoss(form="between"), "got 'between'"),
        (lambda: MixedContrastiveLoss(temperature=0), "temperature must be finite and > 0"),
        (lambda: loss(z0, z1, labels[:3]), r"labels must be \(12,\), one for each image, got \(3,\)"),
        (lambda: loss(z0, z1, labels.float()), "whole numbers.* torch.float32"),
        (lambda: banded(z0, z1, labels, h0 * math.inf, h1), "finite"),
        (lambda: MixedContrastiveLoss(treatment=TREATMENTS["margin"]), "needs a selector"),
        (lambda: loss(z0[:0], z1[:0], labels[:0]), "non-empty"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
