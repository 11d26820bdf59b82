"""The table of examples behind a `GuideMask`, the margin and floor chosen from it, and counts of masked pairs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from pairsift._base.checks import real_array, unmasked
from pairsift._base.extras import needs
from pairsift._base.words import counted
from pairsift.pairs.selector import RowIndex, unit_rows
from pairsift.pairs.text_keys import text_keys

# Stands for an unknown text, example or label, and equals no known one.
UNKNOWN = -1
# Known pairs in the sample for a median rank; its error is then a few per mille.
_SAMPLE = 2048
# `torch.quantile` takes at most 2^24 values.
_QUANTILE_ROWS = 2**23
# Standard deviation of a normal distribution over its median absolute deviation.
_NORMAL = 1.4826
# Files of an inspection that hold the guide's features of each text, and the texts' keys.
FEATURES, FEATURE_KEYS = "features.npy", "feature_keys.npy"


class Cells(NamedTuple):
    """R cells of the table, each one text of an example.

    Attributes:
        guide: (R, D) unit guide features, float32.
        own: (R,) similarity of the example's own pair, float32.
        text, partner: (R,) int64 numbers of the cell's text and of the text that it is paired with.
        example: (R,) position of the example; UNKNOWN for hard negatives.
        label: (R,) int64; UNKNOWN where not given, and for hard negatives.
    """

    guide: Tensor
    own: Tensor
    text: Tensor
    partner: Tensor
    example: Tensor
    label: Tensor


class GuideTable:
    """Guide features and texts of N examples, in columns: anchors, positives, and hard negatives if any.

    Args:
        columns: (N, D) guide features of each column.
        texts: N texts or (N,) integer keys of each column; None where only examples are told apart.
        labels: (N,) integers >= 0 of anchors and positives, for counts; None where unknown.
        ids: (N,) distinct integers that name the examples; None names them by their positions.

    Attributes:
        features: (N, D) unit rows of each column, float32.
        own: (N,) similarity of each anchor with its positive.
        ids: (N, columns) numbers of the texts; equal texts have equal numbers.
        labels: (N,) int64; UNKNOWN where not given.
        index: finds examples by their ids.
        texts: N texts of each column; None where keys or nothing were given.

    Raises:
        TypeError: a column that is missing or not an array, or texts that are not strings or keys.
        ValueError: columns of several shapes, not finite, or empty texts.
    """

    def __init__(
        self, columns: Sequence[ArrayLike], texts: Sequence[Any] | None = None, labels: ArrayLike | None = None,
        ids: ArrayLike | None = None,
    ) -> None:  # fmt: skip
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
        self.index = RowIndex(self.n, ids, "the mask was fitted to")
        self.own = (self.features[0] * self.features[1]).sum(dim=1)
        self.ids = self._numbered(texts, names)
        words = texts is not None and all(isinstance(column[0], str) for column in texts)
        self.texts = [list(column) for column in texts] if words and texts is not None else None
        self.labels = torch.full((self.n,), UNKNOWN, dtype=torch.int64)
        if labels is not None:
            given = unmasked(labels, "labels")
            if given.shape != (self.n,) or given.dtype.kind not in "iu" or not (given >= 0).all():
                raise ValueError(f"labels must be ({self.n},) integers >= 0, got {given.dtype} {given.shape}")
            self.labels = torch.from_numpy(given.astype(np.int64))

    def cells(self, rows: Tensor, columns: Tensor) -> Cells:
        """The cells at (R,) positions of examples and (R,) columns.

        Raises:
            ValueError: a column that the table lacks.
        """
        if len(columns) and int(columns.max()) >= len(self.features):
            raise ValueError(
                f"the mask was fitted to {len(self.features)} columns (anchors, positives and "
                f"{len(self.features) - 2} of hard negatives), and a batch has {int(columns.max()) + 1}"
            )
        guide = torch.empty(len(rows), self.width, dtype=torch.float32)
        for column, features in enumerate(self.features):
            chosen = columns == column
            guide[chosen] = features[rows[chosen]]
        negative = columns > 1
        partner = self.ids[rows, torch.where(negative, 0, 1 - columns)]
        return Cells(
            guide,
            self.own[rows].masked_fill(negative, UNKNOWN),
            self.ids[rows, columns],
            *(each.masked_fill(negative, UNKNOWN) for each in (partner, rows, self.labels[rows])),
        )

    def _numbered(self, texts: Sequence[Any] | None, names: list[str]) -> Tensor:
        """Numbers (N, columns) of texts; without texts every cell has its own number."""
        shape = (self.n, len(names))
        if texts is None:
            return torch.arange(self.n * len(names)).view(shape)
        if len(texts) != len(names):
            raise ValueError(f"texts must hold {len(names)} columns ({', '.join(names)}), got {len(texts)}")
        keys = np.stack([_keys(column, name, self.n) for column, name in zip(texts, names, strict=True)], axis=1)
        return torch.from_numpy(np.unique(keys, return_inverse=True)[1].reshape(shape))


def spread_margin(own: Tensor) -> float:
    """Margin of a guide: the spread of the similarities of known positives, relative to their median.

    A false negative could have been the anchor's positive, so under the guide it is as similar as known positives are.
    A margin of 0 (GISTEmbed) finds the half of them above the anchor's own positive. A margin of one standard deviation
    finds 76 % where similarities are normal (`Phi(1 / sqrt 2)`). The deviation is estimated from the median absolute
    deviation, which a tenth of wrong pairs hardly moves.

    Args:
        own: (N,) guide similarities of known positives.

    Returns:
        In [0, 1]; 1 where known positives are so unlike that the guide is useless.
    """
    median = own.median()
    spread = _NORMAL * (own - median).abs().median()
    return min(1.0, float(spread / median.abs().clamp_min(1e-6)))


def likely_floor(own: Tensor) -> float:
    """Least similarity of a false negative: the 90th percentile of known positives.

    The margin compares a candidate only with the anchor's own positive. Where that positive is far away, the hardest
    true negatives are closer, and they outnumber false negatives. On banking77's training questions 13 % of the pairs
    that a margin of 0 masks are of one intent, and 92 % with this floor, which finds an eighth of such pairs.

    Args:
        own: (N,) guide similarities of known positives.
    """
    return float(torch.quantile(own[:_QUANTILE_ROWS], 0.9))


def median_rank(table: GuideTable, seed: int = 0) -> float:
    """Median rank of the own positive among the candidates of a sample, as a share of them, in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(table.n, generator=generator)[:_SAMPLE]
    anchors, positives = (table.features[column][rows] for column in (0, 1))
    above = torch.zeros(len(rows), dtype=torch.float32)
    for start in range(0, len(rows), 256):
        own = table.own[rows[start : start + 256], None]
        closer = anchors[start : start + 256] @ positives.T > own
        # Another copy of the positive's text is as similar up to rounding, and does not count.
        same = table.ids[rows, 1] == table.ids[rows[start : start + 256], 1, None]
        above[start : start + 256] = (closer & ~same).sum(dim=1).float()
    return float(above.median() / max(1, len(rows) - 1))


