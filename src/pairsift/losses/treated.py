"""`TreatedLoss`, the base of the objectives: a selector of pairs, a treatment for them, and the engine."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from typing import Any, Literal, NamedTuple, TypedDict, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Unpack

from pairsift._base.checks import check_tensors, take_renamed
from pairsift.losses.engine import Comparison, Engine, Rows, Tile, compare
from pairsift.losses.engine.settings import RENAMED
from pairsift.pairs import Precision, RandomPairs, Selector
from pairsift.pairs.selector import transformed
from pairsift.treatments import MIN_TEMPERATURE, Treatment

Selection = Literal["band", "random"]
# CLIP's bound: a learned temperature does not fall below 1 / 100.
COLDEST = 0.01
_OPTIONS = ("select", "seed", "engine", "tile", "precision", "gather_distributed")
# What names of a selector's state begin with in a state dict.
_STATE = "selector_state."


class Options(TypedDict, total=False):
    """Keyword arguments that every treated loss and every adapter takes.

    Attributes:
        select: "band", or "random" to flag the same number of pairs per row at random (the control experiment).
        seed: seed of the random selection.
        engine: how rows are compared; `tile`, `precision` and `gather_distributed` set single
            fields of it, see `Engine`.
        band: the old name of `selector`, which works for one more release.
    """

    select: Selection
    seed: int
    engine: Engine
    tile: Tile
    precision: Precision
    gather_distributed: bool
    band: Selector


class Plan(NamedTuple):
    """What one call of a loss does with pairs.

    Attributes:
        selector: which pairs are selected; None selects nothing.
        treatment: what happens to them; None treats nothing.
    """

    selector: Selector | None
    treatment: Treatment | None

    def ids(self, *parts: tuple[Tensor | None, int], device: torch.device) -> Tensor | None:
        """Ids of one side of a comparison as the selector takes them.

        Args:
            *parts: (N,) int64 ids, and which part of each example is meant; see `Selector.identify`.
            device: of the side.

        Returns:
            (B,) or (B, M) int64, the parts one after the other; None where ids are not known or not wanted.
        """
        if self.selector is None or self.treatment is None:
            return None
        known = [self.selector.identify(rows, column) for rows, column in parts if rows is not None]
        return torch.cat(known).to(device) if len(known) == len(parts) else None


class TreatedLoss(nn.Module):
    """An objective with treated pairs.

    Args:
        selector: which pairs are selected: a `RankBand`, or any `Selector`; None selects nothing.
        treatment: what happens to them; None takes the selector's own default, which is to treat nothing but for
            selectors of false negatives (`GuideMask`).
        **options: see `Options`.

    Raises:
        TypeError: a selector that is none, or an unknown option.
        ValueError: an option out of range, a treatment without a selector, or one that does not fit.
    """

    def __init__(self, selector: Selector | None, treatment: Treatment | None, **options: Unpack[Options]) -> None:
        super().__init__()
        unknown = {name: value for name, value in options.items() if name == "band" or name not in _OPTIONS}
        selector = take_renamed(type(self).__name__, unknown, {"band": "selector"}, RENAMED, 4).get(
            "selector", selector
        )
        if selector is not None and not isinstance(selector, Selector):
            raise TypeError(f"selector must be a RankBand or another pairsift.Selector, got {selector!r}")
        self.selection: Selection = options.get("select", "band")
        if self.selection not in get_args(Selection):
            raise ValueError(f"select must be 'band' or 'random', got {self.selection!r}")
        self.seed = options.get("seed", 0)
        random = selector is not None and self.selection == "random"
        self.selector = RandomPairs(selector, self.seed) if random and selector is not None else selector
        self.treatment = self._fitting(self.selector, treatment)
        fields: dict[str, Any] = {
            name: options[name] for name in ("tile", "precision", "gather_distributed") if name in options
        }
        self.engine = replace(options.get("engine", Engine()), **fields)
        self._warned = False

    def _fitting(self, selector: Selector | None, treatment: Treatment | None) -> Treatment | None:
        """A treatment that fits the selector, the selector's own where there is none.

        Raises:
            ValueError: a treatment without a selector, or one that does not fit it.
        """
        if selector is None:
            if treatment is not None and not treatment.is_neutral:
                raise ValueError(
                    f"{treatment} needs a selector that says which pairs it treats: pass selector=RankBand(start, stop)"
                )
            return treatment
        return selector.fit_treatment(treatment)

    def _plan(self, selector: Selector | None, treatment: Treatment | None, treated: bool) -> Plan:
        """What a call does: its own selector and treatment where it names them, else those of the loss."""
        if selector is not None or treatment is not None:
            selector = self.selector if selector is None else selector
            treatment = self._fitting(selector, self.treatment if treatment is None else treatment)
        else:
            selector, treatment = self.selector, self.treatment
        return Plan(selector, treatment if treated and treatment is not None and not treatment.is_neutral else None)

    def _compare(
        self, rows: Rows, keys: Rows | None, plan: Plan, *, pairs: Tensor | None = None, gathered: bool = True,
        engine: Engine | None = None,
    ) -> Comparison:  # fmt: skip
        """`compare` by a plan and this loss's engine; z serves where features are missing."""
        if plan.treatment is None or pairs is not None:
            rows, keys = Rows(rows.z), None if keys is None else Rows(keys.z)
        elif rows.h is None:
            self._warn_of_projections()
            rows = rows._replace(h=rows.z.detach())
            keys = None if keys is None else keys._replace(h=keys.z.detach())
        return compare(rows, keys, plan.selector, plan.treatment, engine or self.engine, pairs=pairs, gathered=gathered)

    def _select_plan(self, selector: Selector | None) -> Plan:
        """What a call of `select` does.

        Raises:
            ValueError: neither the call nor the loss has a selector.
        """
        selector = self.selector if selector is None else selector
        if selector is None:
            raise ValueError("this loss has no selector of pairs: pass selector=RankBand(start, stop)")
        return Plan(selector, Treatment())

    def _select(self, rows: Rows, keys: Rows | None, plan: Plan, *, gathered: bool = True) -> Tensor:
        """(B, K) bool: the selected pairs of rows, of which the features count, among themselves or with keys."""
        comparison = compare(rows, keys, plan.selector, plan.treatment, self.engine, gathered=gathered)
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

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination.update({f"{prefix}{name}": value for name, value in self._kept().items()})

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        held = {
            name.removeprefix(prefix): state_dict.pop(name)
            for name in list(state_dict)
            if name.startswith(prefix) and is_kept(name.removeprefix(prefix))
        }
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        old = held.pop("_extra_state", None)
        if old is not None:
            held |= _state_of_0_2(old)
        self._restore(held)

    def _kept(self) -> dict[str, Tensor]:
        """Tensors of the state dict besides parameters and buffers: what a resumed run needs of the selector."""
        state = {} if self.selector is None else self.selector.get_state()
        return {f"{_STATE}{name}": value for name, value in state.items()}

    def _restore(self, held: dict[str, Tensor]) -> None:
        """Take back what `_kept` gave; names that are missing leave things as they are."""
        if self.selector is not None:
            self.selector.set_state(
                {name.removeprefix(_STATE): value for name, value in held.items() if name.startswith(_STATE)}
            )

    def extra_repr(self) -> str:
        """The settings, as `print(loss)` shows them."""
        own = self._own_settings()
        return f"{own}{', ' if own else ''}selector={self.selector}, treatment={self.treatment}"

    def _own_settings(self) -> str:
        """What a subclass adds to `extra_repr`."""
        return ""


