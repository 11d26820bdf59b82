"""P(same class) of any pair of a set, fitted to its features without labels."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from safetensors import SafetensorError
from torch import Tensor

from pairsift._base.checks import real_array
from pairsift._base.files import read_tensors, write_tensors
from pairsift.neighbors import FloatArray, unit_rows
from pairsift.pairs.selector import RowIndex
from pairsift.same_class.codes import signs
from pairsift.same_class.errors import AffinityError
from pairsift.same_class.logit import fold

# Rows below which a graph of neighbours says nothing.
_LEAST_ROWS = 50
# Pairs looked up at a time.
_PAIRS = 50_000


class Affinity:
    """P(same class) of any pair of rows, from the features of a whole set and no labels.

    Four signs of a pair are added up, each standardised over the set's own near pairs: the cosine after whitening with
    strong shrinkage, the cosines in the first 6 and 16 eigenvectors of the self-tuned graph of 30 nearest neighbours,
    and the density around both rows. A logistic turns the sum, and how sharply the set falls into clusters, into a
    probability.

    Nothing is learned from labels of yours. The four constants of the logistic, the same for every set, were fitted
    once on labelled sets (images, digits, sentences; see `pairsift.same_class.calibration`). The *order* of pairs
    within a set is therefore dependable, as far as the features tell classes apart; the *level* of P is rough in
    sets unlike these: in small sets of two or three classes it is too low.

    The probability is a function of two codes, `codes[i]` and `codes[j]`: its logit is the product of all columns but
    the last plus both last ones. A row has probability 1 with itself. Make one with `fit` or `load`.

    Attributes:
        codes: (N, M) float32, on the CPU.
        ids: (N,) int64 by which losses name the rows (`rows=`); None names them by their positions.

    Args:
        codes: (N, M) float32.
        ids: (N,) distinct integers of any size; None takes positions, 0 to N - 1.

    Example:
        >>> import numpy as np
        >>> import pairsift as ps
        >>> rng = np.random.default_rng(0)
        >>> features = np.repeat(np.eye(2, 8), 100, axis=0) + 0.2 * rng.standard_normal((200, 8))
        >>> affinity = ps.Affinity.fit(features)
        >>> same, different = affinity.probability([0, 0], [1, 150])
        >>> bool(same > different)
        True
    """

    def __init__(self, codes: Tensor, ids: ArrayLike | Tensor | None = None) -> None:
        self.codes = codes
        self.index = RowIndex(len(codes), ids, "the set has", AffinityError)
        self.attached = False  # whether the deprecated `attach` was called

    @property
    def n(self) -> int:
        """N, rows of the set."""
        return len(self.codes)

    @property
    def width(self) -> int:
        """M, columns of a code."""
        return self.codes.shape[1]

    @classmethod
    def fit(cls, features: ArrayLike | Tensor, *, seed: int = 0, ids: ArrayLike | Tensor | None = None) -> Affinity:
        """Fit to the features of a set.

        10,000 rows of 128 columns take about 2 s on one core; memory is about 4 (D + M + 150) bytes a row. The same
        features and seed give the same codes, to rounding with another number of threads; another order of the rows
        gives the same probabilities to rounding. Above 50,000 rows neighbours are searched approximately.

        Args:
            features: (N, D) of one encoder, N >= 50 and D >= 2; only their directions matter.
            seed: of the eigenvectors' iteration.
            ids: see the class.

        Raises:
            AffinityError: not a finite (N, D) matrix, fewer than 50 rows, one column, rows that all point in one
                direction, copies of a few rows only, or more than memory holds.
        """
        unit = unit_rows(_checked(features))
        if float(np.ptp(unit, axis=0).max()) < 1e-5:
            raise AffinityError(
                "all rows point in the same direction, so nothing tells them apart: look for a collapsed encoder, or "
                "for features that were not centred although they should be"
            )
        try:
            return cls(torch.from_numpy(fold(signs(unit, seed))), ids)
        except MemoryError as error:
            raise AffinityError(
                f"memory does not hold an affinity of {unit.shape[0]} x {unit.shape[1]} features: fit on fewer columns "
                "(their leading principal components), or on a sample of the rows"
            ) from error

    def probability(self, rows: ArrayLike, others: ArrayLike) -> NDArray[np.float32]:
        """P(same class) of pairs.

        Args:
            rows, others: (P,) positions each.

        Returns:
            (P,) in [0, 1].

        Raises:
            AffinityError: positions of unequal number, or outside the set.
        """
        first, second = self._positions(rows, "rows"), self._positions(others, "others")
        if first.shape != second.shape:
            raise AffinityError(f"a pair has two positions, got {len(first)} rows and {len(second)} others")
        parts = []
        for i, j in zip(torch.split(first, _PAIRS), torch.split(second, _PAIRS), strict=True):
            a, b = self.codes[i], self.codes[j]
            logits = (a[:, :-1] * b[:, :-1]).sum(dim=1)
            itself = logits >= _self_bound(a)
            parts.append((logits + a[:, -1] + b[:, -1]).sigmoid_().masked_fill_(itself, 1))
        result: NDArray[np.float32] = torch.cat(parts).numpy()
        return result

    @torch.no_grad()
    def between(self, codes: Tensor, others: Tensor) -> Tensor:
        """P(same class) of every pair of two sets of codes, in one product.

        Args:
            codes: (R, M).
            others: (K, M).

        Returns:
            (R, K) float32 in [0, 1], on the device of the codes, without gradient.

        Raises:
            AffinityError: codes of another width.
        """
        for each in (codes, others):
            if each.dim() != 2 or each.shape[1] != self.width:
                raise AffinityError(f"codes of this affinity are (rows, {self.width}), got {tuple(each.shape)}")
        with torch.autocast(codes.device.type, enabled=False):
            codes, others = codes.float(), others.float()
            logits = torch.mm(codes[:, :-1], others[:, :-1].T)
            itself = logits >= _self_bound(codes)[:, None]
            return logits.add_(codes[:, -1:]).add_(others[:, -1]).sigmoid_().masked_fill_(itself, 1)

    def codes_of(self, rows: Tensor, name: str = "rows") -> Tensor:
        """Codes of rows by their ids.

        Args:
            rows: (B,) ids.
            name: of the ids, for messages.

        Returns:
            (B, M) float32, on the device of the ids.

        Raises:
            AffinityError: no integers, or ids outside the set.
        """
        return self.codes[self.index.positions(rows, name)].to(rows.device)

    def attach(self, h: Tensor, rows: Tensor) -> Tensor:
        """Deprecated: pass `rows=` to the loss. Features (B, D) with the codes of their rows behind them.

        Returns:
            (B, D + M) without gradient, on the device of `h`; float32, or float64 for float64 features.

        Raises:
            AffinityError: not one position a feature row, or positions outside the set.
        """
        warnings.warn(
            "Affinity.attach will go with the next release: pass rows= to the loss, as in loss(z0, z1, h0, h1, "
            "rows=rows)", DeprecationWarning, stacklevel=2,
        )  # fmt: skip
        self.attached = True
        codes = self.codes_of(rows)
        if h.dim() != 2 or len(h) != len(codes):
            raise AffinityError(f"h must be ({len(codes)}, D), one row a position, got {tuple(h.shape)}")
        return torch.cat([h.detach().to(torch.promote_types(h.dtype, torch.float32)), codes.to(h.device)], dim=1)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write to a safetensors file, whole or not at all."""
        ids = {} if self.index.ids is None else {"ids": self.index.ids}
        write_tensors(Path(path), {"codes": self.codes, **ids}, {})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Affinity:
        """Read what `save` wrote.

        Raises:
            AffinityError: another file.
            OSError: no such file.
        """
        try:
            held = read_tensors(Path(path))[0]
            codes = held["codes"]
        except (KeyError, ValueError, SafetensorError) as error:
            raise AffinityError(f"{path} holds no affinity ({error}): save one with Affinity.save") from error
        if codes.dim() != 2 or codes.dtype != torch.float32 or not bool(codes.isfinite().all()):
            raise AffinityError(
                f"{path} holds no affinity: its codes are {codes.dtype} {tuple(codes.shape)}, or not finite"
            )
        return cls(codes, held.get("ids"))

    def _positions(self, positions: Any, name: str) -> Tensor:
        array = real_array(positions, name, AffinityError)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise AffinityError(f"{name} must be (P,) integer positions, got {array.dtype} {array.shape}")
        return self.index.positions(torch.from_numpy(array.astype(np.int64)), name)

    def __repr__(self) -> str:
        return f"Affinity(n={self.n}, width={self.width})"


