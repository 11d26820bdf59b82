"""The base classes of selectors and masks, the selectors that look at no features, and helpers for all of them."""

from __future__ import annotations

import importlib.util
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor

from pairsift._base.checks import check_tensors, real_array, unmasked
from pairsift.treatments import Treatment

Precision = Literal["fp32", "bf16"]

# Fewer rows make the products slower; more rows make nothing faster (measured on 1,024 to 16,384 keys).
_MAX_TILE_ROWS = 256
# Entries of a tile of similarities. A few tiles are held at a time, 64 MB each.
_TILE_ENTRIES = 2**24
# Loading Triton takes most of a second, so this only looks whether it is installed.
_TRITON = importlib.util.find_spec("triton") is not None
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


class PairMasks(ABC):
    """Which pairs of B rows and K keys are selected, as float masks of a few rows at a time.

    Args:
        rows: B.
        columns: K.
        device: where tiles are made.
        empty: True where it is known that no pair is selected.
    """

    def __init__(self, rows: int, columns: int, device: torch.device, empty: bool = False) -> None:
        self.rows, self.columns, self.device, self.empty = rows, columns, device, empty

    @abstractmethod
    def tile(self, start: int, stop: int) -> Tensor:
        """Masks of the rows `start ... stop - 1`.

        Returns:
            (stop - start, K) float32 in [0, 1], how far each pair is selected; 0 or 1 for most selectors. The caller
            may overwrite it.
        """

    def log_weights(self, start: int, stop: int) -> Tensor | None:
        """Logarithms (stop - start, K), float32, of the weights of pairs in a denominator; None weighs all alike."""
        return None

    def whole(self) -> Tensor:
        """(B, K) bool: the selected pairs of all rows, those with a mask above 0."""
        pairs = torch.zeros(self.rows, self.columns, dtype=torch.bool, device=self.device)
        for start, stop in self.parts():
            pairs[start:stop] = self.tile(start, stop) > 0
        return pairs

    def parts(self) -> list[tuple[int, int]]:
        """Start and stop of the tiles that cover all rows; an empty list where no pair is selected."""
        step = tile_rows(max(self.columns, 1))
        return [(start, min(start + step, self.rows)) for start in range(0, 0 if self.empty else self.rows, step)]


class Selector(ABC):
    """Says which pairs of a batch are treated; a subclass defines `masks`.

    A selector that needs to know which examples are in the batch takes their ids (`rows`, `key_rows`). A loss passes
    ids through `identify`, gathers them from all processes, and queues them.
    """

    @abstractmethod
    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, precision: Precision = "fp32",
    ) -> PairMasks:  # fmt: skip
        """The selected pairs of every row.

        Args:
            h: (B, D) features of the rows.
            keys: (K, D) features of the keys; None compares the rows among themselves.
            own: column of `keys` that is row 0 itself, followed by the other rows; these pairs are never selected. None
                where rows are not among the keys.
            rows: (B,) int64 ids of the rows' examples, or the result of `identify`; None where unknown.
            key_rows: (K,) int64 ids of the keys' examples, likewise.
            precision: of the products of features; see `select_pairs`.
        """

    def fit_treatment(self, treatment: Treatment | None) -> Treatment | None:
        """The treatment that a loss applies to the selected pairs.

        Args:
            treatment: of the user; None takes the selector's default, mostly to treat nothing.

        Raises:
            ValueError: the treatment contradicts the purpose of the selection; the message names treatments that fit.
        """
        return treatment

    def identify(self, rows: Tensor, column: int) -> Tensor:
        """Turn ids of examples into the ids that `masks` takes.

        Args:
            rows: (N,) int64 ids of examples.
            column: part of each example: 0 its anchor or first view, 1 its positive or second view, 2 and up its hard
                negatives.

        Returns:
            (N,) or (N, M) int64; the ids themselves unless the selector tells parts of an example apart.
        """
        return rows

    def get_state(self) -> dict[str, Tensor]:
        """Tensors that a resumed run needs, by name; empty for most selectors."""
        return {}

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        """Restore the result of `get_state`; missing names change nothing."""
        return


