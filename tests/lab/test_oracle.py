import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from lab.oracle import OraclePolicy
from pairsift.treatments import EXCLUDED


def test_the_oracle_flags_the_most_similar_pairs_of_two_classes():
    labels = np.array([0, 0, 1, 1, 2, 2])
    h = torch.tensor([[1.0, 0], [1, 0.1], [1, 0.2], [0, 1], [1, 0.3], [0.5, 1]])
    evidence = OraclePolicy(labels, share=1 / 3)
    masks = evidence.selector.masks(h, rows=torch.arange(6))
    assert masks.whole()[0].tolist() == [False, False, True, False, True, False]
    assert masks.whole().sum(1).tolist() == [2] * 6
    expected = torch.zeros(6, 6)
    for a, b in ((0, 1), (2, 3), (4, 5)):
        expected[a, b] = expected[b, a] = EXCLUDED
    assert torch.equal(masks.log_weights(0, 6), expected)
    assert torch.equal(masks.log_weights(2, 4), expected[2:4])


@pytest.fixture(scope="module")
def views():
    """Two views of 400 images in four overlapping classes: features, rows, labels of the images."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(4).repeat(100)
    images = torch.eye(8)[labels] + 0.5 * torch.randn(400, 8, generator=generator)
    h = torch.cat([images, images + 0.1 * torch.randn(400, 8, generator=generator)])
    return h, torch.arange(400).repeat(2), labels.numpy()


def of(views, share=0.1, **errors):
    h, rows, labels = views
    evidence = OraclePolicy(labels, share, 0, **errors)
    return evidence.selector.masks(h, rows=rows)


@pytest.mark.parametrize("mistaken", [0.25, 1.0])
def test_mistakes_are_as_many_as_asked_for_and_never_the_positive(views, mistaken):
    _, rows, labels = views
    same = labels[rows][:, None] == labels[rows]
    image = (rows[:, None] == rows).numpy()
    flagged = of(views, mistaken=mistaken).whole().numpy()
    assert flagged[same & ~image].mean() == pytest.approx(mistaken, abs=0.01)
    assert not flagged[image].any()
    assert np.array_equal(flagged[~same], of(views).whole().numpy()[~same])
    # Errors are of two images, whichever of their views meet.
    assert np.array_equal(flagged & same, (flagged & same).T)
    assert np.array_equal((flagged & same)[:400], (flagged & same)[400:])


def test_missed_pairs_give_way_to_the_next(views):
    flagged, missed = of(views).whole(), of(views, missed=0.5).whole()
    assert missed.sum() == flagged.sum()
    assert (missed & flagged).sum() / flagged.sum() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("auroc", [0.5, 0.7, 0.9])
def test_an_estimate_is_as_good_as_asked_for_and_calibrated(views, auroc):
    h, rows, labels = views
    apart = (rows[:, None] != rows).numpy()
    same = (labels[rows][:, None] == labels[rows])[apart]
    masks = of(views, auroc=auroc)
    different = masks.log_weights(0, 800).exp().numpy()[apart]
    for low in np.arange(0, 1, 0.2):
        inside = (different >= low) & (different < low + 0.2)
        if inside.sum() > 5000:
            assert different[inside].mean() == pytest.approx(1 - same[inside].mean(), abs=0.03)
    flagged = masks.whole().numpy()[apart]
    assert different[flagged].min() >= 0.8
    assert (1 - same[flagged].mean()) >= 0.8
    # Among pairs of one similarity the estimate orders as well as it was told to.
    unit = torch.nn.functional.normalize(h, dim=1)
    cosine = (unit @ unit.T).numpy()[apart]
    alike = np.abs(cosine - np.median(cosine)) < 0.01
    assert roc_auc_score(same[alike], -different[alike]) == pytest.approx(auroc, abs=0.03)


def test_a_better_estimate_weighs_class_mates_less(views):
    _, rows, labels = views
    same = torch.from_numpy(labels[rows][:, None] == labels[rows]) & (rows[:, None] != rows)
    weights = [float(of(views, auroc=auroc).log_weights(0, 800)[same].exp().mean()) for auroc in (0.5, 0.7, 0.9)]
    assert weights[0] > weights[1] > weights[2]
    assert not math.isnan(weights[0])