def _self_bound(codes: Tensor) -> Tensor:
    """(R,) products that rows reach with themselves only: all rows but one at the centre, which is
    alike to nothing, have codes of one length."""
    return codes[:, :-1].square().sum(dim=1).mul_(1 - 1e-5).clamp_min_(1e-6)


def _checked(features: ArrayLike | Tensor) -> FloatArray:
    """Features as a finite float32 matrix."""
    given = real_array(features, "features", AffinityError)
    if given.ndim != 2 or given.dtype.kind == "b":
        raise AffinityError(f"features must be a (rows, columns) matrix of numbers, got {given.dtype} {given.shape}")
    given = given.astype(np.float64) if given.dtype.kind in "iu" else given
    if len(given) < _LEAST_ROWS or given.shape[1] < 2:
        raise AffinityError(
            f"features are {given.shape[0]} x {given.shape[1]}: an affinity needs at least {_LEAST_ROWS} rows, whose "
            "neighbours say something, and 2 columns, in which directions differ; fit it on the whole set"
        )
    # Directions are all that matters: the largest entry of a row becomes 1, so that none overflows.
    peak = np.abs(given).max(axis=1, keepdims=True).astype(np.float64)
    if not np.isfinite(peak).all():
        rows = np.flatnonzero(~np.isfinite(peak[:, 0]))
        raise AffinityError(
            f"features row {rows[0]} is not finite ({len(rows)} of {len(given)} rows hold nan or inf): look for a "
            "diverged encoder, or leave these rows out"
        )
    checked: FloatArray = np.ascontiguousarray(given / np.where(peak > 0, peak, 1), dtype=np.float32)
    return checked
