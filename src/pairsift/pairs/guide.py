"""`GuideMask` selects in-batch false negatives, by a frozen encoder and by identical texts."""

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
    Cells,
    Counter,
    GuideReport,
    GuideTable,
    encoded,
    inspected,
    likely_floor,
    median_rank,
    spread_margin,
)
from pairsift.pairs.selector import (
    PairMasks,
    Precision,
    Selector,
    check_precision,
    most_similar,
    nearest_rank,
    need_rows,
    products,
    unit_rows,
)
from pairsift.treatments import EXCLUDED, Treatment

# float32 holds whole numbers up to here exactly.
_MAX_ATTACHED = 2**24


class Encoder(Protocol):
    """An encoder of texts, such as a `SentenceTransformer`."""

    def encode(self, sentences: list[str], /) -> Any:
        """(N, D) features of N texts."""
        ...


class GuideMask(Selector):
    """Selects in-batch false negatives, by a guide (a frozen encoder) and by identical texts.

    With g the guide's unit features, candidate c_j is a false negative of anchor a_i with positive p_i when
    `g(a_i, c_j) > g(a_i, p_i) - margin * |g(a_i, p_i)|` (GISTEmbed, arXiv 2402.16829, with its relative margin) and
    `g(a_i, c_j) > floor`, or when c_j has the text of a_i or p_i after `text_keys`. The guide is ignored for a row that
    would lose more than `cap` of its candidates, and for the whole run where it ranks known positives too low.
    Identical texts are masked anyway, unless that would mask every candidate of an anchor.

    - By default masked pairs leave the denominator: a loss without a treatment takes `Treatment(removal="exclude")`. A
      treatment that pushes masked pairs apart harder is refused.
    - With `difficult` and `Treatment(margin=m, temperature_scale=r, same_class_weight=1)` masked pairs leave the
      denominator, and the most similar of the other keys are treated.

    A loss passes ids: `loss(z0, z1, h0, h1, rows=rows)`. Create masks with `fit` or `from_texts`.

    Args:
        table: guide features and texts of all examples.
        margin: relative to the similarity of the anchor's own positive; finite.
        cap: largest share of its candidates that a row may lose, in (0, 1].
        difficult: share of the keys that is flagged for treatment, in (0, 1]; None flags masked pairs instead.
        off_because: why the guide is ignored for the whole run; empty while it is used.
        floor: similarity below which nothing is masked; -1 sets none. Without it, an anchor whose own positive is far
            away loses its hardest true negatives.

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
        self._counter = Counter()
        self._attached = False

    @classmethod
    def fit(
        cls, anchors: ArrayLike, positives: ArrayLike, negatives: Sequence[ArrayLike] = (), *,
        texts: Sequence[Any] | None = None, labels: ArrayLike | None = None, margin: float | None = None,
        floor: float | None = None, cap: float = 0.1, difficult: float | None = None, ids: ArrayLike | None = None,
    ) -> GuideMask:  # fmt: skip
        """A mask for N examples, with margin and floor chosen from the data.

        Args:
            anchors, positives: (N, D) guide features of any length.
            negatives: (N, D) of every column of hard negatives.
            texts: N texts or (N,) integer keys of each column in that order; None tells only examples apart.
            labels: (N,) integers >= 0 of anchors and positives, used by `report` alone.
            margin: None takes `spread_margin` of known positives; 0 is GISTEmbed's.
            floor: None takes `likely_floor` of known positives; -1 is GISTEmbed's, none.
            cap, difficult: see the class.
            ids: (N,) distinct integers by which losses name the examples (`rows=`); None takes positions, 0 to N - 1.

        Raises:
            TypeError: a missing column, or texts that are not strings or keys.
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
                f"more than the cap of {100 * cap:.0f} %, so the pairs that it finds similar are no false negatives; "
                "only identical texts are masked"
            )
        return mask

    @classmethod
    def from_texts(
        cls, guide: Encoder, anchors: Sequence[str], positives: Sequence[str], *negatives: Sequence[str],
        **settings: Any,
    ) -> GuideMask:  # fmt: skip
        """A mask for N examples of texts, each text encoded once.

        Args:
            guide: encodes texts; it may be the model to be trained, whose features are taken before training.
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
            folder: what `pairsift pairs -o` or `inspect_pairs(output=...)` wrote with a guide that compares texts.
            data: the training data, a `datasets.Dataset`, a `pyarrow.Table` or another table; None takes the rows of
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
        """(N, 2) int64: ids of examples, and the column of their texts, as in `Selector.identify`."""
        return torch.stack([rows, torch.full_like(rows, column)], dim=1)

    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, precision: Precision = "fp32",
    ) -> GuideMasks:  # fmt: skip
        """The false negatives of every row, or with `difficult` its difficult pairs.

        Args:
            h: (B, F) features, used only to select difficult pairs.
            keys: (K, F) features of the keys; None compares the rows among themselves.
            own: see `Selector.masks`.
            rows: (B,) ids of anchors, or (B, 2) from `identify`.
            key_rows: (K,) ids of positives, or (K, 2) from `identify`.
            precision: "bf16" multiplies features in bfloat16.

        Raises:
            ValueError: ids that are missing or that the mask was not fitted to.
        """
        check_precision(precision)
        if rows is None and self._attached:
            h, rows = self._detach(h, "features")
            keys, key_rows = (keys, None) if keys is None else self._detach(keys, "keys")
        rows, key_rows = need_rows(self, keys, rows, key_rows)
        anchors = self._side(h, rows, 0, "rows", precision)
        others = anchors if keys is None else self._side(keys, key_rows, 1, "key_rows", precision)
        return GuideMasks(self, anchors, others, 0 if keys is None else own)

    def fit_treatment(self, treatment: Treatment | None) -> Treatment | None:
        """The treatment, by default one that leaves masked pairs out of the denominator.

        Raises:
            ValueError: a treatment that pushes masked pairs apart as before, or harder.
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
        """Deprecated: pass `rows=` to the loss. Features (B, F) of anchors, followed by the ids of their examples.

        Returns:
            (B, F + 2) without gradient, on the device of `h`; float32, or float64 for float64 features.

        Raises:
            ValueError: not one id a row, unknown ids, or ids above 2^24.
        """
        return self._attach(h, rows, "attach", first=0, most=1)

    def attach_keys(self, h: Tensor, rows: Tensor) -> Tensor:
        """Deprecated: pass `rows=` to the loss. `attach` for positives and then each column of negatives.

        Returns:
            (m B, F + 2) for (m B, F) features of the first m columns after the anchors.

        Raises:
            ValueError: more columns than were fitted, or see `attach`.
        """
        return self._attach(h, rows, "attach_keys", first=1, most=len(self.table.features) - 1)

    def describe(self) -> str:
        """What the mask does, in words."""
        if self.off_because:
            return self.off_because
        words = (
            f"masks candidates whose similarity under the guide exceeds the own positive's less {100 * self.margin:.0f}"
            f" % of it and {self.floor:.2f}, and identical texts; at most {100 * self.cap:.0f} % of a row's candidates"
        )
        return words if self.difficult is None else f"{words}; flags the {100 * self.difficult:.0f} % closest others"

    def report(self) -> GuideReport:
        """Counts of all pairs masked so far."""
        return self._counter.report()

    def get_state(self) -> dict[str, Tensor]:
        """The counts; a resumed run fits the table again."""
        return self._counter.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._counter.set_state(state)

    def _side(self, h: Tensor, rows: Tensor, column: int, name: str, precision: Precision) -> _Side:
        """Rows or keys by their ids."""
        pairs = rows if rows.dim() == 2 else self.identify(rows, column)
        if len(pairs) != len(h):
            raise ValueError(f"{name} must be ({len(h)},), an id for each feature row, got {tuple(rows.shape)}")
        found = self.table.cells(self.table.index.positions(pairs[:, 0], name), pairs[:, 1].cpu())
        cells = Cells(*(each.to(h.device) for each in found))
        features = cells.guide if self.difficult is None else unit_rows(h.detach(), "features")
        if precision == "bf16":
            features, cells = features.bfloat16(), cells._replace(guide=cells.guide.bfloat16())
        return _Side(features, cells)

    def _attach(self, h: Tensor, rows: Tensor, name: str, first: int, most: int) -> Tensor:
        warnings.warn(
            f"GuideMask.{name} will go with the next release: pass rows= to the loss, as in loss(z0, z1, h0, h1, "
            "rows=rows)", DeprecationWarning, stacklevel=3,
        )  # fmt: skip
        self._attached = True
        n = len(self.table.index.positions(rows))
        columns = 1 if first == 0 else len(h) // max(1, n)
        if h.dim() != 2 or len(h) != columns * n or not 0 < columns <= most:
            raise ValueError(
                f"h must be ({n}, F), one row a position{f', or up to {most} times as many' if first else ''}: got "
                f"{tuple(h.shape)}"
            )
        given = torch.as_tensor(rows).cpu().long()
        ids = torch.cat([self.identify(given, column) for column in range(first, first + columns)])
        if n and int(given.abs().max()) > _MAX_ATTACHED:
            raise ValueError(f"numbers behind features end at {_MAX_ATTACHED}: pass rows= to the loss instead")
        wide = h.detach().to(torch.promote_types(h.dtype, torch.float32))
        return torch.cat([wide, ids.to(wide)], dim=1)

    @staticmethod
    def _detach(h: Tensor, name: str) -> tuple[Tensor, Tensor]:
        """Features and ids from the result of `attach`."""
        if h.dim() != 2 or h.shape[1] <= 2:
            raise ValueError(
                f"{name} must be (rows, D + 2), as attach and attach_keys make them, got {tuple(h.shape)}: "
                "better pass rows= to the loss"
            )
        return h[:, :-2], h[:, -2:].long()

    def __repr__(self) -> str:
        numbers = f"margin={self.margin:.3g}, floor={self.floor:.3g}, cap={self.cap}, difficult={self.difficult}"
        return f"GuideMask({numbers}{', off' if self.off_because else ''})"


