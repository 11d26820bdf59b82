import math

import pytest
import torch
from oracle import cosine

from pairsift.losses import NTXentLoss, baselines


def batch(n=5, d=6, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, d, generator=generator, dtype=dtype) for _ in range(4)]


def anchors(z0, z1):
    """Of every view: similarity with its positive, with its negatives, and which views those are."""
    z = [*z0.tolist(), *z1.tolist()]
    n = len(z0)
    for i in range(2 * n):
        others = [k for k in range(2 * n) if k % n != i % n]
        yield i, cosine(z[i], z[(i + n) % (2 * n)]), [cosine(z[i], z[k]) for k in others], others


def hard(z0, z1, tau, beta, prior):
    losses = []
    for _, s, negatives, _ in anchors(z0, z1):
        m = len(negatives)
        positive = math.exp(s / tau)
        importance = [math.exp(beta * each / tau) for each in negatives]
        mean = sum(importance) / m
        weighted = sum(w / mean * math.exp(each / tau) for w, each in zip(importance, negatives, strict=True))
        corrected = max((weighted - m * prior * positive) / (1 - prior), m * math.exp(-1 / tau))
        losses.append(-math.log(positive / (positive + corrected)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("tau", [0.1, 0.5])
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("prior", [0.0, 0.1, 0.6])
def test_hard_negatives_and_debiasing_equal_the_oracle(tau, beta, prior):
    """At a prior of 0.6 some corrected sums fall below the bound."""
    z0, z1, *_ = batch()
    expected = hard(z0, z1, tau, beta, prior)
    assert float(baselines.HardNegativeLoss(tau, beta, prior)(z0, z1)) == pytest.approx(expected, abs=1e-10)
    if beta == 0:
        assert float(baselines.DebiasedLoss(tau, prior)(z0, z1)) == pytest.approx(expected, abs=1e-10)


def test_nothing_corrected_is_plain_nt_xent():
    z0, z1, *_ = batch()
    plain = float(NTXentLoss(0.3)(z0, z1))
    for loss in (
        baselines.DebiasedLoss(0.3, 0.0),
        baselines.SimilarityTemperatureLoss(0.3, 0.3),
        baselines.FalseNegativeCancellationLoss(0.3, None, 1.0),
    ):
        assert float(loss(z0, z1)) == pytest.approx(plain, abs=1e-10)


@pytest.mark.parametrize("sigma", [None, 0.5])
def test_decoupled_equals_the_oracle(sigma):
    z0, z1, *_ = batch()
    rows = list(anchors(z0, z1))
    mean = sum(math.exp(s / (sigma or 1)) for _, s, *_ in rows) / len(rows)
    total = 0.0
    for _, s, negatives, _ in rows:
        weight = 1 if sigma is None else 2 - math.exp(s / sigma) / mean
        total += math.log(sum(math.exp(each / 0.1) for each in negatives)) - weight * s / 0.1
    loss = baselines.DecoupledLoss(0.1, sigma)
    assert float(loss(z0, z1)) == pytest.approx(total / len(rows), abs=1e-10)


def test_similarity_temperature_equals_the_oracle():
    z0, z1, *_ = batch()
    total = 0.0
    for _, s, negatives, _ in anchors(z0, z1):
        logits = [each / (0.1 + 0.5 * (0.4 - 0.1) * (1 + math.cos(math.pi * (1 + each)))) for each in (s, *negatives)]
        total += math.log(sum(map(math.exp, logits))) - logits[0]
    loss = baselines.SimilarityTemperatureLoss(0.4, 0.1)
    assert float(loss(z0, z1)) == pytest.approx(total / 10, abs=1e-10)


@pytest.mark.parametrize("aggregate", ["max", "mean"])
@pytest.mark.parametrize(("top_k", "threshold"), [(3, None), (None, 0.2), (3, 0.2)])
@pytest.mark.parametrize("given", [True, False])
def test_false_negative_cancellation_equals_the_oracle(aggregate, top_k, threshold, given):
    z0, z1, *more = batch()
    views = [view.tolist() for view in (more if given else (z0, z1))]
    z = [*z0.tolist(), *z1.tolist()]
    total = 0.0
    for i, s, negatives, others in anchors(z0, z1):
        scores = []
        for k in others:
            each = [cosine(view[i % 5], z[k]) for view in views]
            scores.append(max(each) if aggregate == "max" else sum(each) / len(each))
        left_out = set(range(len(others)))
        if top_k is not None:
            left_out &= set(sorted(left_out, key=lambda j: -scores[j])[:top_k])
        if threshold is not None:
            left_out = {j for j in left_out if scores[j] >= threshold}
        kept = [each for j, each in enumerate(negatives) if j not in left_out]
        total += math.log(sum(math.exp(each / 0.5) for each in (s, *kept))) - s / 0.5
    loss = baselines.FalseNegativeCancellationLoss(0.5, top_k, threshold, aggregate)
    assert float(loss(z0, z1, more if given else None)) == pytest.approx(total / 10, abs=1e-10)


LOSSES = [
    baselines.HardNegativeLoss(0.5, 1.0, 0.1), baselines.DebiasedLoss(0.5, 0.1), baselines.DecoupledLoss(0.2),
    baselines.DecoupledLoss(0.2, 0.5), baselines.FalseNegativeCancellationLoss(0.5, 3),
]  # fmt: skip


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_gradcheck(loss):
    z0, z1, *_ = batch(4, 3)
    assert torch.autograd.gradcheck(loss, (z0.requires_grad_(), z1.requires_grad_()))


def test_no_gradient_flows_through_the_temperature():
    z0, z1, *_ = batch(4, 3)
    z0.requires_grad_()
    loss = baselines.SimilarityTemperatureLoss(0.4, 0.1)
    loss(z0, z1).backward()
    z = torch.nn.functional.normalize(torch.cat([z0, z1]))
    s = z @ z.T
    tau = (0.1 + 0.15 * (1 + torch.cos(math.pi * (1 + s)))).detach()
    logits = (s / tau).fill_diagonal_(-torch.inf)
    expected = (logits.logsumexp(1) - logits.diagonal(4).repeat(2)).mean()
    torch.testing.assert_close(z0.grad, torch.autograd.grad(expected, z0)[0])


@pytest.mark.parametrize("loss", [*LOSSES, baselines.SimilarityTemperatureLoss()], ids=lambda each: type(each).__name__)
def test_half_precision_and_low_temperatures_stay_finite(loss):
    z0, z1 = (z.to(torch.bfloat16) for z in batch(16)[:2])
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(z0, z1)
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(float(loss(z0.double(), z1.double())), abs=1e-4)
    cold = baselines.HardNegativeLoss(0.02, 2.0, 0.1)
    assert math.isfinite(float(cold(z0, z0)))


def test_bad_settings_and_shapes_are_refused():
    z0, z1, *_ = batch()
    for make, message in (
        (lambda: baselines.DebiasedLoss(0), "temperature must be finite and > 0, got 0"),
        (lambda: baselines.DebiasedLoss(class_prior=1), r"class_prior must be in \[0, 1\), got 1"),
        (lambda: baselines.HardNegativeLoss(hardness=-1), "hardness .* got -1"),
        (lambda: baselines.DecoupledLoss(sigma=0), "sigma must be finite and > 0, got 0"),
        (lambda: baselines.SimilarityTemperatureLoss(0.1, 0.2), "coldest must be in .*got 0.2"),
        (lambda: baselines.FalseNegativeCancellationLoss(top_k=None), "set top_k or threshold"),
        (lambda: baselines.FalseNegativeCancellationLoss(top_k=0), "top_k must be at least 1, got 0"),
        (lambda: baselines.FalseNegativeCancellationLoss(threshold=2), r"in \[-1, 1\], got 2"),
        (lambda: baselines.FalseNegativeCancellationLoss(aggregate="sum"), "got 'sum'"),
        (lambda: baselines.FalseNegativeCancellationLoss(top_k=8)(z0, z1), "would leave out all 8 negatives"),
        (lambda: baselines.FalseNegativeCancellationLoss(top_k=2)(z0, z1, [z0[:2]]), r"support must be views of shape"),
        (lambda: baselines.DecoupledLoss()(z0, z1[:2]), "of one shape"),
    ):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize("n", [2, 150])
def test_baselines_by_tiles_equal_whole_matrices(n, monkeypatch):
    """Below 256 views they are whole; 300 views, or a tile of 3 rows, go by tiles."""
    generator = torch.Generator().manual_seed(n)
    z0, z1 = (torch.randn(n, 6, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    for loss in (
        baselines.HardNegativeLoss(), baselines.DebiasedLoss(), baselines.DecoupledLoss(sigma=0.5),
        baselines.SimilarityTemperatureLoss(),
    ):  # fmt: skip
        results = []
        for rows in (None, 3, 77):
            monkeypatch.setattr(baselines.Engine, "tile_rows", lambda self, keys, device, rows=rows: rows)
            value = loss(z0, z1)
            results.append((value.detach(), *torch.autograd.grad(value, (z0, z1))))
        for result in results[1:]:
            torch.testing.assert_close(result, results[0], rtol=1e-12, atol=1e-12)
