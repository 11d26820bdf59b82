"""The selector of false negatives: candidates that a frozen guide holds for as good as the positive."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pairsift.pairs.guide_table import (
    UNKNOWN,
    GuideReport,
    GuideTable,
    Known,
    Tally,
    encoded,
    inspected,
    likely_floor,
    median_rank,
    spread_margin,
)
from pairsift.pairs.rank_band import band_edges
from pairsift.pairs.selector import PairMasks, Precision, Selector, check_precision, need_rows, unit_rows
from pairsift.treatments import NOTHING, Treatment

# Numbers that `attach` puts behind features: similarity of the own pair, text, partner, example, label.
_CODES = 5
# They are float32, which holds whole numbers up to here exactly.
_MOST = 2**24


class Encodes(Protocol):
    """What `GuideMask.from_texts` asks of a guide."""

    def encode(self, sentences: list[str], /) -> Any:
        """(N, D) features of N texts."""
        ...


class GuideMask(Selector):
    """Masks in-batch negatives that are positives in disguise, by a frozen guide and by identity of texts.

    With g the guide's unit features, candidate c_j is a false negative of anchor a_i with positive p_i when
    `g(a_i, c_j) > g(a_i, p_i) - margin * |g(a_i, p_i)|` (GISTEmbed, arXiv 2402.16829, with its relative margin) and
    `g(a_i, c_j) > floor`, or when its text is that of a_i or p_i after `text_keys`. The guide is off for a row that
    would lose more than `cap` of its candidates, and for the whole run, with a sentence why, where it ranks known
    positives too low. Identical texts are masked anyway, unless nothing would be left of a row.

    - By default masked pairs leave the denominator: `Treatment(removal="exclude")`, which a loss takes where it is
      given no treatment. A treatment that would push them apart harder is refused.
    - With `difficult`, a share, and `Treatment(margin=m, temperature_scale=r, same_class_weight=1)` they leave, and
      the share of the keys that is most similar to an anchor among the others is treated.

    A loss has to say which examples a batch holds: `loss(z0, z1, h0, h1, rows=rows)`. Make masks by `fit`, or by hand
    from a table.

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
        >>> loss = ps.losses.TwoTowerLoss(selector=mask)
        >>> rows, h = torch.arange(100), torch.randn(100, 16)
        >>> loss(h, h, h, h, rows=rows).shape
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
        self._attached = False

    @classmethod
    def fit(
        cls, anchors: ArrayLike, positives: ArrayLike, negatives: Sequence[ArrayLike] = (), *,
        texts: Sequence[Any] | None = None, labels: ArrayLike | None = None, margin: float | None = None,
        floor: float | None = None, cap: float = 0.1, difficult: float | None = None, ids: ArrayLike | None = None,
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
            ids: (N,) distinct integers of any size by which losses name the examples (`rows=`); None names them by
                their positions, 0 to N - 1.

        Raises:
            TypeError: a missing column, or texts that are none.
            ValueError: columns of several shapes, not finite, empty texts, or a number out of range.
        """
        table = GuideTable([anchors, positives, *negatives], texts, labels, ids)
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
            **settings: `labels`, `margin`, `floor`, `cap`, `difficult` and `ids` of `fit`.

        Raises:
            TypeError, ValueError: see `fit`.
        """
        features, texts = encoded(guide.encode, [anchors, positives, *negatives])
        return cls.fit(features[0], features[1], features[2:], texts=texts, **settings)

    @classmethod
    def from_inspection(
        cls, folder: Path | str, data: Any = None, *, columns: Sequence[str] | None = None,
        labels: ArrayLike | None = None, difficult: float | None = None,
    ) -> GuideMask:  # fmt: skip
        """A mask from the folder of `pairsift pairs`, with the guide features, margin, floor and cap of the inspection.

        No text is encoded again: features are found by the texts. Losses find examples by their texts too, so the data
        may be shuffled, selected or split afterwards, and evaluation data may hold other texts.

        Args:
            folder: what `pairsift pairs -o` or `inspect_pairs(out=...)` wrote with a guide that compares texts.
            data: what is trained on, a `datasets.Dataset`, a `pyarrow.Table` or another table; None takes the rows of
                clean.parquet.
            columns: of `data`, anchors, positives and negatives in the order in which the trainer gets them; None takes
                those of the inspection.
            labels, difficult: see `fit`.

        Raises:
            FileNotFoundError: the folder holds no inspection, or one without guide features.
            ValueError: a row without a text in each column, texts that the inspection does not know, or a number out
                of range.
        """
        table, guide = inspected(Path(folder), data, columns, labels)
        return cls(table, guide["margin"], guide["cap"], difficult, guide["off_because"], guide["floor"])

    def identify(self, rows: Tensor, column: int) -> Tensor:
        """(N, 2) int64: the ids, and which column of texts is meant, 0 for anchors, 1 for positives, 2 and more for
        hard negatives."""
        return torch.stack([rows, torch.full_like(rows, column)], dim=1)

    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, precision: Precision = "fp32",
    ) -> GuideMasks:  # fmt: skip
        """The false negatives of every row, or with `difficult` its difficult pairs; see `Selector`.

        Args:
            h: (B, F) features, on which difficult pairs are selected.
            keys: (K, F) of what they are compared with; None compares the rows among themselves.
            own: the column of `keys` that is row 0 itself; None where rows are not keys.
            rows: (B,) ids of anchors, or (B, 2) as `identify` makes them.
            key_rows: (K,) ids of positives, or (K, 2) as `identify` makes them.
            precision: "bf16" multiplies features in bfloat16.

        Raises:
            ValueError: ids that are missing or none of the examples that the mask was fitted to.
        """
        check_precision(precision)
        if rows is None and self._attached:
            anchors = self._split(h, "features", precision)
            others = anchors if keys is None else self._split(keys, "keys", precision)
        else:
            rows, key_rows = need_rows(self, keys, rows, key_rows)
            anchors = self._side(h, rows, 0, "rows", precision)
            others = anchors if keys is None else self._side(keys, key_rows, 1, "key_rows", precision)
        settings = GuideSettings(self.margin, self.floor, self.cap, self.difficult, not self.off_because)
        return GuideMasks(settings, self._tally, anchors, others, 0 if keys is None else own)

    def fit_treatment(self, treatment: Treatment | None) -> Treatment | None:
        """By default masked pairs leave the denominator; what pushes them apart as before, or harder, is refused.

        Raises:
            ValueError: such a treatment; the message says which fit.
        """
        if treatment is None:
            return Treatment(removal="exclude") if self.difficult is None else Treatment(same_class_weight=1)
        if treatment.is_neutral or treatment.same_class_weight:
            return treatment
        if self.difficult is not None:
            raise ValueError(
                f"{treatment} leaves the false negatives that the mask finds in the denominator: add "
                "same_class_weight=1, with which they leave it, or give no treatment"
            )
        if treatment.removal is None and (treatment.margin or treatment.temperature_scale < 1):
            raise ValueError(
                f"{treatment} pushes the false negatives that the mask finds apart harder: give no treatment, which "
                "leaves them out (removal='exclude'), or treat the pairs next to them: GuideMask.fit(..., "
                "difficult=0.15) with same_class_weight=1 in the treatment"
            )
        return treatment

    def attach(self, h: Tensor, rows: Tensor) -> Tensor:
        """Deprecated: pass `rows=` to the loss. Features (B, F) of anchors with what the guide knows of them behind.

        Returns:
            (B, F + D + 5) without gradient, on the device of `h`; float32, or float64 for float64 features.

        Raises:
            ValueError: not one position a feature row, or positions outside the set.
        """
        return self._behind(h, rows, 0, "attach")

    def attach_keys(self, h: Tensor, rows: Tensor) -> Tensor:
        """Deprecated: pass `rows=` to the loss. `attach` for candidates: positives, then each column of negatives.

        Returns:
            (m B, F + D + 5) for (m B, F) features of the first m columns after the anchors.

        Raises:
            ValueError: not m feature rows a position, more columns than were fitted, or positions outside the set.
        """
        return self._behind(h, rows, 1, "attach_keys")

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

    def get_state(self) -> dict[str, Tensor]:
        """What a resumed run needs to go on counting; what was fitted is fitted again."""
        return self._tally.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """See `get_state`."""
        self._tally.set_state(state)

    def _side(self, h: Tensor, rows: Tensor, column: int, name: str, precision: Precision) -> _Side:
        """Rows or keys by their ids."""
        pairs = rows if rows.dim() == 2 else self.identify(rows, column)
        if len(pairs) != len(h):
            raise ValueError(f"{name} must be ({len(h)},), an id for each feature row, got {tuple(rows.shape)}")
        known = self.table.cells(self.table.index.positions(pairs[:, 0], name), pairs[:, 1].cpu())
        return self._as_side(h, Known(*(each.to(h.device) for each in known)), precision)

    def _as_side(self, h: Tensor, known: Known, precision: Precision) -> _Side:
        features = known.guide if self.difficult is None else unit_rows(h.detach(), "features")
        if precision == "bf16":
            features, known = features.bfloat16(), known._replace(guide=known.guide.bfloat16())
        return _Side(features, known)

    def _behind(self, h: Tensor, rows: Tensor, first: int, name: str) -> Tensor:
        """Features with guide features and codes behind them."""
        warnings.warn(
            f"GuideMask.{name} will go with the next release: pass rows= to the loss, as in loss(z0, z1, h0, h1, "
            "rows=rows)", DeprecationWarning, stacklevel=3,
        )  # fmt: skip
        self._attached = True
        positions = self.table.index.positions(rows)
        columns = 1 if first == 0 else len(h) // max(1, len(positions))
        most = 1 if first == 0 else len(self.table.features) - 1
        if h.dim() != 2 or len(h) != columns * len(positions) or not 0 < columns <= most:
            raise ValueError(
                f"h must be ({len(positions)}, F), one row a position"
                f"{f', or up to {most} times as many' if first else ''}: got {tuple(h.shape)}"
            )
        places = torch.arange(first, first + columns).repeat_interleave(len(positions))
        known = self.table.cells(positions.repeat(columns), places)
        if max(int(each.max()) for each in known[2:]) > _MOST:
            raise ValueError(f"numbers behind features end at {_MOST}: pass rows= to the loss instead")
        codes = torch.stack([known.own, *(each.to(torch.float32) for each in known[2:])], dim=1)
        wide = h.detach().to(torch.promote_types(h.dtype, torch.float32))
        return torch.cat([wide, torch.cat([known.guide, codes], dim=1).to(h.device, wide.dtype)], dim=1)

    def _split(self, h: Tensor, name: str, precision: Precision) -> _Side:
        """Rows or keys from features that `attach` made."""
        behind = self.table.width + _CODES
        if h.dim() != 2 or h.shape[1] <= behind:
            raise ValueError(
                f"{name} must be (rows, D + {behind}), as attach and attach_keys make them, got {tuple(h.shape)}: "
                "better pass rows= to the loss"
            )
        own, *whole = h[:, -_CODES:].float().unbind(1)
        guide = h[:, -behind:-_CODES].float().contiguous()
        return self._as_side(h[:, :-behind], Known(guide, own, *(each.long() for each in whole)), precision)

    def __repr__(self) -> str:
        numbers = f"margin={self.margin:.3g}, floor={self.floor:.3g}, cap={self.cap}, difficult={self.difficult}"
        return f"GuideMask({numbers}{', off' if self.off_because else ''})"


