"""`SelfMask` against nested loops."""

import pytest
import torch

import pairsift as ps


@pytest.mark.parametrize("margin", [0.1, -0.2, 0.0])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_masked_pairs_are_those_of_nested_loops(margin, precision):
    torch.manual_seed(0)
    h, keys = torch.randn(30, 8), torch.randn(60, 8)
    keys[:30] += h
    rows = torch.randperm(30) * 7
    mask = ps.SelfMask(margin)
    key_rows = torch.cat([mask.identify(rows, 1), mask.identify(rows, 2)])
    found = mask.masks(h, keys, rows=mask.identify(rows, 0), key_rows=key_rows, precision=precision).whole()
    cosine = torch.nn.functional.cosine_similarity(h[:, None], keys[None], dim=2)
    wrong = 0
    for i in range(30):
        for j in range(60):
            expected = j != i and cosine[i, j] > cosine[i, i] + margin
            wrong += bool(found[i, j]) != bool(expected) and abs(cosine[i, j] - cosine[i, i] - margin) > 0.02
    assert wrong == 0
    assert found.sum() > 5


def test_in_a_loss_masked_pairs_leave_the_denominator():
    torch.manual_seed(1)
    a, b = torch.randn(12, 6), torch.randn(12, 6)
    b[3] = a[5]  # a better key of anchor 5 than its own
    value = ps.losses.TwoTowerLoss(0.1, selector=ps.SelfMask(0.1), symmetric=False)(a, b, a, b, rows=torch.arange(12))
    cosine = torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=2)
    masked = cosine > cosine.diagonal()[:, None] + 0.1
    assert masked[5, 3]
    logits = (cosine / 0.1).masked_fill(masked, -torch.inf)
    torch.testing.assert_close(value, torch.nn.functional.cross_entropy(logits, torch.arange(12)))


def test_views_of_one_batch_are_their_own_positives():
    torch.manual_seed(2)
    z = torch.randn(8, 5)
    rows = torch.arange(4).repeat(2)
    found = ps.SelfMask(-0.1).masks(z, rows=rows).whole()
    assert not found.diagonal().any()
    assert not found[torch.arange(8), (torch.arange(8) + 4) % 8].any()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"margin must lie in \[-2, 2\], got 3"):
        ps.SelfMask(3)
    with pytest.raises(ValueError, match="SelfMask has to know which examples"):
        ps.SelfMask().masks(torch.randn(4, 3))
    with pytest.raises(ValueError, match=r"rows must be \(4,\)"):
        ps.SelfMask().masks(torch.randn(4, 3), rows=torch.arange(3))
    with pytest.raises(ValueError, match="apart harder"):
        ps.losses.TwoTowerLoss(selector=ps.SelfMask(), treatment=ps.Treatment(margin=0.1))