@dataclass(frozen=True)
class GuideReport:
    """Counts over all batches so far, without the own pairs of anchors.

    Attributes:
        pairs: pairs of an anchor and a candidate; both directions of a symmetric loss count.
        guide: pairs masked by the guide.
        identity: pairs masked because the texts are the same.
        rows: anchors.
        rows_off: anchors whose guide mask would have exceeded the cap and was ignored.
        labelled: pairs whose labels are both known.
        same: labelled pairs of one label.
        masked: labelled pairs that are masked.
        hits: labelled pairs of one label that are masked.
    """

    pairs: int
    guide: int
    identity: int
    rows: int
    rows_off: int
    labelled: int
    same: int
    masked: int
    hits: int

    @property
    def precision(self) -> float:
        """Share of masked pairs that are of one label, in [0, 1]; nan where there are none."""
        return self.hits / self.masked if self.masked else float("nan")

    @property
    def recall(self) -> float:
        """Share of pairs of one label that are masked, in [0, 1]; nan where there are none."""
        return self.hits / self.same if self.same else float("nan")

    def __str__(self) -> str:
        share = 100 * (self.guide + self.identity) / self.pairs if self.pairs else 0.0
        words = (
            f"{self.pairs} pairs seen, {share:.2f} % masked: {self.guide} by the guide, {self.identity} as identical; "
            f"the cap left {self.rows_off} of {self.rows} rows alone"
        )
        if self.labelled:
            words += f"; {100 * self.precision:.1f} % of the masked are of one label, "
            words += f"and {100 * self.recall:.1f} % of such pairs are masked"
        return words


