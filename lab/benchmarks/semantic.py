"""Measures semantic negatives: speed and shares of the views of texts, and time of the loss.

    python -m lab.benchmarks.semantic [--runs 10] [--output lab/benchmarks/results/semantic.jsonl]

One JSON line for each set of training texts in PAIRSIFT_DATA, if any, then one for each size of the loss: median
milliseconds forward and backward of N texts against their 2N versions, and of NTXentLoss on N pairs.
"""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from lab.benchmarks._common import emit, environment, median_ms
from pairsift import Treatment
from pairsift.losses import NTXentLoss, SemanticNegativeLoss
from pairsift.text import SemanticViews, WordNet, semantic_views

SETS = ("trec6", "banking77", "newsgroups20")
DIMENSIONS = 128
# Texts among which similarities are ranked, as many as a batch may hold.
BATCH = 256


def made(texts: list[str]) -> dict[str, Any]:
    """Rate and shares of the views of texts."""
    start = time.process_time()  # other processes may run too
    views = list(semantic_views(texts))
    seconds = time.process_time() - start
    words = sum(len(each.tokens) for each in views)
    found = {"texts": len(texts), "words_per_text": words / len(texts), "texts_per_second": len(texts) / seconds,
             "words_per_second": words / seconds}  # fmt: skip
    found |= {f"{name}_share": replaced(views, name) for name in ("synonym", "antonym")}
    found["with_antonym"] = sum(each.antonym is not None for each in views) / len(views)
    found["own_first"] = own_first(views[:: -(-len(views) // BATCH)])
    return found | {"filled_share": replaced(list(semantic_views(texts, random_share=0.5)), "antonym")}


def replaced(views: list[SemanticViews], name: str) -> float:
    """Share of the words of texts that have a version which it replaces."""
    flags = [view.replaced for each in views if (view := getattr(each, name)) is not None]
    return sum(map(sum, flags)) / sum(map(len, flags))


def own_first(views: list[SemanticViews]) -> float:
    """How often, by idf bags of words, a text's own antonym version is nearer than all other texts and versions."""
    both = [each for each in views if each.antonym is not None]
    originals = [each.original for each in both]
    antonyms = [each.antonym.text for each in both if each.antonym is not None]
    x = TfidfVectorizer().fit_transform([*originals, *antonyms])
    similarities = (x[: len(both)] @ x.T).toarray()
    own = similarities[:, len(both) :].diagonal().copy()
    np.fill_diagonal(similarities, -1)
    np.fill_diagonal(similarities[:, len(both) :], -1)
    return float(np.mean(own > similarities.max(axis=1)))


def part_of_speech() -> dict[str, float]:
    """How often the most frequent part of speech is that of a word in the hand-tagged texts."""
    totals, best, parts = Counter[str](), Counter[str](), Counter[str]()
    for (_, lemma), count in WordNet().files.counts.items():
        totals[lemma] += count
        best[lemma] = max(best[lemma], count)
        parts[lemma] += 1
    several = [lemma for lemma, count in parts.items() if count > 1]
    shares = (sum(best[each] for each in of) / sum(totals[each] for each in of) for of in (totals, several))
    return {**dict(zip(("right", "right_of_several"), shares, strict=True)), "tagged_words": sum(totals.values())}


def cost(n: int, runs: int) -> dict[str, Any]:
    """Milliseconds of the losses."""
    z = [torch.randn(n, DIMENSIONS, requires_grad=True) for _ in range(3)]
    pairs, plain, treated = NTXentLoss(0.1), SemanticNegativeLoss(0.1), SemanticNegativeLoss(0.1, Treatment(0.1, 0.7))

    def step(value: Tensor) -> None:
        value.backward()  # type: ignore[no-untyped-call]

    contenders = {"ntxent": lambda: step(pairs(*z[:2])), "plain": lambda: step(plain(*z)),
                  "treated": lambda: step(treated(*z))}  # fmt: skip
    found = median_ms(contenders, runs)
    row: dict[str, Any] = {f"{name}_ms": ms for name, ms in found.items()}
    return {"n": n, **row, "treated_over_ntxent": found["treated"] / found["ntxent"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[128, 512, 2048])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--output", type=Path, default=Path("lab/benchmarks/results/semantic.jsonl"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    common = {"benchmark": "semantic", **environment(1)}
    rows: list[dict[str, Any]] = []
    folder = Path(os.environ["PAIRSIFT_DATA"]) if "PAIRSIFT_DATA" in os.environ else None
    for name in SETS:
        if folder is not None:
            texts = pq.read_table(folder / name / "train.parquet")["text"].to_pylist()
            rows.append({**common, "set": name, **made(texts)})
            emit(rows, options.output)
    rows.append({**common, "part_of_speech": part_of_speech()})
    emit(rows, options.output)
    for n in options.sizes:
        rows.append({**common, **cost(n, options.runs)})
        emit(rows, options.output)


if __name__ == "__main__":
    main()
