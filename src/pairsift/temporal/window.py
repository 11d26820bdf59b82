"""The selector that spares neighbours in time: alike because they are one event, not because they are difficult."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pairsift.pairs.rows import Precision, tile_rows
from pairsift.pairs.selectors import PairMasks, Selector

# Whole numbers up to here are exact in float32, which features may be.
_MOST = 2**24


class TemporalWindow:
    """Another selector's pairs without those of one sequence that are at most a window apart in time.

    Frames close in time are similar because they show one event: positives in disguise, which fill a rank band and
    must not be pushed apart harder (arXiv 2312.00966 takes the nearest of them as positives). They still count in the
    ranking of a band.

    Features must carry sequence and time: pass `attach(h, sequences, times)` where a loss takes `h`. Over features that
    carry something else already, as those of an `Affinity`, it is attached last.

    Args:
        selector: whose pairs are taken.
        window: pairs up to so far apart are spared, in the units of `times`, >= 0; 0 spares the frame itself only.

    Raises:
        TypeError: a selector that is none.
        ValueError: a window that is negative or not finite.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> _ = torch.manual_seed(0)
        >>> near = ps.TemporalWindow(ps.RankBand(0.1, 0.5), window=3)
        >>> h = near.attach(torch.randn(40, 8), sequences=torch.arange(40) // 20, times=torch.arange(40) % 20)
        >>> pairs = near.masks(h).whole()
        >>> bool(pairs[0, 1:4].any()), bool(pairs[0, 4:].any())
        (False, True)
    """

    def __init__(self, selector: Selector, window: float) -> None:
        if not isinstance(selector, Selector):
            raise TypeError(f"selector must be a RankBand or another selector (an object with masks), got {selector!r}")
        if isinstance(window, bool) or not (math.isfinite(window) and window >= 0):
            raise ValueError(f"window must be finite and >= 0, in the units of the times, got {window!r}")
        self.selector, self.window = selector, window

    @staticmethod
    def attach(h: Tensor, sequences: Tensor, times: Tensor) -> Tensor:
        """Features with their sequence and time behind them, as `masks` takes them.

        Args:
            h: (B, D) encoder features.
            sequences: (B,) number of each row's sequence, whole, from 0 to 2^24.
            times: (B,) time of each row in its sequence, between -2^24 and 2^24.

        Returns:
            (B, D + 2) without gradient, on the device of `h`; float32, or float64 for float64 features.

        Raises:
            ValueError: not one number a row, or numbers out of range.
        """
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
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *, precision: Precision = "fp32"
    ) -> WindowMasks:
        """The pairs of (B, D + 2) rows with (K, D + 2) keys; see `Selector`.

        Raises:
            TypeError, ValueError: see the selector that is wrapped, or features without time.
        """
        for name, rows in (("features", h), ("keys", h if keys is None else keys)):
            if rows.dim() != 2 or rows.shape[1] < 3:
                raise ValueError(f"{name} must be (rows, D + 2), with sequence and time behind them, got "
                                 f"{tuple(rows.shape)}: pass TemporalWindow.attach(h, sequences, times)")  # fmt: skip
        inner = self.selector.masks(h[:, :-2], None if keys is None else keys[:, :-2], own, precision=precision)
        return WindowMasks(inner, h[:, -2:], (h if keys is None else keys)[:, -2:], self.window)

    def __repr__(self) -> str:
        return f"TemporalWindow({self.selector!r}, window={self.window})"


class WindowMasks:
    """`PairMasks` of another selection without near pairs; made by `TemporalWindow.masks`.

    Args:
        masks: (B, K) the other selection.
        when, key_when: (B, 2) and (K, 2) sequence and time.
        window: see `TemporalWindow`.
    """

    def __init__(self, masks: PairMasks, when: Tensor, key_when: Tensor, window: float) -> None:
        self.rows, self.columns, self.empty = masks.rows, masks.columns, masks.empty
        self._masks, self._when, self._key_when, self._window = masks, when, key_when, window
        if hasattr(masks, "log_weights"):  # what weighs pairs in a denominator weighs near ones as before
            self.log_weights = masks.log_weights

    @torch.no_grad()
    def tile(self, start: int, stop: int) -> Tensor:
        """See `PairMasks`."""
        return self._masks.tile(start, stop).masked_fill_(self.near(start, stop), 0)

    def whole(self) -> Tensor:
        """See `PairMasks`."""
        pairs = self._masks.whole().clone()
        step = tile_rows(max(self.columns, 1))
        for start in range(0, self.rows, step):
            stop = min(start + step, self.rows)
            pairs[start:stop] &= ~self.near(start, stop)
        return pairs

    def near(self, start: int, stop: int) -> Tensor:
        """(stop - start, K) bool: pairs of one sequence at most a window apart."""
        rows = self._when[start:stop]
        apart = (rows[:, 1:] - self._key_when[:, 1]).abs()
        return (rows[:, :1] == self._key_when[:, 0]) & (apart <= self._window)