class Counter:
    """Adds up the counts of a `GuideReport` on the device of the masks, so that no step waits for them."""

    def __init__(self) -> None:
        self._counts: Tensor = torch.zeros(len(fields(GuideReport)), dtype=torch.int64)

    def add(self, counts: list[int | Tensor]) -> None:
        """Add counts, in the order of `GuideReport`."""
        device = next((each.device for each in counts if isinstance(each, Tensor)), self._counts.device)
        new = torch.stack([torch.as_tensor(each, dtype=torch.int64, device=device) for each in counts])
        self._counts = self._counts.to(device) + new

    def report(self) -> GuideReport:
        """The counts so far."""
        return GuideReport(*self._counts.tolist())

    def get_state(self) -> dict[str, Tensor]:
        """The counts as a tensor."""
        return {"counts": self._counts}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore the result of `get_state`."""
        if "counts" in state:
            self._counts = torch.as_tensor(state["counts"], dtype=torch.int64).clone()


def encoded(
    encode: Callable[[list[str]], Any], columns: Sequence[Sequence[str]]
) -> tuple[list[NDArray[Any]], list[list[str]]]:
    """(N, D) features of each column of N texts, every distinct text encoded once, and the texts.

    Raises:
        ValueError: a text that is missing or empty.
    """
    texts = [list(column) for column in columns]
    if not all(isinstance(text, str) and text.strip() for column in texts for text in column):
        raise ValueError("every example needs a text in each column, none missing and none empty")
    distinct = list(dict.fromkeys(text for column in texts for text in column))
    place = {text: i for i, text in enumerate(distinct)}
    features = np.asarray(encode(distinct))
    return [features[[place[text] for text in column]] for column in texts], texts


def inspected(
    folder: Path, data: Any, columns: Sequence[str] | None, labels: ArrayLike | None
) -> tuple[GuideTable, dict[str, Any]]:
    """The table of examples of an inspection, and the facts of its guide; see `GuideMask`.

    Raises:
        FileNotFoundError: the folder holds no inspection, or one without guide features.
        ValueError: rows without a text in each column, or texts that the inspection does not know.
    """
    with needs("scan", "GuideMask.from_inspection"):
        import pyarrow as pa
        import pyarrow.parquet as pq
    try:
        facts = json.loads((folder / "pairs.json").read_text(encoding="utf-8"))
        keys = np.load(folder / FEATURE_KEYS)
        features = np.load(folder / FEATURES, mmap_mode="r")
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{folder} holds no guide features ({Path(str(error.filename)).name} is missing): inspect texts with a "
            "guide model and an output folder first"
        ) from error
    names = list(facts["columns"] if columns is None else columns)
    if data is not None:
        held = getattr(data, "column_names", data)
        missing = [name for name in names if not hasattr(data, "__getitem__") or name not in held]
        if missing:
            shown = ", ".join(map(str, held)) if hasattr(held, "__iter__") else type(data).__name__
            raise ValueError(f"the data has no column {missing[0]!r} ({shown}): name its columns with `columns`")
    if data is None:
        table = pq.read_table(folder / "clean.parquet", columns=names)
    elif isinstance(data, pa.Table):
        table = data.select(names)
    else:  # a data set, a data frame, or a mapping of columns
        table = pa.table({name: pa.array(list(data[name])) for name in names})
    texts = [_column_texts(table[name].to_pylist(), name) for name in names]
    order = np.argsort(keys)
    found = [text_keys(column) for column in texts]
    places = [order[np.searchsorted(keys[order], each).clip(max=len(keys) - 1)] for each in found]
    unknown = sum(int((keys[place] != each).sum()) for place, each in zip(places, found, strict=True))
    if unknown:
        raise ValueError(
            f"{unknown:,} of {sum(map(len, found)):,} texts are not in {folder}: inspect the data that is trained on, "
            "or take rows of its clean.parquet"
        )
    return GuideTable([features[place] for place in places], texts, labels), facts["guide"]


def _column_texts(values: list[Any], name: str) -> list[str]:
    """The texts of a column; trainers take no lists of texts."""
    if any(isinstance(each, list) for each in values):
        raise ValueError(
            f"column {name!r} holds lists of texts, which trainers do not take: write a column for each negative "
            "(negative_1, negative_2, ...) and inspect those"
        )
    missing = sum(not (isinstance(each, str) and each.strip()) for each in values)
    if missing:
        raise ValueError(
            f"column {name!r} has no text in {counted(missing, 'row')}: every example needs one in each column"
        )
    return values


def _unit(column: Any, name: str) -> Tensor:
    if column is None:
        raise TypeError(f"guide features of {name} are None: every example needs a positive, so leave others out")
    features = torch.from_numpy(real_array(column, f"guide features of {name}"))
    return unit_rows(features, f"guide features of {name}")


def _keys(column: Any, name: str, n: int) -> NDArray[np.int64]:
    """Keys (N,) of a column of texts or of keys."""
    if column is None or isinstance(column, str):
        raise TypeError(f"texts of {name} must be a list of {n} texts or keys, got {column!r}")
    if len(column) != n:
        raise ValueError(f"texts of {name} must be {n}, one an example, got {len(column)}")
    given = unmasked(column, f"texts of {name}")
    if given.dtype.kind in "iu":
        return given.astype(np.int64)
    for i, text in enumerate(column):
        if not isinstance(text, str):
            raise TypeError(f"text {i} of {name} is {text!r}, not a string: leave such examples out")
        if not text.strip():
            raise ValueError(f"text {i} of {name} is empty, and all empty texts would count as one: leave it out")
    return text_keys(column)
