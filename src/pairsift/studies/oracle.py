"""The oracle: the selection that labels would make, as the most that any estimate of them can be worth."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pairsift.pairs import GivenMasks, Precision
from pairsift.train import Evidence
from pairsift.treatments import NOTHING


class OracleMasks(GivenMasks):
    """The most similar pairs of truly different classes, and which pairs are of one class.

    Args:
        pairs: (B, K) bool, the flagged ones.
        same: (B, K) bool, pairs of one class.
        own: column of the first row itself, the others following; None where rows are not among the keys.
    """

    def __init__(self, pairs: Tensor, same: Tensor, own: int | None) -> None:
        super().__init__(pairs)
        self._logs = torch.where(same, NOTHING, 0.0)
        if own is not None:
            self._logs.diagonal(own).zero_()

    def log_weights(self, start: int, stop: int) -> Tensor:
        """(stop - start, K) log P(different class): 0, or minus a huge number for a pair of one class."""
        return self._logs[start:stop].clone()


class OracleSelector:
    """Flags, of every row, the most similar pairs of different classes; features carry the class as a last column.

    Args:
        share: of all keys that is flagged, in (0, 1]; less where fewer are of different classes.
    """

    def __init__(self, share: float) -> None:
        self.share = share

    @torch.no_grad()
    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *, precision: Precision = "fp32"
    ) -> OracleMasks:
        """The pairs of (B, D + 1) rows with (K, D + 1) keys, held whole; see `Selector`."""
        others = h if keys is None else keys
        same = h[:, -1:] == others[:, -1]
        with torch.autocast(h.device.type, enabled=False):
            similar = F.normalize(h[:, :-1].float(), dim=1) @ F.normalize(others[:, :-1].float(), dim=1).T
        similar = similar.masked_fill(same, -torch.inf)
        nearest = similar.topk(max(1, round(self.share * len(others))), dim=1).indices
        pairs = torch.zeros_like(same).scatter_(1, nearest, True) & ~same
        return OracleMasks(pairs, same, 0 if keys is None else own)


class OracleEvidence(Evidence):
    """The labels of the training images.

    Args:
        labels: (N,) class numbers.
        share: see `OracleSelector`.
    """

    def __init__(self, labels: NDArray[Any], share: float) -> None:
        super().__init__()
        self.selector = OracleSelector(share)
        self._labels = torch.from_numpy(labels).float()

    def attach(self, h: Tensor, rows: Tensor) -> Tensor:
        labels = self._labels.to(h.device)[rows]
        return torch.cat([h.detach().float(), labels[:, None]], dim=1)