class GuideSettings(NamedTuple):
    """What decides: margin, floor, cap, difficult share, and whether the guide is asked."""

    margin: float
    floor: float
    cap: float
    difficult: float | None
    asked: bool


class _Side(NamedTuple):
    """Rows or keys: unit features where difficult pairs are asked for, and what the table holds of them."""

    features: Tensor
    known: Known


class GuideMasks(PairMasks):
    """`PairMasks` of a `GuideMask`.

    Args:
        settings: of the mask.
        tally: counts every pair once.
        anchors: B rows.
        keys: K keys.
        own: the key that is row 0 itself, the other rows following it; None where rows are not among the keys.
    """

    def __init__(self, settings: GuideSettings, tally: Tally, anchors: _Side, keys: _Side, own: int | None) -> None:
        super().__init__(len(anchors.known.text), len(keys.known.text), keys.known.text.device)
        self._settings, self._tally, self._own = settings, tally, own
        self._anchors, self._keys = anchors, keys
        self._counted = 0
        self._held: tuple[int, int, Tensor] | None = None
        # An example that stands once among the keys is its row's positive; one that stands twice is a duplicate too.
        examples = keys.known.example
        _, inverse, counts = torch.unique(examples, return_inverse=True, return_counts=True)
        self._single = torch.where((counts[inverse] == 1) & (examples >= 0), examples, UNKNOWN - 1)

    @torch.no_grad()
    def tile(self, start: int, stop: int) -> Tensor:
        """(stop - start, K) float: 1 for masked pairs, or, with a `difficult` share, for difficult ones of the rest."""
        false = self.false_negatives(start, stop)
        share = self._settings.difficult
        if share is None:
            return false.to(torch.float32)
        if not self._settings.asked:
            return torch.zeros(false.shape, dtype=torch.float32, device=false.device)
        similar = (self._anchors.features[start:stop] @ self._keys.features.T).float()
        similar.masked_fill_(false | self._own_pairs(start, stop), -torch.inf)
        # As in a rank band: 0.07 * 100 is 7.000000000000001 in floating point.
        edge = band_edges(similar, *[max(1, math.ceil(share * self.columns - 1e-9))] * 2)[0]
        return torch.ge(similar, edge.clamp_min(-2)).to(torch.float32)  # -inf is the edge of a row with too few of them

    @torch.no_grad()
    def log_weights(self, start: int, stop: int) -> Tensor:
        """(stop - start, K) float32: log 0 for masked pairs and log 1 for others."""
        false = self.false_negatives(start, stop)
        return torch.zeros(false.shape, dtype=torch.float32, device=false.device).masked_fill_(false, NOTHING)

    @torch.no_grad()
    def false_negatives(self, start: int, stop: int) -> Tensor:
        """(stop - start, K) bool: the masked pairs, held until others are asked for."""
        if self._held is None or self._held[:2] != (start, stop):
            self._held = (start, stop, self._masked(start, stop))
        return self._held[2]

    def _masked(self, start: int, stop: int) -> Tensor:
        anchors = Known(*(each[start:stop, None] for each in self._anchors.known))
        keys = self._keys.known
        own = self._own_pairs(start, stop)
        same = ((keys.text == anchors.partner) | (keys.text == anchors.text)) & ~own
        candidates = self.columns - own.sum(dim=1, keepdim=True)
        same &= same.sum(dim=1, keepdim=True) < candidates  # where nothing would be left, nothing goes
        masked, off = same, torch.zeros_like(candidates, dtype=torch.bool)
        if self._settings.asked:
            least = (anchors.own - self._settings.margin * anchors.own.abs()).clamp_min(self._settings.floor)
            with torch.autocast(self.device.type, enabled=False):
                guide = (self._anchors.known.guide[start:stop] @ keys.guide.T).float()
            # A row without a known pair has no similarity to go by (hard negatives as anchors, say).
            masked = ((guide > least) & (anchors.example >= 0) & ~own) | same
            off = masked.sum(dim=1, keepdim=True) > self._settings.cap * candidates
            masked = torch.where(off, same, masked)
        self._count(start, stop, candidates, masked, same, off, own)
        return masked

    def _own_pairs(self, start: int, stop: int) -> Tensor:
        """(R, K) bool: positives, and rows themselves."""
        own = self._single == self._anchors.known.example[start:stop, None]
        if self._own is not None:
            own.diagonal(self._own + start).fill_(True)
        return own

    def _count(self, start: int, stop: int, candidates: Tensor, masked: Tensor, same: Tensor, off: Tensor,
               own: Tensor) -> None:  # fmt: skip
        if start < self._counted:  # asked again, in a backward pass for example
            return
        self._counted = stop
        identical = same.sum()
        counts: list[int | Tensor] = [candidates.sum(), masked.sum() - identical, identical, stop - start, off.sum()]
        labels, key_labels = self._anchors.known.label[start:stop, None], self._keys.known.label
        known = (labels >= 0) & (key_labels >= 0) & ~own
        alike = known & (labels == key_labels)
        self._tally.add([*counts, known.sum(), alike.sum(), (known & masked).sum(), (alike & masked).sum()])