class _Side(NamedTuple):
    """Rows or keys: unit features, of use only with `difficult`, and their cells of the table."""

    features: Tensor
    cells: Cells


class GuideMasks(PairMasks):
    """Masks of a `GuideMask`, created by its `masks`. Every pair is counted once."""

    def __init__(self, mask: GuideMask, anchors: _Side, keys: _Side, own: int | None) -> None:
        super().__init__(len(anchors.cells.text), len(keys.cells.text), keys.cells.text.device)
        self._mask, self._anchors, self._keys, self._own = mask, anchors, keys, own
        self._counted = 0
        self._held: tuple[int, int, Tensor] | None = None
        # An example that stands once among the keys is its row's positive; one that stands twice is a duplicate too.
        examples = keys.cells.example
        _, inverse, counts = torch.unique(examples, return_inverse=True, return_counts=True)
        self._single = torch.where((counts[inverse] == 1) & (examples >= 0), examples, UNKNOWN - 1)

    @torch.no_grad()
    def tile(self, start: int, stop: int) -> Tensor:
        """(stop - start, K) float: 1 for masked pairs, or with `difficult` for difficult ones among the others."""
        false = self.false_negatives(start, stop)
        share = self._mask.difficult
        if share is None:
            return false.to(torch.float32)
        if self._mask.off_because:
            return torch.zeros(false.shape, dtype=torch.float32, device=false.device)
        similar = products(self._anchors.features[start:stop], self._keys.features)
        similar.masked_fill_(false | self._own_pairs(start, stop), -torch.inf)
        return most_similar(similar, nearest_rank(share, self.columns))

    @torch.no_grad()
    def log_weights(self, start: int, stop: int) -> Tensor:
        """(stop - start, K) float32: log 0 for masked pairs and log 1 for others."""
        false = self.false_negatives(start, stop)
        return torch.zeros(false.shape, dtype=torch.float32, device=false.device).masked_fill_(false, EXCLUDED)

    @torch.no_grad()
    def false_negatives(self, start: int, stop: int) -> Tensor:
        """(stop - start, K) bool: the masked pairs; the last result is kept, for `tile` and `log_weights`."""
        if self._held is None or self._held[:2] != (start, stop):
            self._held = (start, stop, self._masked(start, stop))
        return self._held[2]

    def _masked(self, start: int, stop: int) -> Tensor:
        mask, keys = self._mask, self._keys.cells
        anchors = Cells(*(each[start:stop, None] for each in self._anchors.cells))
        own = self._own_pairs(start, stop)
        same = ((keys.text == anchors.partner) | (keys.text == anchors.text)) & ~own
        candidates = self.columns - own.sum(dim=1, keepdim=True)
        same &= same.sum(dim=1, keepdim=True) < candidates  # never all of them
        masked, off = same, torch.zeros_like(candidates, dtype=torch.bool)
        if not mask.off_because:
            least = (anchors.own - mask.margin * anchors.own.abs()).clamp_min(mask.floor)
            guide = products(self._anchors.cells.guide[start:stop], keys.guide)
            # A row without a known pair, such as a hard negative, has no similarity to compare with.
            masked = ((guide > least) & (anchors.example >= 0) & ~own) | same
            off = masked.sum(dim=1, keepdim=True) > mask.cap * candidates
            masked = torch.where(off, same, masked)
        if start >= self._counted:  # a backward pass asks again
            self._counted = stop
            identical = same.sum()
            known = (anchors.label >= 0) & (keys.label >= 0) & ~own
            alike = known & (anchors.label == keys.label)
            mask._counter.add([
                candidates.sum(), masked.sum() - identical, identical, stop - start, off.sum(),
                known.sum(), alike.sum(), (known & masked).sum(), (alike & masked).sum(),
            ])  # fmt: skip
        return masked

    def _own_pairs(self, start: int, stop: int) -> Tensor:
        """(R, K) bool: positives, and rows themselves."""
        own = self._single == self._anchors.cells.example[start:stop, None]
        if self._own is not None:
            own.diagonal(self._own + start).fill_(True)
        return own
