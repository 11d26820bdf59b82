import math

import pytest
import torch
from oracle import band_pairs, cosine

import pairsift as ps
from pairsift.losses import LabelledNTXentLoss, NTXentLoss

TREATMENTS = {
    "none": {},
    "neutral": {"removal": "neutral"},
    "exclude": {"removal": "exclude"},
    "margin": {"sigma": 0.1},
    "combined": {"sigma": 0.03, "rho": 0.7},
}


def treatment(name):
    settings = TREATMENTS[name]
    return ps.Treatment(settings.get("sigma", 0.0), settings.get("rho", 1.0), settings.get("removal"))


def batch(n, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, width, generator=generator, dtype=dtype) for width in (6, 10)]


def oracle(z, labels, keys, key_labels, tau, pairs, positives, sigma=0.0, rho=1.0, removal=None):
    """Positive pairs against the negatives of their row; keys None: the rows themselves."""
    itself = keys is None
    keys, key_labels = (z, labels) if itself else (keys, key_labels)
    losses = []
    for i, row in enumerate(z):
        attraction, repulsion = [], 0.0
        for k, key in enumerate(keys):
            if itself and k == i:
                continue
            s, p, alike = cosine(row, key), int(pairs[i, k]), labels[i] == key_labels[k]
            if removal == "exclude" and p and not alike:
                continue
            if removal is not None:
                logit = s * (1 - p if removal == "neutral" else 1) / tau
            else:
                logit = (s + p * sigma) / ((p * rho + 1 - p) * tau)
            if alike:
                attraction.append(math.exp(logit))
            else:
                repulsion += math.exp(logit)
        if positives == "each":
            losses += [-math.log(each / (each + repulsion)) for each in attraction]
        elif attraction:
            losses.append(-math.log(sum(attraction) / (sum(attraction) + repulsion)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("name", TREATMENTS)
@pytest.mark.parametrize("positives", ["each", "summed"])
@pytest.mark.parametrize("itself", [True, False])
def test_loss_equals_the_oracle(name, positives, itself):
    """Groups of one to four rows; a row without a positive counts nothing."""
    z, h = batch(10)
    labels = torch.tensor([0, 1, 2, 0, 1, 2, 0, 3, 2, 2])
    ref_z, ref_h = (None, None) if itself else batch(7, 1)
    ref_labels = None if itself else torch.tensor([0, 0, 1, 5, 2, 2, 3])
    pairs = band_pairs(h.tolist(), 0.1, 0.5, None if itself else ref_h.tolist())
    keys = None if itself else ref_z.tolist()
    key_labels = None if itself else ref_labels.tolist()
    expected = oracle(z.tolist(), labels.tolist(), keys, key_labels, 0.3, pairs, positives, **TREATMENTS[name])
    loss = LabelledNTXentLoss(0.3, ps.RankBand(0.1, 0.5), treatment(name), positives)
    value = loss(z, labels, h, ref_z=ref_z, ref_labels=ref_labels, ref_h=ref_h)
    assert float(value) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("positives", ["each", "summed"])
@pytest.mark.parametrize("name", TREATMENTS)
def test_two_rows_a_label_are_nt_xent(name, positives):
    (z0, h0), (z1, h1) = batch(6), batch(6, 1)
    labels = torch.arange(6).repeat(2)
    arguments = (0.4, ps.RankBand(0.1, 0.5), treatment(name))
    value = LabelledNTXentLoss(*arguments, positives)(torch.cat([z0, z1]), labels, torch.cat([h0, h1]))
    assert float(value) == pytest.approx(float(NTXentLoss(*arguments)(z0, z1, h0, h1)), abs=1e-10)


@pytest.mark.parametrize("name", TREATMENTS)
@pytest.mark.parametrize("positives", ["each", "summed"])
def test_gradcheck(name, positives):
    z, h = batch(6)
    labels = torch.tensor([0, 1, 0, 1, 2, 0])
    loss = LabelledNTXentLoss(0.3, ps.RankBand(0.1, 0.5), treatment(name), positives)
    assert torch.autograd.gradcheck(lambda z: loss(z, labels, h), (z.requires_grad_(),))


@pytest.mark.parametrize("positives", ["each", "summed"])
@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 0, 0]], ids=["no positives", "no negatives"])
def test_where_nothing_can_be_learned_the_loss_and_its_gradient_are_zero(labels, positives):
    z, _ = batch(3)
    z.requires_grad_()
    value = LabelledNTXentLoss(positives=positives)(z, torch.tensor(labels))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    torch.testing.assert_close(z.grad, torch.zeros_like(z))


@pytest.mark.parametrize("positives", ["each", "summed"])
def test_rows_without_a_label_are_nobodys_positives(positives):
    torch.manual_seed(0)
    z, ref_z, labels = torch.randn(12, 6), torch.randn(12, 6), torch.arange(12) % 3
    some = torch.tensor([0, 4, 5, 9])
    unknown, alone = labels.clone(), labels.clone()
    unknown[some], alone[some] = -1, torch.arange(100, 104)
    loss = LabelledNTXentLoss(0.2, positives=positives)
    torch.testing.assert_close(loss(z, unknown), loss(z, alone))
    apart = alone.clone()
    apart[some] += 1000  # a reference row of the same number is no positive either
    against = {"ref_z": ref_z, "ref_labels": unknown}
    torch.testing.assert_close(loss(z, unknown, **against), loss(z, alone, **against | {"ref_labels": apart}))
    assert float(loss(z, torch.full((12,), -1))) == 0


def test_bad_input_is_refused():
    z, h = batch(5)
    labels = torch.arange(5)
    loss = LabelledNTXentLoss()
    for call, message in (
        (lambda: loss(z[0], labels), "non-empty"),
        (lambda: loss(z, labels[:3]), r"labels must be \(5,\), one for each row, got \(3,\)"),
        (lambda: loss(z, labels, h[:3]), r"h must be \(5, D\)"),
        (lambda: loss(z, labels, ref_z=z), r"ref_labels must be \(5,\), one for each row, got None"),
        (lambda: loss(z, labels, ref_z=z[:, :4], ref_labels=labels), "one width"),
        (lambda: loss(z, labels, h, ref_z=z, ref_labels=labels), "both or neither have features"),
        (lambda: LabelledNTXentLoss(0), "temperature must be finite and > 0, got 0"),
        (lambda: LabelledNTXentLoss(positives="all"), "got 'all'"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
