"""What a selector is: features in, difficult pairs out, a few rows at a time."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from pairsift.pairs.rows import Precision


class PairMasks(Protocol):
    """Difficult pairs of B rows with K keys, a few rows at a time, as numbers to calculate with.

    Attributes:
        rows: B.
        columns: K.
        empty: True where it is known that no pair is difficult.
    """

    rows: int
    columns: int
    empty: bool

    def tile(self, start: int, stop: int) -> Tensor:
        """(stop - start, K) float in [0, 1]: how difficult a pair is, 1 or 0 for most selectors; the caller may
        overwrite it."""
        ...

    def whole(self) -> Tensor:
        """(B, K) bool: the difficult pairs of all rows."""
        ...


@runtime_checkable
class Selector(Protocol):
    """Says which pairs are difficult. `RankBand` does, `RandomPairs` is its control, `GivenPairs` repeats a matrix."""

    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *, precision: Precision = "fp32"
    ) -> PairMasks:
        """The difficult pairs of every row of `h`.

        Args:
            h: (B, D) features of the rows.
            keys: (K, D) features of what they are compared with; None compares the rows among themselves.
            own: the column of `keys` that is row 0 itself, the other rows following it, which are then no pairs; None
                where rows are not among the keys.
            precision: of the products of features, where the selector makes any; see `select_pairs`.
        """
        ...


class GivenMasks:
    """`PairMasks` of a selection that was made before.

    Args:
        pairs: (B, K) bool.
    """

    def __init__(self, pairs: Tensor) -> None:
        self.rows, self.columns = pairs.shape
        self.empty = False
        self.pairs = pairs

    def tile(self, start: int, stop: int) -> Tensor:
        """See `PairMasks`."""
        return self.pairs[start:stop].float()

    def whole(self) -> Tensor:
        """See `PairMasks`."""
        return self.pairs


class OwnMasks:
    """`PairMasks` with at most one difficult pair a row, in the memory of a row.

    Args:
        own: (B,) which key it is; -1 where a row has none.
        columns: K.
    """

    def __init__(self, own: Tensor, columns: int) -> None:
        self.rows, self.columns = len(own), columns
        self.empty = False
        self.own = own

    def tile(self, start: int, stop: int) -> Tensor:
        """See `PairMasks`."""
        own = self.own[start:stop, None]
        flags = torch.zeros(len(own), self.columns, device=own.device)
        return flags.scatter_(1, own.clamp_min(0), (own >= 0).float())

    def whole(self) -> Tensor:
        """See `PairMasks`."""
        return self.tile(0, self.rows).bool()


class GivenPairs:
    """The selector that always selects the same pairs, whatever the features.

    Args:
        pairs: (B, K) bool.

    Raises:
        TypeError: not a bool matrix.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> rivals = torch.tensor([[False, True], [True, False]])
        >>> ps.GivenPairs(rivals).masks(torch.randn(2, 8)).whole()
        tensor([[False,  True],
                [ True, False]])
    """

    def __init__(self, pairs: Tensor) -> None:
        if not isinstance(pairs, Tensor) or pairs.dtype != torch.bool or pairs.dim() != 2:
            kind = f"{pairs.dtype} {tuple(pairs.shape)}" if isinstance(pairs, Tensor) else type(pairs).__name__
            raise TypeError(f"pairs must be a (rows, keys) bool tensor, got {kind}")
        self.pairs = pairs

    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *, precision: Precision = "fp32"
    ) -> GivenMasks:
        """The given (B, K) pairs; see `Selector`.

        Raises:
            ValueError: rows and keys are not as many as the given pairs have rows and columns.
        """
        shape = (len(h), len(h) if keys is None else len(keys))
        if self.pairs.shape != shape:
            raise ValueError(f"pairs were given for {tuple(self.pairs.shape)} rows and keys, and these are {shape}")
        return GivenMasks(self.pairs.to(h.device))

    def __repr__(self) -> str:
        return f"GivenPairs({self.pairs.shape[0]} x {self.pairs.shape[1]})"