class WrappedSelector(Selector):
    """Base of selectors that change the selection of another one; default treatment, ids and state are the other's.

    Args:
        selector: the other selector.
    """

    def __init__(self, selector: Selector) -> None:
        self.selector = selector

    def fit_treatment(self, treatment: Treatment | None) -> Treatment | None:
        return self.selector.fit_treatment(treatment)

    def identify(self, rows: Tensor, column: int) -> Tensor:
        return self.selector.identify(rows, column)

    def get_state(self) -> dict[str, Tensor]:
        return {f"selector.{name}": value for name, value in self.selector.get_state().items()}

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        self.selector.set_state({name.removeprefix("selector."): each for name, each in state.items() if "." in name})


class RowIndex:
    """Finds the positions of examples in a set by their ids.

    Attributes:
        ids: (N,) int64, in the order of the set; None where ids are positions.

    Args:
        n: number of examples.
        ids: (N,) distinct integers; None names examples by their positions, 0 to N - 1.
        owner: beginning of "... N examples" in messages.
        error: type of the errors.

    Raises:
        ValueError: ids that are not N distinct integers.
    """

    def __init__(self, n: int, ids: ArrayLike | None, owner: str, error: type[ValueError] = ValueError) -> None:
        self.n, self._owner, self._error = n, owner, error
        self.ids: Tensor | None = None
        if ids is None:
            return
        given = ids.detach().cpu() if isinstance(ids, Tensor) else torch.from_numpy(np.array(unmasked(ids, "ids")))
        if given.shape != (n,) or not _whole_numbers(given):
            raise error(f"ids must be ({n},) integers, one for each example, got {given.dtype} {tuple(given.shape)}")
        self.ids = given.long()
        self._sorted, self._order = self.ids.sort()
        if bool((self._sorted[1:] == self._sorted[:-1]).any()):
            raise error("ids must be distinct: an id that stands for two examples says nothing about either")

    def positions(self, rows: Any, name: str = "rows") -> Tensor:
        """Positions (B,) int64 on the CPU of the examples with ids `rows` (B,); `name` is for messages.

        Raises:
            ValueError: ids that are not (B,) integers, or that the set lacks.
        """
        given = (
            rows.detach().cpu() if isinstance(rows, Tensor) else torch.from_numpy(real_array(rows, name, self._error))
        )
        if given.dim() != 1 or not _whole_numbers(given):
            raise self._error(f"{name} must be (B,) integer positions, got {given.dtype} {tuple(given.shape)}")
        given = given.long().contiguous()
        if not len(given):
            return given
        if self.ids is None:
            if int(given.min()) < 0 or int(given.max()) >= self.n:
                raise self._error(
                    f"{name} hold positions from {int(given.min())} to {int(given.max())}, and {self._owner} "
                    f"{self.n} examples"
                )
            return given
        place = torch.searchsorted(self._sorted, given).clamp_max(self.n - 1)
        unknown = given[self._sorted[place] != given]
        if len(unknown):
            raise self._error(f"{name} hold {int(unknown[0])}, which is none of the {self.n} ids that were given")
        return self._order[place]


def _whole_numbers(ids: Tensor) -> bool:
    return not (ids.is_floating_point() or ids.is_complex() or ids.dtype == torch.bool)