class TemperedLoss(TreatedLoss):
    """A treated objective with a temperature, which may be set, learned, or given as a tensor.

    Args:
        selector, treatment, options: see `TreatedLoss`.
        temperature: tau, > 0; a number.
        learnable: learn the temperature from there on, in `log_temperature`; it stays at 0.01 or above.
    """

    # Whether gradients reach a temperature that is a tensor, through margins too.
    _takes_tensors = True

    def __init__(
        self, selector: Selector | None, treatment: Treatment | None, temperature: float, learnable: bool = False,
        **options: Unpack[Options],
    ) -> None:  # fmt: skip
        super().__init__(selector, treatment, **options)
        check_temperature(temperature, COLDEST if learnable else 0)
        self._temperature: float | Tensor = temperature
        start = torch.tensor(math.log(temperature), dtype=torch.float32)
        self.log_temperature = nn.Parameter(start) if learnable else None

    @property
    def temperature(self) -> float | Tensor:
        """tau; a scalar tensor with its gradient where it is learned or was set to one.

        Set it to a number, or before every step to a scalar tensor that carries a gradient to a parameter of yours,
        ``loss.temperature = 1 / model.logit_scale.exp()`` say.
        """
        if self.log_temperature is None:
            return self._temperature
        # The parameter itself is held at the bound: a clamp in the graph would have no gradient to come back by.
        if not transformed():  # torch.func forbids to change what a function did not make
            with torch.no_grad():
                self.log_temperature.clamp_(min=math.log(COLDEST))
        return self.log_temperature.exp()

    @temperature.setter
    def temperature(self, value: float | Tensor) -> None:
        if isinstance(value, Tensor):
            if not self._takes_tensors:
                raise TypeError(
                    f"{type(self).__name__} takes a temperature that is a number: its margin has no gradient"
                )
            if value.numel() != 1:
                raise ValueError(f"temperature must be a number or a scalar tensor, got shape {tuple(value.shape)}")
            number, value = float(value.detach()), value.reshape(())
        else:
            number = value
        check_temperature(number, 0 if self.log_temperature is None else COLDEST)
        if self.log_temperature is None:
            self._temperature = value
        else:
            with torch.no_grad():
                self.log_temperature.fill_(math.log(number))

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "temperature" and isinstance(value, nn.Parameter):
            raise TypeError(
                "temperature cannot be a parameter itself, as a step could make it negative: make the loss with "
                "learnable=True, or set temperature to a tensor made of your parameter before each step"
            )
        if name == "temperature":  # torch's own __setattr__ knows no properties
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def _own_settings(self) -> str:
        learned = ", learnable=True" if self.log_temperature is not None else ""
        return (
            f"temperature={float(torch.as_tensor(self._temperature if not learned else self.temperature)):.4g}{learned}"
        )


