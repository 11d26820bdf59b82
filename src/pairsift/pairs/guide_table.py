"""What a guide knows of every example: its features, the similarity of its own pair, and which texts are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pairsift.pairs.identity import text_keys
from pairsift.pairs.rows import unit_rows

# Numbers behind features are float32, which holds whole numbers up to here exactly.
_MOST = 2**24
# Columns behind guide features: similarity of the own pair, text, text of the partner, example, label.
CODES = 5
# No number of a text, an example or a label is this: never equal to another's.
UNKNOWN = -1


class GuideTable:
    """Guide features of N examples, a column of texts each: anchors, positives, and hard negatives if any.

    Args:
        columns: (N, D) guide features of each column.
        texts: of each column, N texts or (N,) integer keys; None where only examples are told apart.
        labels: (N,) integer labels of anchors and positives, for counting only; None where they are not known.

    Attributes:
        features: (N, D) unit rows of each column, float32.
        own: (N,) similarity of each anchor with its positive.
        ids: (N, columns) numbers of the texts, equal where the texts are.
        labels: (N,) float32; UNKNOWN where not given.
        texts: N texts of each column; None where keys or nothing were given.

    Raises:
        TypeError: a column that is missing or no array, or texts that are none.
        ValueError: columns of several shapes, not finite, empty texts, or too many of them.
    """

    def __init__(
        self, columns: Sequence[ArrayLike], texts: Sequence[Any] | None = None, labels: ArrayLike | None = None
    ) -> None:
        names = ["anchors", "positives", *(f"negatives {i}" for i in range(len(columns) - 2))]
        self.features = [_unit(column, name) for column, name in zip(columns, names, strict=True)]
        shape = tuple(self.features[0].shape)
        for name, column in zip(names, self.features, strict=True):
            if tuple(column.shape) != shape:
                raise ValueError(
                    f"guide features of {name} are {tuple(column.shape)} and those of anchors {shape}: every column "
                    "needs a row for each example, from one guide"
                )
        self.n, self.width = shape
        self.own = (self.features[0] * self.features[1]).sum(dim=1)
        self.ids = self._numbered(texts, names)
        words = texts is not None and all(isinstance(column[0], str) for column in texts)
        self.texts = [list(column) for column in texts] if words and texts is not None else None
        self.labels = torch.full((self.n,), float(UNKNOWN))
        if labels is not None:
            given = np.asarray(labels)
            if given.shape != (self.n,) or given.dtype.kind not in "iu" or not ((given >= 0) & (given <= _MOST)).all():
                wanted = f"({self.n},) integers in [0, {_MOST}]"
                raise ValueError(f"labels must be {wanted}, got {given.dtype} {given.shape}")
            self.labels = torch.from_numpy(given.astype(np.float32))

    def codes(self, rows: Tensor, column: int) -> Tensor:
        """(R, CODES) what stands behind the guide features of some rows; hard negatives are nobody's pair."""
        unknown = torch.full((len(rows),), float(UNKNOWN))
        text = self.ids[rows, column].float()
        if column > 1:
            return torch.stack([unknown, text, unknown, unknown, unknown], dim=1)
        partner = self.ids[rows, 1 - column].float()
        return torch.stack([self.own[rows], text, partner, rows.float(), self.labels[rows]], dim=1)

    def _numbered(self, texts: Sequence[Any] | None, names: list[str]) -> Tensor:
        """Numbers of texts; without texts, of the cells of the table, an anchor never being its positive's text."""
        shape = (self.n, len(names))
        if texts is None:
            ids = np.arange(self.n * len(names)).reshape(shape)
        else:
            if len(texts) != len(names):
                raise ValueError(f"texts must hold {len(names)} columns ({', '.join(names)}), got {len(texts)}")
            keys = np.stack([_keys(c, name, self.n) for c, name in zip(texts, names, strict=True)], axis=1)
            ids = np.unique(keys, return_inverse=True)[1].reshape(shape)
        if ids.max(initial=0) > _MOST:
            raise ValueError(f"a guide mask tells at most {_MOST} texts apart, got {ids.max() + 1}: fit it to shards")
        return torch.from_numpy(ids)


def encoded(
    encode: Callable[[list[str]], Any], columns: Sequence[Sequence[str]]
) -> tuple[list[NDArray[Any]], list[list[str]]]:
    """(N, D) features of each column of N texts, every text encoded once, and the texts.

    Raises:
        ValueError: a text that is missing or empty.
    """
    texts = [list(column) for column in columns]
    for column in texts:
        if not all(isinstance(text, str) and text.strip() for text in column):
            raise ValueError("every example needs a text in each column, none missing and none empty")
    distinct = list(dict.fromkeys(text for column in texts for text in column))
    place = {text: i for i, text in enumerate(distinct)}
    features = np.asarray(encode(distinct))
    return [features[[place[text] for text in column]] for column in texts], texts


def _unit(column: Any, name: str) -> Tensor:
    if column is None:
        raise TypeError(f"guide features of {name} are None: every example needs a positive, so leave others out")
    features = torch.as_tensor(np.asarray(column) if not isinstance(column, Tensor) else column.detach().cpu())
    return unit_rows(features, f"guide features of {name}")


def _keys(column: Any, name: str, n: int) -> np.ndarray[Any, Any]:
    if column is None or isinstance(column, str):
        raise TypeError(f"texts of {name} must be a list of {n} texts or keys, got {column!r}")
    if len(column) != n:
        raise ValueError(f"texts of {name} must be {n}, one an example, got {len(column)}")
    given = np.asarray(column)
    if given.dtype.kind in "iu":
        return given.astype(np.int64)
    for i, text in enumerate(column):
        if not isinstance(text, str):
            raise TypeError(f"text {i} of {name} is {text!r}, not a string: leave such examples out")
        if not text.strip():
            raise ValueError(f"text {i} of {name} is empty, and all empty texts would count as one: leave it out")
    return text_keys(column)