def need_rows(
    selector: Selector, keys: Tensor | None, rows: Tensor | None, key_rows: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The ids of rows and keys, for selectors that cannot work without them.

    Raises:
        ValueError: ids are missing; the message names the argument.
    """
    if rows is not None and (keys is None or key_rows is not None):
        return rows, rows if keys is None or key_rows is None else key_rows
    missing, whose = ("rows", "examples these are") if rows is None else ("key_rows", "examples the keys are of")
    raise ValueError(
        f"{type(selector).__name__} has to know which {whose}: pass {missing}=, an int64 tensor with an id for "
        "each row, to the loss (or to `select`, `masks`)"
    )


class GivenMasks(PairMasks):
    """Masks of (B, K) bool pairs that are already selected."""

    def __init__(self, pairs: Tensor) -> None:
        super().__init__(pairs.shape[0], pairs.shape[1], pairs.device)
        self.pairs = pairs

    def tile(self, start: int, stop: int) -> Tensor:
        return self.pairs[start:stop].to(torch.float32)

    def whole(self) -> Tensor:
        return self.pairs


class OwnMasks(PairMasks):
    """Masks with at most one selected pair a row, without a (B, K) matrix.

    Args:
        own: (B,) column of the selected key; -1 where a row has none.
        columns: K.
    """

    def __init__(self, own: Tensor, columns: int) -> None:
        super().__init__(len(own), columns, own.device)
        self.own = own

    def tile(self, start: int, stop: int) -> Tensor:
        own = self.own[start:stop, None]
        flags = torch.zeros(len(own), self.columns, dtype=torch.float32, device=own.device)
        return flags.scatter_(1, own.clamp_min(0), (own >= 0).to(torch.float32))


class GivenPairs(Selector):
    """Selects the same (B, K) bool pairs whatever the features.

    Raises:
        TypeError: pairs that are not a bool matrix.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> given = torch.tensor([[False, True], [True, False]])
        >>> ps.GivenPairs(given).masks(torch.randn(2, 8)).whole()
        tensor([[False,  True],
                [ True, False]])
    """

    def __init__(self, pairs: Tensor) -> None:
        self.pairs = check_pairs(pairs)

    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, precision: Precision = "fp32",
    ) -> GivenMasks:  # fmt: skip
        """The given (B, K) pairs; see `Selector`.

        Raises:
            ValueError: the batch has another number of rows or keys.
        """
        shape = (len(h), len(h) if keys is None else len(keys))
        if self.pairs.shape != shape:
            raise ValueError(f"pairs were given for {tuple(self.pairs.shape)} rows and keys, and these are {shape}")
        return GivenMasks(self.pairs.to(h.device))

    def __repr__(self) -> str:
        return f"GivenPairs({self.pairs.shape[0]} x {self.pairs.shape[1]})"


class RandomPairs(WrappedSelector):
    """Selects as many random pairs of every row as another selector: the control experiment of a selection.

    Each call draws from (seed, number of the call, process). A loss saves the number of calls, so that a resumed run
    draws the same pairs.

    Args:
        selector: the selector whose numbers of pairs are copied.
        seed: of the draws.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> h, band = torch.randn(50, 8), ps.RankBand(0.1, 0.3)
        >>> drawn = ps.RandomPairs(band, seed=0).masks(h).whole()
        >>> bool((drawn.sum(1) == ps.select_pairs(h, band).sum(1)).all())
        True
    """

    def __init__(self, selector: Selector, seed: int = 0) -> None:
        super().__init__(selector)
        self.seed, self.draws = seed, 0

    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *,
        rows: Tensor | None = None, key_rows: Tensor | None = None, precision: Precision = "fp32",
    ) -> GivenMasks:  # fmt: skip
        """Random (B, K) pairs, B x K bytes; see `Selector`."""
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        seed = self.seed * 1_000_003 + self.draws + rank * 100_000_007
        self.draws += 1
        pairs = self.selector.masks(h, keys, own, rows=rows, key_rows=key_rows, precision=precision).whole()
        generator = torch.Generator(pairs.device).manual_seed(seed % 2**63)
        return GivenMasks(random_pairs(pairs, generator, own=0 if keys is None else own))

    def get_state(self) -> dict[str, Tensor]:
        return {"draws": torch.tensor(self.draws, dtype=torch.int64), **super().get_state()}

    def set_state(self, state: Mapping[str, Tensor]) -> None:
        if "draws" in state:
            self.draws = int(state["draws"])
        super().set_state(state)

    def __repr__(self) -> str:
        return f"RandomPairs({self.selector!r}, seed={self.seed})"


@torch.no_grad()
def random_pairs(pairs: Tensor, generator: torch.Generator | None = None, *, own: int | None = 0) -> Tensor:
    """Flag as many pairs per row as `pairs` does, but at random.

    Args:
        pairs: (B, K) bool, as from `select_pairs`.
        generator: source of randomness, on the device of `pairs`.
        own: column of the first row itself, followed by the other rows; these pairs are never drawn. None where rows
            are not among the columns.

    Returns:
        (B, K) bool with the row sums of `pairs`.

    Raises:
        TypeError: pairs that are not a bool matrix.
        ValueError: a row that flags every column although it is one of them.
    """
    counts = check_pairs(pairs).sum(dim=1, keepdim=True)
    most = int(counts.max()) if pairs.numel() else 0
    if own is not None and most == pairs.shape[1] > 0:
        raise ValueError(f"a row flags all {most} columns, its own among them: give own=None where rows are no columns")
    order = torch.rand(pairs.shape, generator=generator, dtype=torch.float32, device=pairs.device)
    if own is not None:
        order.diagonal(own).fill_(-1)
    chosen = order.topk(most, dim=1).indices  # most <= K - 1 where a row leaves itself out, so -1 is never drawn
    drawn = torch.arange(most, device=pairs.device) < counts
    return torch.zeros_like(pairs).scatter_(1, chosen, drawn)


def check_pairs(pairs: Tensor) -> Tensor:
    """Refuse pairs that are not a (rows, keys) bool tensor, by a TypeError."""
    check_tensors({"pairs": pairs})
    if pairs.dtype != torch.bool or pairs.dim() != 2:
        raise TypeError(f"pairs must be a (rows, keys) bool tensor, got {pairs.dtype} {tuple(pairs.shape)}")
    return pairs


def check_precision(precision: Precision) -> Precision:
    """Refuse an unknown precision."""
    if precision not in get_args(Precision):
        raise ValueError(f"precision must be 'fp32' or 'bf16', got {precision!r}")
    return precision


def tile_rows(keys: int) -> int:
    """Rows of a tile, 64 to 256, by the number of keys."""
    return min(_MAX_TILE_ROWS, max(64, _TILE_ENTRIES // keys))


def runs_kernels(x: Tensor) -> bool:
    """Whether Triton kernels take this tensor: float32, on a GPU or under Triton's interpreter."""
    return _TRITON and x.dtype == torch.float32 and (x.is_cuda or _INTERPRETED)


def transformed() -> bool:
    """Whether a transform of `torch.func` (grad, vmap) is active; NumPy cannot read the tensors inside one."""
    return bool(torch._C._are_functorch_transforms_active())


def nearest_rank(fraction: float, others: int) -> int:
    """Rank of a fraction of a sorted row: `max(1, ceil(fraction * others))`."""
    # 0.07 * 100 is 7.000000000000001 in floating point, and must not be rounded up to 8.
    return max(1, math.ceil(fraction * others - 1e-9))


def products(rows: Tensor, keys: Tensor) -> Tensor:
    """(R, K) float32 products of unit rows; autocast, which would round them, is off."""
    with torch.autocast(rows.device.type, enabled=False):
        return (rows @ keys.T).float()


def most_similar(similarities: Tensor, count: int) -> Tensor:
    """(R, K) float32: 1 for the `count` largest cosines of each row, or for all above -inf where these are fewer."""
    (edge,) = kth_largest(similarities, count)
    return torch.ge(similarities, edge.clamp_min(-2)).to(torch.float32)


def kth_largest(rows: Tensor, *ranks: int) -> list[Tensor]:
    """Values at some ranks of every row, 1 being the largest value.

    Args:
        rows: (R, K) float32.
        *ranks: in descending order.

    Returns:
        (R, 1) for each rank.
    """
    if rows.device.type != "cpu" or transformed():
        return [rows.kthvalue(rows.shape[1] - rank + 1, dim=1, keepdim=True).values for rank in ranks]
    # numpy's quickselect is 10 to 20 times faster than torch's kthvalue on CPUs. Smaller ranks are then looked for only
    # among the values above.
    top, found = rows.numpy(), []
    for rank in ranks:
        top = np.partition(top, top.shape[1] - rank, axis=1)[:, -rank:]
        found.append(torch.from_numpy(top[:, :1].copy()))
    return found


def unit_rows(features: Tensor, name: str) -> Tensor:
    """Rows (N, D) scaled to unit length in float32; all-zero rows stay zero.

    Raises:
        TypeError: features that are not floating point.
        ValueError: features that are not a (rows, dimensions) matrix, or not finite; the message names the row.
    """
    if not features.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {features.dtype}")
    if transformed() and torch._C._functorch.is_batchedtensor(features):
        raise RuntimeError(
            f"pairs cannot be selected on {name} that vmap batches: select them before, by `select`, and pass pairs=, "
            "or go through the batches in a loop"
        )
    if features.dim() != 2 or 0 in features.shape:
        raise ValueError(f"{name} must be a non-empty (rows, dimensions) matrix, got shape {tuple(features.shape)}")
    if features.dtype in (torch.float16, torch.bfloat16):
        features = features.float()
    # Cosine is scale-free: dividing by the largest entry first keeps huge and tiny rows inside float32.
    peak = features.abs().amax(dim=1, keepdim=True)
    finite = peak.isfinite()
    if not bool(finite.all()):
        rows = (~finite).flatten().nonzero().flatten().tolist()
        raise ValueError(
            f"{name} row {rows[0]} is not finite ({len(rows)} of {len(features)} rows hold nan or inf); "
            "similarities cannot be ranked: look for a diverged encoder or an overflow in half precision"
        )
    scaled = features / peak.clamp_min(torch.finfo(features.dtype).tiny)
    return F.normalize(scaled.float(), dim=1)
