"""The selector of false negatives: candidates that a frozen guide holds for as good as the positive."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pairsift.pairs.guide_margin import likely_floor, median_rank, spread_margin
from pairsift.pairs.guide_masks import GuideMasks, GuideSettings
from pairsift.pairs.guide_table import GuideTable, encoded
from pairsift.pairs.guide_tally import GuideReport, Tally
from pairsift.pairs.rows import Precision


class Encodes(Protocol):
    """What `GuideMask.from_texts` asks of a guide."""

    def encode(self, sentences: list[str], /) -> Any:
        """(N, D) features of N texts."""
        ...


class GuideMask:
    """Masks in-batch negatives that are positives in disguise, by a frozen guide and by identity of texts.

    With g the guide's unit features, candidate c_j is a false negative of anchor a_i with positive p_i when
    `g(a_i, c_j) > g(a_i, p_i) - margin * |g(a_i, p_i)|` (GISTEmbed, arXiv 2402.16829, with its relative margin) and
    `g(a_i, c_j) > floor`, or when its text is that of a_i or p_i after `text_keys`. The guide is off for a row that
    would lose more than `cap` of its candidates, and for the whole run, with a sentence why, where it ranks known
    positives too low. Identical texts are masked anyway, unless nothing would be left of a row.

    - With `Treatment(removal="exclude")` (`difficult` None) or `Treatment(class_mates=1)` masked pairs leave the
      denominator.
    - With `difficult`, a share, and `Treatment(margin=m, temperature_scale=r, class_mates=1)` they leave, and the share
      of the keys that is most similar to an anchor among the others is treated.

    Features must carry what the guide knows: pass `attach(h, rows)` for anchors and `attach_keys(h, rows)` for
    candidates where a loss takes `h`. Make masks by `fit`, or by hand from a table.

    Attributes:
        margin: relative, as a part of the own positive's similarity.
        floor: similarity below which nothing is masked, -1 for none: an anchor whose own positive is far away would
            lose its hardest true negatives otherwise.
        cap: largest share of its candidates that a row may lose, in (0, 1].
        difficult: share of the keys to be treated, in (0, 1]; None flags masked pairs instead.
        off_because: why the guide is off for the whole run; empty while it is on.

    Args:
        table: guide features and texts of all examples.
        margin: finite; see above.
        cap: see above.
        difficult: see above.
        off_because: see above.
        floor: see above.

    Raises:
        ValueError: a number out of range.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> _ = torch.manual_seed(0)
        >>> topics = torch.eye(40, 64).repeat_interleave(5, dim=0)
        >>> questions, answers = (topics + 0.05 * torch.randn(200, 64) for _ in range(2))
        >>> mask = ps.GuideMask.fit(questions, answers, labels=torch.arange(200) // 5)
        >>> loss = ps.losses.TwoTowerLoss(band=mask, treatment=ps.Treatment(removal="exclude"))
        >>> rows, h = torch.arange(100), torch.randn(100, 16)
        >>> loss(h, h, mask.attach(h, rows), mask.attach_keys(h, rows)).shape
        torch.Size([])
        >>> mask.report().precision
        1.0
    """

    def __init__(
        self, table: GuideTable, margin: float, cap: float = 0.1, difficult: float | None = None,
        off_because: str = "", floor: float = -1.0,
    ) -> None:  # fmt: skip
        for name, number in (("margin", margin), ("floor", floor)):
            if isinstance(number, bool) or not math.isfinite(number):
                raise ValueError(f"{name} must be a finite number, got {number!r}")
        for name, share in (("cap", cap), ("difficult", difficult)):
            if share is not None and (isinstance(share, bool) or not 0 < share <= 1):
                raise ValueError(f"{name} must lie in (0, 1], got {share!r}: it is a share of the candidates")
        self.table, self.margin, self.cap, self.difficult = table, float(margin), cap, difficult
        self.off_because, self.floor = off_because, float(floor)
        self._tally = Tally()

    @classmethod
    def fit(
        cls, anchors: ArrayLike, positives: ArrayLike, negatives: Sequence[ArrayLike] = (), *,
        texts: Sequence[Any] | None = None, labels: ArrayLike | None = None, margin: float | None = None,
        floor: float | None = None, cap: float = 0.1, difficult: float | None = None,
    ) -> GuideMask:  # fmt: skip
        """A mask for N examples, its margin from the data.

        Args:
            anchors, positives: (N, D) guide features, computed once; of any length.
            negatives: (N, D) of every column of hard negatives.
            texts: of each column in that order, N texts or (N,) integer keys; None tells only examples apart.
            labels: (N,) integers >= 0 of anchors and positives, used by `report` alone.
            margin: None takes the spread of known positives, see `spread_margin`; 0 is GISTEmbed's.
            floor: None takes the 90th percentile of known positives, see `likely_floor`; -1 is GISTEmbed's, none.
            cap, difficult: see the class.

        Raises:
            TypeError: a missing column, or texts that are none.
            ValueError: columns of several shapes, not finite, empty texts, or a number out of range.
        """
        table = GuideTable([anchors, positives, *negatives], texts, labels)
        mask = cls(
            table, spread_margin(table.own) if margin is None else margin, cap, difficult,
            floor=likely_floor(table.own) if floor is None else floor,
        )  # fmt: skip
        rank = median_rank(table)
        if rank > cap:
            mask.off_because = (
                f"the guide is off: it ranks half of the known positives below {100 * rank:.0f} % of the candidates, "
                f"more than the cap of {100 * cap:.0f} %, so what it holds for close is no false negative; only "
                "identical texts are masked"
            )
        return mask

    @classmethod
    def from_texts(
        cls, guide: Encodes, anchors: Sequence[str], positives: Sequence[str], *negatives: Sequence[str],
        **settings: Any,
    ) -> GuideMask:  # fmt: skip
        """A mask for N examples of texts, encoded once.

        Args:
            guide: a `SentenceTransformer`, or whatever else encodes texts; the model to be trained serves, since its
                features are frozen here as they are before training.
            anchors, positives: N texts each.
            negatives: N texts of every column of hard negatives.
            **settings: `labels`, `margin`, `floor`, `cap` and `difficult` of `fit`.

        Raises:
            TypeError, ValueError: see `fit`.
        """
        features, texts = encoded(guide.encode, [anchors, positives, *negatives])
        return cls.fit(features[0], features[1], features[2:], texts=texts, **settings)

    def attach(self, h: Tensor, rows: Tensor) -> Tensor:
        """Features of anchors with what the guide knows of them behind.

        Args:
            h: (B, F) features of the encoder in training, on which difficult pairs are selected.
            rows: (B,) int positions of the examples.

        Returns:
            (B, F + D + 5) without gradient, on the device of `h`; float32, or float64 for float64 features.

        Raises:
            ValueError: not one position a feature row, or positions outside the set.
        """
        return self._attached(h, self._positions(rows), first=0)

    def attach_keys(self, h: Tensor, rows: Tensor) -> Tensor:
        """Features of candidates with what the guide knows of them behind: positives, then each column of negatives.

        Args:
            h: (m B, F) features of the first m columns after the anchors, one column after the other.
            rows: (B,) int positions of the examples.

        Returns:
            (m B, F + D + 5), as `attach`.

        Raises:
            ValueError: not m feature rows a position, more columns than were fitted, or positions outside the set.
        """
        return self._attached(h, self._positions(rows), first=1)

    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *, precision: Precision = "fp32"
    ) -> GuideMasks:
        """The false negatives of every row, or with `difficult` its difficult pairs; see `Selector`.

        Args:
            h: (B, F + D + 5) from `attach`, or from `attach_keys` for positives as anchors.
            keys: (K, F + D + 5) from `attach_keys` (`attach`); None compares the rows among themselves.
            own: the column of `keys` that is row 0 itself; None where rows are not keys.
            precision: "bf16" multiplies features in bfloat16.

        Raises:
            ValueError: features without codes behind them, or of a guide of another width.
        """
        settings = GuideSettings(
            self.table.width, self.margin, self.floor, self.cap, self.difficult, not self.off_because
        )
        return GuideMasks(settings, self._tally, h, keys, own, precision)

    def describe(self) -> str:
        """The mask in words."""
        if self.off_because:
            return self.off_because
        words = (
            f"masks candidates whose similarity under the guide exceeds the own positive's less {100 * self.margin:.0f}"
            f" % of it and {self.floor:.2f}, and identical texts; at most {100 * self.cap:.0f} % of a row's candidates"
        )
        return words if self.difficult is None else f"{words}; flags the {100 * self.difficult:.0f} % closest others"

    def report(self) -> GuideReport:
        """What was masked so far."""
        return self._tally.report()

    def get_state(self) -> dict[str, Any]:
        """What a resumed run needs to go on counting; what was fitted is fitted again."""
        return self._tally.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """See `get_state`."""
        self._tally.set_state(state)

    def _attached(self, h: Tensor, rows: Tensor, first: int) -> Tensor:
        columns = 1 if first == 0 else len(h) // max(1, len(rows))
        most = 1 if first == 0 else len(self.table.features) - 1
        if h.dim() != 2 or len(h) != columns * len(rows) or not 0 < columns <= most:
            raise ValueError(
                f"h must be ({len(rows)}, F), one row a position{f', or up to {most} times as many' if first else ''}: "
                f"got {tuple(h.shape)}"
            )
        behind = [
            torch.cat([self.table.features[column][rows], self.table.codes(rows, column)], dim=1)
            for column in range(first, first + columns)
        ]
        wide = h.detach().to(torch.promote_types(h.dtype, torch.float32))
        return torch.cat([wide, torch.cat(behind).to(h.device, wide.dtype)], dim=1)

    def _positions(self, rows: Tensor) -> Tensor:
        given = torch.as_tensor(rows).detach().cpu()
        if given.dim() != 1 or given.is_floating_point() or given.dtype == torch.bool:
            raise ValueError(f"rows must be (B,) integer positions, got {given.dtype} {tuple(given.shape)}")
        if len(given) and (int(given.min()) < 0 or int(given.max()) >= self.table.n):
            raise ValueError(
                f"rows hold positions from {int(given.min())} to {int(given.max())}, and the mask was fitted to "
                f"{self.table.n} examples"
            )
        return given.long()

    def __repr__(self) -> str:
        numbers = f"margin={self.margin:.3g}, floor={self.floor:.3g}, cap={self.cap}, difficult={self.difficult}"
        return f"GuideMask({numbers}{', off' if self.off_because else ''})"
