"""What every treated objective shares: which pairs are difficult, what happens to them, and how rows are compared."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any, Literal, TypedDict, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Unpack

from pairsift._base.checks import check_tensors
from pairsift.losses.engine import Comparison, Engine, Rows, Tile, compare
from pairsift.pairs import GuideMask, Precision, RandomPairs, Selector
from pairsift.treatments import LEAST_TEMPERATURE, Treatment

Selection = Literal["band", "random"]


class Options(TypedDict, total=False):
    """Keyword arguments that every treated loss and every adapter takes.

    Attributes:
        select: "band", or "random" to flag the same number of pairs per row at random (the control experiment).
        seed: seed of the random selection.
        engine: how rows are compared; `tile`, `precision` and `gather` set single fields of it, see `Engine`.
    """

    select: Selection
    seed: int
    engine: Engine
    tile: Tile
    precision: Precision
    gather: bool


class TreatedLoss(nn.Module):
    """An objective with difficult pairs.

    Args:
        band: which pairs are difficult: a `RankBand`, or any `Selector`; None selects nothing.
        treatment: what happens to them; None treats nothing.
        **options: see `Options`.

    Raises:
        TypeError: a band that is no selector, or an unknown option.
        ValueError: an option out of range, or a treatment without a band to apply it to.
    """

    def __init__(self, band: Selector | None, treatment: Treatment | None, **options: Unpack[Options]) -> None:
        super().__init__()
        unknown = set(options) - set(Options.__annotations__)
        if unknown:
            raise TypeError(f"{type(self).__name__} has no argument {sorted(unknown)[0]!r}")
        if band is not None and not isinstance(band, Selector):
            raise TypeError(f"band must be a RankBand or another selector (an object with masks), got {band!r}")
        if treatment is not None and not treatment.is_neutral and band is None:
            raise ValueError(f"{treatment} needs a band that says which pairs it treats: pass band=RankBand(high, low)")
        self.selection: Selection = options.get("select", "band")
        if self.selection not in get_args(Selection):
            raise ValueError(f"select must be 'band' or 'random', got {self.selection!r}")
        self.band = band
        self.treatment = treatment
        self.seed = options.get("seed", 0)
        self.selector = band if band is None or self.selection == "band" else RandomPairs(band, self.seed)
        fields: dict[str, Any] = {name: options[name] for name in ("tile", "precision", "gather") if name in options}
        self.engine = replace(options.get("engine", Engine()), **fields)
        self._warned = False

    def _compare(
        self, rows: Rows, keys: Rows | None = None, *, treated: bool = True, pairs: Tensor | None = None,
        gathered: bool = True, engine: Engine | None = None,
    ) -> Comparison:  # fmt: skip
        """`compare` with this loss's selector, treatment and engine; z serves where features are missing."""
        treatment = self.treatment if treated and self.treatment is not None and not self.treatment.is_neutral else None
        if treatment is None or pairs is not None:
            rows, keys = Rows(rows.z), None if keys is None else Rows(keys.z)
        elif rows.h is None:
            self._warn_of_projections()
            rows = Rows(rows.z, rows.z.detach())
            keys = None if keys is None else Rows(keys.z, keys.z.detach())
        return compare(
            rows, keys, self.selector, treatment, engine or self.engine,
            pairs=pairs, gathered=gathered,
        )  # fmt: skip

    def _select(self, rows: Tensor, keys: Tensor | None = None, *, gathered: bool = True) -> Tensor:
        """(B, K) bool: the difficult pairs of feature rows among themselves or with keys."""
        if self.band is None:
            raise ValueError("this loss has no band to select pairs with: pass band=RankBand(high, low)")
        features = None if keys is None else Rows(keys, keys)
        comparison = compare(Rows(rows, rows), features, self.selector, Treatment(), self.engine, gathered=gathered)
        assert comparison.masks is not None
        return comparison.masks.whole()

    def _warn_of_projections(self) -> None:
        if not self._warned:
            self._warned = True
            warnings.warn(
                "pairs are selected on the projections z because no features h were given: the projector discards what "
                "tells classes apart, and the gain of the treatment shrinks or disappears (arXiv 2501.01317, Table 7: "
                "CIFAR-10 89.68 with h, 87.86 with z, 88.26 untreated). Call loss(z0, z1, h0, h1).",
                stacklevel=5,
            )

    def get_extra_state(self) -> Any:
        """What a resumed run needs to draw the same random pairs, and to go on counting what a guide masks."""
        state = {"draws": getattr(self.selector, "draws", 0)}
        return {**state, "mask": self.band.get_state()} if isinstance(self.band, GuideMask) else state

    def set_extra_state(self, state: Any) -> None:
        """See `get_extra_state`."""
        if isinstance(self.selector, RandomPairs):
            self.selector.draws = state["draws"]
        if isinstance(self.band, GuideMask) and "mask" in state:
            self.band.set_state(state["mask"])

    def extra_repr(self) -> str:
        """The settings, as `print(loss)` shows them."""
        own = self._own_settings()
        return f"{own}{', ' if own else ''}band={self.band}, treatment={self.treatment}, select={self.selection!r}"

    def _own_settings(self) -> str:
        """What a subclass adds to `extra_repr`."""
        return ""


