"""A selector that knows the labels, exactly or with errors. It bounds what an estimate of the classes can gain."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pairsift.pairs import GivenMasks, Precision, Selector
from pairsift.pairs.selector import need_rows
from pairsift.train import PairPolicy
from pairsift.treatments import EXCLUDED

# Steps of Newton's method. It converges in five or six where classes overlap.
_STEPS = 8


class OracleMasks(GivenMasks):
    """Selected pairs, and the weight of every pair in the denominator.

    Args:
        pairs: (B, K) bool, the selected pairs.
        logs: (B, K) log P(different class).
        own: column of the first row among the keys; None where rows are not among the keys.
    """

    def __init__(self, pairs: Tensor, logs: Tensor, own: int | None) -> None:
        super().__init__(pairs)
        self._logs = logs
        if own is not None:
            self._logs.diagonal(own).zero_()

    def log_weights(self, start: int, stop: int) -> Tensor:
        """(stop - start, K) log P(different class), at most 0; EXCLUDED for certain same-class pairs."""
        return self._logs[start:stop].clone()


class OracleSelector(Selector):
    """Selects the most similar pairs of different classes of every row.

    Args:
        labels: (N,) class numbers of all examples.
        share: largest share of keys to select, in (0, 1].
        mistaken: share of same-class pairs that are selected too, in [0, 1].
        missed: share of different-class pairs that are never selected, in [0, 1).
        auroc: None uses the labels. A number in [0.5, 1) uses a calibrated estimate of the class of pairs, whose AUROC
            at any similarity is this number.
        confidence: least P(different class) of a selected pair, with an estimate.
        noise: (N, N) normal numbers, the errors of pairs of examples, which stay the same through training.
    """

    def __init__(
        self, labels: Tensor, share: float, noise: Tensor | None = None, *, mistaken: float = 0.0, missed: float = 0.0,
        auroc: float | None = None, confidence: float = 0.8,
    ) -> None:  # fmt: skip
        self.labels = labels
        self.share, self.mistaken, self.missed, self.confidence = share, mistaken, missed, confidence
        self.distance = None if auroc is None else math.sqrt(2) * NormalDist().inv_cdf(auroc)
        self.noise = noise

    @torch.no_grad()
    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, precision: Precision = "fp32",
    ) -> OracleMasks:  # fmt: skip
        """Select among the pairs of (B, D) rows with (K, D) keys; see `Selector`."""
        others = h if keys is None else keys
        rows, columns = need_rows(self, keys, rows, key_rows)
        labels = self.labels.to(h.device)
        same = labels[rows][:, None] == labels[columns]
        with torch.autocast(h.device.type, enabled=False):
            similar = F.normalize(h.detach().float(), dim=1) @ F.normalize(others.detach().float(), dim=1).T
        image = rows[:, None] == columns
        errors = None if self.noise is None else _of_pairs(self.noise, rows, columns)
        if self.distance is None:
            logs = similar.new_zeros(same.shape).masked_fill(same, EXCLUDED)
            candidates = ~same
        else:
            assert errors is not None
            logs = _judged(similar, same, image, errors, self.distance)
            candidates = (logs >= math.log(self.confidence)) & ~image
        if self.missed and errors is not None:
            candidates &= errors > NormalDist().inv_cdf(self.missed)
        most = max(1, round(self.share * len(others)))
        nearest = similar.masked_fill(~candidates, -torch.inf).topk(most, dim=1).indices
        pairs = torch.zeros_like(same).scatter_(1, nearest, True) & candidates
        if self.mistaken and errors is not None:
            pairs |= same & ~image & (errors <= _quantile(self.mistaken))
        return OracleMasks(pairs, logs, 0 if keys is None else own)


class OraclePolicy(PairPolicy):
    """Selects pairs by the labels of the training images.

    Args:
        labels: (N,) class numbers.
        share: see `OracleSelector`.
        seed: seed of the errors.
        **errors: `mistaken`, `missed`, `auroc` and `confidence` of `OracleSelector`.
    """

    def __init__(self, labels: NDArray[Any], share: float, seed: int = 0, **errors: float) -> None:
        super().__init__()
        noise = None
        if errors:
            generator = torch.Generator().manual_seed(seed)
            noise = torch.randn(len(labels), len(labels), generator=generator, dtype=torch.float32).half()
        self.selector = OracleSelector(torch.from_numpy(labels), share, noise, **errors)


def _of_pairs(noise: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """(B, K) errors, equal for (i, j) and (j, i)."""
    first, second = torch.minimum(rows[:, None], columns), torch.maximum(rows[:, None], columns)
    return noise.to(rows.device)[first, second].float()


def _quantile(share: float) -> float:
    return NormalDist().inv_cdf(share) if share < 1 else math.inf


def _judged(similar: Tensor, same: Tensor, image: Tensor, errors: Tensor, distance: float) -> Tensor:
    """(B, K) log P(different class), given the similarity and an independent normal variable.

    The variable has standard deviation 1, and mean `distance` for same-class pairs, 0 for the others.
    """
    log_ratio = distance * (distance * same + errors) - distance**2 / 2
    slope, offset = _logistic(similar[~image], same[~image])
    return F.logsigmoid(-(slope * similar + offset + log_ratio))


def _logistic(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and offset of the logistic regression of y (bool) on x."""
    design = torch.stack([x, torch.ones_like(x)], dim=1).double()
    weights = torch.zeros(2, dtype=torch.float64, device=x.device)
    for _ in range(_STEPS):
        p = torch.sigmoid(design @ weights)
        hessian = design.T @ (design * (p * (1 - p))[:, None]) + 1e-6 * torch.eye(2, dtype=p.dtype, device=p.device)
        weights = weights + torch.linalg.solve(hessian, design.T @ (y.double() - p))
    return weights[0].float(), weights[1].float()
