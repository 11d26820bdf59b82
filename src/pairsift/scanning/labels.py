"""Label errors: how probable the given class of a row is, from the labels of other rows.

Two estimates of the class probabilities are averaged, because each is better on some sets:

- The labelled nearest neighbours vote, the nearer the more, each class divided by its share of the labels.
- A ridge classifier on standardised features. Its leave-one-out predictions have a closed form (Allen's PRESS, 1974):
  the residual of a row over one minus its leverage. So no fit that scores a row has seen its label.

The score of a row is the margin of confident learning (arXiv 1911.00068) as a probability: that of the best other class
over the sum of it and that of the given class.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.special import logsumexp

from pairsift.data import UNLABELLED
from pairsift.neighbors import FloatArray, IntArray, generator

# Labelled neighbours that vote; a neighbour counts exp(cosine / temperature), and all classes share a tenth of the sum.
_VOTERS, _TEMPERATURE, _SMOOTHING = 20, 0.1, 0.1
# Penalties of the ridge in mean eigenvalues, and factors of its scores: both are chosen by leave-one-out predictions.
_PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_SHARPNESS = np.geomspace(0.1, 100, 31)
# Rows that penalty and factor are chosen on; cells of the largest table of probabilities.
_CHOSEN, _CELLS = 10_000, 4_000_000
# A class with fewer labelled rows has nothing that its rows could be compared with.
_FEWEST = 3
_BLOCK = 4096


class LabelScores(NamedTuple):
    """Scores of the labels of B rows.

    Attributes:
        score: (B,) in [0, 1]; above 0.5 another class is more probable than the given one. nan without a label, or in a
            class of fewer than three rows.
        given: (B,) probability of the given class; nan where the score is.
        suggested: (B,) the most probable class; for a labelled row the most probable other one.
        probability: (B,) of the suggested class.
        disagreement: (B,) weighted share of the labelled neighbours that are of other classes; nan without any.
        nearest_other: (B,) reference position of the nearest neighbour of another class, -1 where there is none.
        similarity: (B,) its cosine.
    """

    score: NDArray[np.float32]
    given: NDArray[np.float32]
    suggested: IntArray
    probability: NDArray[np.float32]
    disagreement: NDArray[np.float32]
    nearest_other: IntArray
    similarity: NDArray[np.float32]


def is_issue(labels: IntArray, scores: LabelScores) -> NDArray[np.bool_]:
    """Which rows (N,) probably have a wrong label.

    Another class must be more probable than the given one. Its probability must also reach the mean that rows with this
    label give it (the threshold of confident learning, arXiv 1911.00068).

    Args:
        labels: (N,) classes of all rows, `UNLABELLED` where a row has none.
        scores: of the same rows.
    """
    scored = np.isfinite(scores.score)
    classes, codes = np.unique(np.where(scored, labels, UNLABELLED), return_inverse=True)
    usual = np.bincount(codes, np.nan_to_num(scores.given)) / np.bincount(codes)
    at = np.minimum(np.searchsorted(classes, scores.suggested), len(classes) - 1)
    threshold = np.where(classes[at] == scores.suggested, usual[at], np.inf)
    issues: NDArray[np.bool_] = scored & (scores.score > 0.5) & (scores.probability >= threshold)
    return issues


def issue_table(labels: IntArray, scores: LabelScores) -> pa.Table:
    """The rows that are label issues, the most certain first, with columns as in `pairsift.Scan.label_issues`.

    Args:
        labels: (N,) classes of all rows.
        scores: of the same rows, `nearest_other` as positions among them.
    """
    found = np.flatnonzero(is_issue(labels, scores))
    found = found[np.argsort(-scores.score[found], kind="stable")]
    return pa.table({
        "position": found, "label": labels[found], "suggested": scores.suggested[found], "score": scores.score[found],
        "disagreement": scores.disagreement[found], "nearest_other": scores.nearest_other[found],
        "similarity": scores.similarity[found],
    })  # fmt: skip


class LabelModel:
    """Class probabilities from labelled reference rows.

    Args:
        sample: (R, D) finite features of the reference rows.
        labels: (R,) classes, `UNLABELLED` where a row has none.
        seed: of the rows that settings are chosen on.

    Raises:
        ValueError: fewer than two classes have three labelled rows.
    """

    def __init__(self, sample: FloatArray, labels: IntArray, seed: int) -> None:
        known = np.flatnonzero(labels != UNLABELLED)
        self.classes, codes, counts = np.unique(labels[known], return_inverse=True, return_counts=True)
        self._large = counts >= _FEWEST
        if self._large.sum() < 2:
            raise ValueError(
                f"label errors need two classes with {_FEWEST} labelled rows each, got {int(self._large.sum())}"
            )
        self._codes = np.full(len(sample), -1, np.int64)
        self._codes[known] = codes
        self._priors = counts / counts.sum()
        self._count = len(known)
        self._fit(sample, known, seed)

    def codes(self, labels: IntArray) -> IntArray:
        """Places of labels among the classes of the model, -1 for a class that it has not seen, or none."""
        at = np.minimum(np.searchsorted(self.classes, labels), len(self.classes) - 1)
        return np.where((self.classes[at] == labels) & (labels != UNLABELLED), at, -1)

    def score(
        self, features: FloatArray, labels: IntArray, positions: IntArray, neighbours: IntArray, cosines: FloatArray
    ) -> LabelScores:
        """Score the labels of a block of rows.

        Args:
            features: (B, D), divided by what the sample was divided by.
            labels: (B,), `UNLABELLED` where a row has none.
            positions: (B,) reference positions, -1 for rows beyond the reference.
            neighbours: (B, k) reference positions, nearest first, without the row itself, -1 past the end.
            cosines: (B, k).
        """
        step = max(1, _CELLS // len(self.classes))
        cuts = [slice(start, start + step) for start in range(0, len(features), step)]
        parts = [self._score(features[cut], labels[cut], positions[cut], neighbours[cut], cosines[cut]) for cut in cuts]
        return LabelScores(*(np.concatenate(each) for each in zip(*parts, strict=True)))

    def _score(
        self, features: FloatArray, labels: IntArray, positions: IntArray, neighbours: IntArray, cosines: FloatArray
    ) -> LabelScores:
        rows, codes = np.arange(len(features)), self.codes(labels)
        theirs = np.where(neighbours >= 0, self._codes[neighbours], -1)
        votes, disagreement = self._votes(theirs, cosines, codes)
        # A row's own label takes part in the fit where the row is in the reference and labelled there.
        fitted = np.where((positions >= 0) & (self._codes[positions] >= 0), codes, -1)
        probabilities = (votes + self._linear(features, fitted)) / 2
        own = probabilities[rows, codes]
        others = probabilities.copy()
        others[rows[codes >= 0], codes[codes >= 0]] = -1
        suggested = others.argmax(axis=1)
        best = others[rows, suggested]
        scored = (codes >= 0) & self._large[codes]
        score = np.where(scored, best / np.maximum(best + own, np.finfo(np.float64).tiny), np.nan)
        strange = (theirs >= 0) & (codes[:, None] >= 0) & (theirs != codes[:, None])
        at = strange.argmax(axis=1)
        found = strange.any(axis=1)
        return LabelScores(
            score.astype(np.float32), np.where(scored, own, np.nan).astype(np.float32), self.classes[suggested],
            best.astype(np.float32), disagreement.astype(np.float32),
            np.where(found, neighbours[rows, at], -1), np.where(found, cosines[rows, at], np.nan).astype(np.float32),
        )  # fmt: skip

    def _votes(
        self, theirs: IntArray, cosines: FloatArray, codes: IntArray
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Probabilities (B, K) by the votes of the first labelled neighbours, and the share of those that disagree."""
        voting = (theirs >= 0) & (np.cumsum(theirs >= 0, axis=1) <= _VOTERS)
        weights = np.exp((cosines.astype(np.float64) - 1) / _TEMPERATURE) * voting
        total = weights.sum(axis=1)
        against = (weights * (theirs != codes[:, None])).sum(axis=1)
        disagreement = np.divide(against, total, out=np.full(len(total), np.nan), where=(total > 0) & (codes >= 0))
        classes = len(self.classes)
        cells = (np.arange(len(theirs))[:, None] * classes + np.maximum(theirs, 0)).ravel()
        counts = np.bincount(cells, weights.ravel(), len(theirs) * classes).reshape(-1, classes)
        votes = counts / (classes * self._priors)
        votes += np.maximum(_SMOOTHING * total, np.finfo(np.float64).tiny * classes)[:, None] / classes
        return votes / votes.sum(axis=1, keepdims=True), disagreement

    def _fit(self, sample: FloatArray, known: IntArray, seed: int) -> None:
        """Fit the ridge on the labelled rows, and choose its penalty and the sharpness of its probabilities."""
        blocks = [known[start : start + _BLOCK] for start in range(0, len(known), _BLOCK)]
        self._centre = sum(sample[block].sum(axis=0, dtype=np.float64) for block in blocks) / self._count
        variance = sum(((sample[block] - self._centre) ** 2).sum(axis=0) for block in blocks) / self._count
        self._scale = np.divide(1, np.sqrt(variance), out=np.zeros_like(variance), where=variance > 0)
        width, classes = sample.shape[1], len(self.classes)
        gram, cross = np.zeros((width, width)), np.zeros((classes, width))
        for block in blocks:
            rows = self._standardised(sample[block])
            gram += rows.T @ rows
            np.add.at(cross, self._codes[block], rows)
        values, self._axes = np.linalg.eigh(gram / self._count)
        self._values, self._weights = np.maximum(values, 0), self._axes.T @ cross.T / self._count
        chosen = np.sort(generator(seed).choice(known, min(len(known), _CHOSEN), replace=False))
        rows, codes = self._standardised(sample[chosen]) @ self._axes, self._codes[chosen]
        truth = np.arange(len(chosen)), codes
        least = np.inf
        for penalty in _PENALTIES:
            inverse = 1 / (self._values + penalty * (self._values.mean() or 1.0))
            found = self._predicted(rows, inverse, codes)
            error = float((found**2).sum(axis=1).mean() - 2 * found[truth].mean())
            if error < least:
                least, self._inverse, scores = error, inverse, found
        likelihoods = [(each * scores[truth] - logsumexp(each * scores, axis=1)).mean() for each in _SHARPNESS]
        self._sharpness = float(_SHARPNESS[int(np.argmax(likelihoods))])

    def _standardised(self, features: FloatArray) -> NDArray[np.float64]:
        rows: NDArray[np.float64] = (features - self._centre) * self._scale
        return rows

    def _predicted(
        self, rows: NDArray[np.float64], inverse: NDArray[np.float64], fitted: IntArray
    ) -> NDArray[np.float64]:
        """Scores (B, K) of rows in the principal axes; the label of a row that took part in the fit is taken out."""
        scores: NDArray[np.float64] = rows @ (self._weights * inverse[:, None]) + self._priors
        own = np.flatnonzero(fitted >= 0)
        # A leverage of 1 would leave nothing of the fit: the prediction is then the residual's limit.
        leverage = np.minimum((rows[own] ** 2 @ inverse + 1) / self._count, 1 - 1e-6)
        scores[own, fitted[own]] -= leverage
        scores[own] /= (1 - leverage)[:, None]
        return scores

    def _linear(self, features: FloatArray, fitted: IntArray) -> NDArray[np.float64]:
        """Probabilities (B, K) of the ridge classifier."""
        scores = self._sharpness * self._predicted(self._standardised(features) @ self._axes, self._inverse, fitted)
        probabilities: NDArray[np.float64] = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
        return probabilities