def wide(z: Tensor) -> Tensor:
    """Half precision as float32: the losses compute in float32 or float64."""
    return z if z.dtype == torch.float64 else z.float()


def unit(z: Tensor) -> Tensor:
    """Rows of unit length, in float32 or float64; a length below 1e-12 counts as none."""
    z = wide(z)
    return F.normalize(z * power_of_two(z), dim=1)


@torch.no_grad()
def power_of_two(z: Tensor) -> Tensor:
    """(N, 1) factors that bring the largest entry of every row to 1 or below and round nothing.

    Squares of entries beyond 1e19 overflow in float32: such rows would have no direction.
    """
    exponent = torch.frexp(z.abs().amax(dim=1, keepdim=True)).exponent.clamp(0, 120)
    return torch.ldexp(torch.ones_like(exponent, dtype=z.dtype), -exponent)


def check_temperature(temperature: float, coldest: float = 0) -> float:
    """Refuse a temperature that is not finite and positive, or so cold that logits leave the range of float32."""
    least = max(coldest, LEAST_TEMPERATURE)
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float, np.floating)):
        raise TypeError(f"temperature must be a number, got {temperature!r}")
    if not (math.isfinite(temperature) and temperature >= least):
        low = f">= {least:g}" if temperature > 0 or coldest else "> 0"
        raise ValueError(f"temperature must be finite and {low}, got {temperature}")
    return temperature


def check_alike(z0: Tensor, z1: Tensor, h0: Tensor | None, h1: Tensor | None) -> None:
    """Refuse what is no tensor, projections, or features, of two dtypes, whole numbers, and several devices.

    Features may be of another dtype than projections: under autocast they often are.
    """
    for name, first, second in (("projections", z0, z1), ("features", h0, h1)):
        if first is None or second is None:
            continue
        if first.dtype != second.dtype or not first.is_floating_point():
            raise ValueError(
                f"both {name} must be floating point of one dtype, got {first.dtype} and {second.dtype}: make them "
                "under one autocast, or cast one of them"
            )
    devices = [str(each.device) for each in (z0, z1, h0, h1) if each is not None]
    if len(set(devices)) > 1:
        raise ValueError(f"all projections and features must be on one device, got {', '.join(devices)}")


def check_views(z0: Tensor, z1: Tensor, h0: Tensor | None, h1: Tensor | None) -> None:
    """Refuse shapes that do not fit: (N, d) twice, and (N, D) twice or not at all; see also `check_alike`."""
    check_tensors({"z0": z0, "z1": z1}, h0=h0, h1=h1)
    if z0.dim() != 2 or z0.shape != z1.shape or 0 in z0.shape:
        raise ValueError(
            f"z0 and z1 must be non-empty (N, d) matrices of one shape, got {tuple(z0.shape)} and {tuple(z1.shape)}"
        )
    if (h0 is None) != (h1 is None):
        raise ValueError("pass the features of both views (h0 and h1) or of neither")
    if h0 is not None and h1 is not None and (h0.dim() != 2 or h0.shape != h1.shape or len(h0) != len(z0)):
        raise ValueError(
            f"h0 and h1 must be (N, D) with N = {len(z0)} as in z0, got {tuple(h0.shape)} and {tuple(h1.shape)}"
        )
    check_alike(z0, z1, h0, h1)