def is_kept(name: str) -> bool:
    """Whether a name in a loss's own part of a state dict is of its selector or queue, present where there is need."""
    return name == "_extra_state" or name == "queue_rows" or name.startswith(_STATE)


def _state_of_0_2(state: Any) -> dict[str, Tensor]:
    """What version 0.2 kept as extra state, under the names of today."""
    held = {f"{_STATE}draws": torch.tensor(state["draws"], dtype=torch.int64)}
    if "mask" in state:
        counts = torch.tensor(state["mask"]["counts"], dtype=torch.int64)
        held |= {f"{_STATE}counts": counts, f"{_STATE}selector.counts": counts}
    return held


def check_ids(rows: Tensor | None, n: int, name: str = "rows") -> Tensor | None:
    """Ids of examples as int64.

    Args:
        rows: (n,) integers; None where they are not known.
        n: rows of the batch.
        name: of the argument.

    Raises:
        TypeError: no tensor.
        ValueError: not one integer for each row.
    """
    if rows is None:
        return None
    check_tensors({name: rows})
    whole = not (rows.is_floating_point() or rows.is_complex() or rows.dtype == torch.bool)
    if rows.shape != (n,) or not whole:
        raise ValueError(
            f"{name} must be ({n},) whole numbers, the id of each row's example, got {rows.dtype} {tuple(rows.shape)}"
        )
    return rows.to(torch.int64)


def view_ids(plan: Plan, rows: Tensor | None, key_rows: Tensor | None, views: Tensor) -> Tensor | None:
    """Ids (2N,) or (2N, M) of the views of N images, first views first.

    Args:
        plan: of the call.
        rows: (N,) ids of the first views.
        key_rows: (N,) ids of the second views; None takes those of the first.
        views: (2N, .) what they are of.

    Raises:
        TypeError, ValueError: see `check_ids`.
    """
    first = check_ids(rows, len(views) // 2)
    second = first if key_rows is None else check_ids(key_rows, len(views) // 2, "key_rows")
    return plan.ids((first, 0), (second, 1), device=views.device)


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
    least = max(coldest, MIN_TEMPERATURE)
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
