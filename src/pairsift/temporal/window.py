"""A selector that leaves out pairs of frames that are close in time."""

from __future__ import annotations

import math
import warnings

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pairsift._base.checks import unmasked
from pairsift.pairs import PairMasks, Precision, Selector, WrappedSelector
from pairsift.pairs.selector import RowIndex, need_rows

# The largest number that is exact in float32, as the deprecated `attach` needs.
_MOST = 2**24


class TemporalWindow(WrappedSelector):
    """Selects the pairs of another selector, except pairs of one sequence that are at most a window apart in time.

    Frames that are close in time show the same event (arXiv 2312.00966 takes the nearest as positives), so treating
    them as difficult pairs does harm. They still count in the ranking of a band. The loss needs the ids of the frames:
    `loss(z0, z1, h0, h1, rows=rows)`.

    Args:
        selector: selects the pairs.
        window: largest distance in time of pairs to leave out, in the units of `times`, >= 0. 0 leaves out the frame
            itself only.
        sequences: (N,) whole numbers, the sequence of each frame of the set.
        times: (N,) time of each frame in its sequence.
        ids: (N,) distinct integers, the ids of the frames. None takes their positions, 0 to N - 1.

    Raises:
        TypeError: `selector` is not a selector.
        ValueError: a window that is negative or not finite, or frames without a sequence and a finite time.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> _ = torch.manual_seed(0)
        >>> frames = torch.arange(40)
        >>> near = ps.TemporalWindow(ps.RankBand(0.1, 0.5), window=3, sequences=frames // 20, times=frames % 20)
        >>> pairs = near.masks(torch.randn(40, 8), rows=frames).whole()
        >>> bool(pairs[0, 1:4].any()), bool(pairs[0, 4:].any())
        (False, True)
    """

    def __init__(
        self, selector: Selector, window: float, sequences: ArrayLike | Tensor | None = None,
        times: ArrayLike | Tensor | None = None, ids: ArrayLike | Tensor | None = None,
    ) -> None:  # fmt: skip
        if not isinstance(selector, Selector):
            raise TypeError(f"selector must be a RankBand or another pairsift.Selector, got {selector!r}")
        if isinstance(window, bool) or not (math.isfinite(window) and window >= 0):
            raise ValueError(f"window must be finite and >= 0, in the units of the times, got {window!r}")
        if (sequences is None) != (times is None):
            raise ValueError("pass the sequences and the times of all frames, or neither")
        super().__init__(selector)
        self.window = window
        self._sequences, self._times = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.float64)
        self._index: RowIndex | None = None
        if sequences is None or times is None:
            return
        self._sequences, self._times = _numbers(sequences, "sequences"), _numbers(times, "times")
        whole = not (self._sequences.is_floating_point() or self._sequences.is_complex())
        if self._sequences.dim() != 1 or self._times.shape != self._sequences.shape or not whole:
            raise ValueError(
                "sequences must be (N,) whole numbers and times (N,) numbers, one for each frame, got "
                f"{self._sequences.dtype} {tuple(self._sequences.shape)} and {tuple(self._times.shape)}"
            )
        if self._times.is_floating_point() and not bool(self._times.isfinite().all()):
            raise ValueError("times must be finite: leave frames without a time out of the set")
        self._index = RowIndex(len(self._times), ids, "the window knows")

    @staticmethod
    def attach(h: Tensor, sequences: Tensor, times: Tensor) -> Tensor:
        """Append sequence and time to features. Deprecated: give the window all times, and the loss `rows=`.

        Args:
            h: (B, D) encoder features.
            sequences: (B,) whole numbers from 0 to 2^24.
            times: (B,) numbers from -2^24 to 2^24.

        Returns:
            (B, D + 2) without gradient, float32, or float64 for float64 features.

        Raises:
            ValueError: other shapes, or numbers out of range.
        """
        warnings.warn(
            "TemporalWindow.attach will go with the next release: make TemporalWindow(selector, window, sequences, "
            "times) of all frames, and pass rows= to the loss", DeprecationWarning, stacklevel=2,
        )  # fmt: skip
        columns = []
        for name, values, least in (("sequences", sequences, 0), ("times", times, -_MOST)):
            if h.dim() != 2 or values.shape != (len(h),):
                raise ValueError(f"{name} must be (B,), a number for each row of (B, D) features, got "
                                 f"{tuple(values.shape)} for features {tuple(h.shape)}")  # fmt: skip
            if not bool(((values >= least) & (values <= _MOST)).all()):
                raise ValueError(
                    f"{name} must lie in [{least}, {_MOST}], where features tell them apart: renumber them"
                )
            columns.append(values)
        behind = torch.stack([column.to(h.device, torch.float64) for column in columns], dim=1)
        wide = h.detach().to(torch.promote_types(h.dtype, torch.float32))
        return torch.cat([wide, behind.to(wide.dtype)], dim=1)

    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, precision: Precision = "fp32",
    ) -> WindowMasks:  # fmt: skip
        """Select among the pairs of (B, D) rows with (K, D) keys; see `Selector`.

        Raises:
            TypeError, ValueError: see the wrapped selector; or ids are missing or belong to no frame of the set.
        """
        if self._index is None and rows is not None:
            raise ValueError(
                "this window was made without sequences and times, so it cannot take rows=: make it as "
                "TemporalWindow(selector, window, sequences, times)"
            )
        if self._index is None:
            h, when, keys, key_when = self._split(h, keys)
        else:
            known, key_known = need_rows(self, keys, rows, key_rows)
            when = self._when(known, "rows", h.device)
            key_when = when if keys is None else self._when(key_known, "key_rows", h.device)
            if (len(when[0]), len(key_when[0])) != (len(h), len(h if keys is None else keys)):
                raise ValueError(f"{len(h)} rows and their keys need an id each, got {len(when[0])} for the rows and "
                                 f"{len(key_when[0])} for the keys")  # fmt: skip
        inner = self.selector.masks(h, keys, own, rows=rows, key_rows=key_rows, precision=precision)
        return WindowMasks(inner, when, key_when, self.window)

    def _when(self, rows: Tensor, name: str, device: torch.device) -> tuple[Tensor, Tensor]:
        """Sequences and times, (B,) each, of frames with these ids."""
        assert self._index is not None
        at = self._index.positions(rows if rows.dim() == 1 else rows[:, 0], name)
        return self._sequences[at].to(device), self._times[at].to(device)

    @staticmethod
    def _split(
        h: Tensor, keys: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor], Tensor | None, tuple[Tensor, Tensor]]:
        """Split rows and keys from `attach` into features, and their sequences and times."""
        for name, each in (("features", h), ("keys", h if keys is None else keys)):
            behind = each[:, -2] if each.dim() == 2 and each.shape[1] > 2 else None
            if behind is None or not bool(((behind >= 0) & (behind == behind.round())).all()):
                raise ValueError(f"this window was made without sequences and times, so {name} must be (rows, D + 2) "
                                 f"from TemporalWindow.attach, got {tuple(each.shape)}: better make it as "
                                 "TemporalWindow(selector, window, sequences, times) and pass rows=")  # fmt: skip
        others = h if keys is None else keys
        when, key_when = (each[:, -2], each[:, -1]), (others[:, -2], others[:, -1])
        return h[:, :-2], when, None if keys is None else keys[:, :-2], key_when

    def __repr__(self) -> str:
        return f"TemporalWindow({self.selector!r}, window={self.window})"


