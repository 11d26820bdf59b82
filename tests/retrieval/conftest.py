"""Pairs of a few topics, and what is found in them by nested loops."""

from functools import cache

import numpy as np
import pyarrow as pa
import pytest


class Loops:
    """The rules of docs/retrieval-rules.md, one pair of rows at a time; all rows usable."""

    def __init__(self, anchors, positives, margin, floor, cap):
        self.a, self.p = (unit(each) for each in (anchors, positives))
        self.n, self.margin, self.floor, self.cap = len(self.a), margin, floor, cap
        self.own = [float(self.a[i] @ self.p[i]) for i in range(self.n)]

    def same(self, x, y):
        return bool((x == y).all())

    @cache  # noqa: B019 (a test is short)
    def known(self, i):
        """Anchor i, and the positives of rows with the same anchor."""
        return [self.a[i]] + [self.p[k] for k in range(self.n) if self.same(self.a[k], self.a[i])]

    @cache  # noqa: B019
    def identical(self, i, j):
        """Whether positive j is one of those."""
        return any(self.same(self.p[j], each) for each in self.known(i))

    @cache  # noqa: B019
    def rank(self, i):
        rivals = [j for j in range(self.n) if not self.identical(i, j)]
        return sum(float(self.a[i] @ self.p[j]) > self.own[i] for j in rivals) / max(1, len(rivals))

    def edge(self, i):
        return self.own[i] - self.margin * abs(self.own[i])

    def likely(self, i, floor=True):
        """Rows whose positive the guide takes for a false negative of row i."""
        if self.rank(i) > self.cap:
            return []
        least = max(self.edge(i), self.floor) if floor else self.edge(i)
        return [j for j in range(self.n) if not self.identical(i, j) and float(self.a[i] @ self.p[j]) > least]

    def twins(self, i):
        return [j for j in range(self.n) if j != i and self.identical(i, j)]


def unit(features):
    wide = np.asarray(features, np.float64)
    return (wide / np.linalg.norm(wide, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def embeddings():
    """(120, 32) anchors and positives in 24 topics, some anchors, positives and rows repeated."""
    rng = np.random.default_rng(2)
    topics = rng.standard_normal((24, 32)).repeat(5, axis=0)
    anchors, positives = ((topics + 0.5 * rng.standard_normal(topics.shape)).astype(np.float32) for _ in range(2))
    anchors[3], positives[40] = anchors[77], positives[8]
    anchors[50], positives[50] = anchors[20], positives[20]
    return anchors, positives


@pytest.fixture
def table(embeddings):
    """The embeddings as a table."""
    return pa.table({name: list(each) for name, each in zip(("anchor", "positive"), embeddings, strict=True)})


class Words:
    """An encoder whose features are which of some words a text holds; counts how many texts it was asked for."""

    def __init__(self, *words):
        self.words, self.asked = words, 0

    def encode(self, texts):
        self.asked += len(texts)
        return np.array([[1e-3, *(float(word in text.lower()) for word in self.words)] for text in texts], np.float32)


@pytest.fixture
def words():
    """`Words`, the class."""
    return Words


@pytest.fixture
def loops():
    """`Loops`, the class."""
    return Loops