def _numbers(values: ArrayLike | Tensor, name: str) -> Tensor:
    """Numbers on the CPU. Lists become float64, because float32 cannot tell the seconds of a date apart."""
    return torch.as_tensor(values if isinstance(values, Tensor) else unmasked(values, name)).cpu()


class WindowMasks(PairMasks):
    """The `PairMasks` of `TemporalWindow`: those of another selector without pairs that are close in time.

    Args:
        masks: (B, K) masks of the other selector.
        when, key_when: sequences and times of the rows, (B,) each, and of the keys, (K,) each.
        window: see `TemporalWindow`.
    """

    def __init__(
        self, masks: PairMasks, when: tuple[Tensor, Tensor], key_when: tuple[Tensor, Tensor], window: float
    ) -> None:
        super().__init__(masks.rows, masks.columns, masks.device, masks.empty)
        self._masks, self._when, self._key_when, self._window = masks, when, key_when, window

    @torch.no_grad()
    def tile(self, start: int, stop: int) -> Tensor:
        """See `PairMasks`."""
        return self._masks.tile(start, stop).masked_fill_(self.near(start, stop), 0)

    def log_weights(self, start: int, stop: int) -> Tensor | None:
        """Weights of the other masks. Pairs close in time keep theirs."""
        return self._masks.log_weights(start, stop)

    def near(self, start: int, stop: int) -> Tensor:
        """(stop - start, K) bool, the pairs of one sequence that are at most a window apart."""
        (sequences, times), (key_sequences, key_times) = self._when, self._key_when
        apart = (times[start:stop, None] - key_times).abs()
        return (sequences[start:stop, None] == key_sequences) & (apart <= self._window)
