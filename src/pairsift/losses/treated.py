"""`TreatedLoss` and `TemperedLoss`, the base classes of the losses, and checks of their arguments."""

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
# Lower bound of a learned temperature, from CLIP (arXiv 2103.00020).
COLDEST = 0.01
_FIELDS = ("tile", "precision", "gather_distributed")
# Prefix of a selector's state in a state dict.
_STATE = "selector_state."


class Options(TypedDict, total=False):
    """Keyword arguments of every treated loss.

    Attributes:
        select: "band", or "random" to flag as many pairs per row at random (the control experiment).
        seed: of the random selection.
        engine: how rows are compared with keys.
        tile, precision, gather_distributed: single fields of `engine`; see `Engine`.
        band: deprecated name of `selector`.
    """

    select: Selection
    seed: int
    engine: Engine
    tile: Tile
    precision: Precision
    gather_distributed: bool
    band: Selector


class Plan(NamedTuple):
    """Selector and treatment of one call of a loss; None selects or treats nothing."""

    selector: Selector | None
    treatment: Treatment | None

    def ids(self, rows: Tensor | None, x: Tensor, column: int = 0, name: str = "rows") -> Tensor | None:
        """`Selector.identify` of ids (N,), on the device of their rows `x`; None where ids are unknown or not needed.

        Raises:
            TypeError, ValueError: ids, called `name` in the message, that are not (N,) integers.
        """
        rows = check_ids(rows, len(x), name)
        if rows is None or self.selector is None or self.treatment is None:
            return None
        return self.selector.identify(rows, column).to(x.device)

    def ids_of_views(
        self, rows: Tensor | None, key_rows: Tensor | None, first: Tensor, second: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """`ids` of the first and of the second views; the second default to the first."""
        others = (rows, second, 1) if key_rows is None else (key_rows, second, 1, "key_rows")
        return self.ids(rows, first), self.ids(*others)


class TreatedLoss(nn.Module):
    """Base class of losses that select pairs and treat them.

    A call takes projections z, on which the loss is computed, and encoder features h, on which pairs are selected.
    Pairs carry no gradient. Without features pairs are selected on the projections, with a warning. The keyword
    arguments of a call are

    - rows: (N,) integer ids of the examples in the batch, for selectors that need them;
    - key_rows: ids of the second views or of the keys, where these belong to other examples; None takes `rows`;
    - pairs: a selection made before, of the shape that `select` returns; the features are then not used;
    - treated: False treats no pair in this call, as before a warm-up has ended;
    - selector, treatment: replace those of the loss in this call.

    A loss is float64 for float64 projections and float32 for all others, under autocast too. In a process group it is
    the mean over all processes.

    Args:
        selector: which pairs are selected, a `RankBand` or any `Selector`; None selects nothing.
        treatment: of these pairs; None takes the selector's default, which treats nothing except for selectors of
            false negatives (`GuideMask`, `SelfMask`).
        **options: see `Options`.

    Raises:
        TypeError: something else than a selector, or an unknown option.
        ValueError: an option out of range, a treatment without a selector, or one that does not fit.
    """

    # Attributes that `print(loss)` shows.
    _shown: tuple[str, ...] = ()

    def __init__(self, selector: Selector | None, treatment: Treatment | None, **options: Unpack[Options]) -> None:
        super().__init__()
        known = ("select", "seed", "engine", *_FIELDS)
        unknown = {name: value for name, value in options.items() if name not in known}
        # The warning names the line of the user, above the constructors of subclasses.
        constructors = sum("__init__" in vars(each) for each in type(self).__mro__ if issubclass(each, TreatedLoss))
        old = take_renamed(type(self).__name__, unknown, {"band": "selector"}, RENAMED, 2 + constructors)
        selector = old.get("selector", selector)
        if selector is not None and not isinstance(selector, Selector):
            raise TypeError(f"selector must be a RankBand or another pairsift.Selector, got {selector!r}")
        self.selection: Selection = options.get("select", "band")
        if self.selection not in get_args(Selection):
            raise ValueError(f"select must be 'band' or 'random', got {self.selection!r}")
        self.seed = options.get("seed", 0)
        if selector is not None and self.selection == "random":
            selector = RandomPairs(selector, self.seed)
        self.selector = selector
        self.treatment = self._fitting(selector, treatment)
        fields: dict[str, Any] = {name: value for name, value in options.items() if name in _FIELDS}
        self.engine = replace(options.get("engine", Engine()), **fields)
        self._warned = False

    def _fitting(self, selector: Selector | None, treatment: Treatment | None) -> Treatment | None:
        """A treatment that fits the selector, by default the selector's own.

        Raises:
            ValueError: a treatment without a selector, or one that does not fit it.
        """
        if selector is not None:
            return selector.fit_treatment(treatment)
        if treatment is not None and not treatment.is_neutral:
            raise ValueError(
                f"{treatment} needs a selector that says which pairs it treats: pass selector=RankBand(start, stop)"
            )
        return treatment

    def _plan(self, selector: Selector | None, treatment: Treatment | None, treated: bool) -> Plan:
        """Selector and treatment of a call, by default the loss's own."""
        if selector is None and treatment is None:
            selector, treatment = self.selector, self.treatment
        else:
            selector = self.selector if selector is None else selector
            treatment = self._fitting(selector, self.treatment if treatment is None else treatment)
        return Plan(selector, treatment if treated and treatment is not None and not treatment.is_neutral else None)

    def _compare(
        self, rows: Rows, keys: Rows | None, plan: Plan, *, pairs: Tensor | None = None, gathered: bool = True,
        engine: Engine | None = None,
    ) -> Comparison:  # fmt: skip
        """`compare` by the plan and this loss's engine, on projections where features are missing."""
        if plan.treatment is None or pairs is not None:
            rows, keys = Rows(rows.z), None if keys is None else Rows(keys.z)
        elif rows.h is None:
            rows = rows._replace(h=rows.z.detach())
            keys = None if keys is None else keys._replace(h=keys.z.detach())
            if not self._warned:
                self._warned = True
                warnings.warn(
                    "pairs are selected on the projections z because no features h were given: the projector discards "
                    "what tells classes apart, and the gain of the treatment shrinks or disappears (arXiv 2501.01317, "
                    "Table 7: CIFAR-10 89.68 with h, 87.86 with z, 88.26 untreated). Call loss(z0, z1, h0, h1).",
                    stacklevel=5,
                )
        return compare(rows, keys, plan.selector, plan.treatment, engine or self.engine, pairs=pairs, gathered=gathered)

    def _select_plan(self, selector: Selector | None) -> Plan:
        """The plan of a call of `select`.

        Raises:
            ValueError: neither the call nor the loss has a selector.
        """
        selector = self.selector if selector is None else selector
        if selector is None:
            raise ValueError("this loss has no selector of pairs: pass selector=RankBand(start, stop)")
        return Plan(selector, Treatment())

    def _select(self, rows: Rows, keys: Rows | None, plan: Plan, *, gathered: bool = True) -> Tensor:
        """(B, K) bool: the pairs selected on the features of rows and keys."""
        comparison = compare(rows, keys, plan.selector, plan.treatment, self.engine, gathered=gathered)
        assert comparison.masks is not None
        return comparison.masks.whole()

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination.update({f"{prefix}{name}": value for name, value in self._kept().items()})

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *arguments: Any) -> None:
        names = [name for name in state_dict if name.startswith(prefix) and is_kept(name.removeprefix(prefix))]
        held = {name.removeprefix(prefix): state_dict.pop(name) for name in names}
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        if (old := held.pop("_extra_state", None)) is not None:  # of version 0.2
            held[f"{_STATE}draws"] = torch.tensor(old["draws"], dtype=torch.int64)
            if "mask" in old:
                counts = torch.tensor(old["mask"]["counts"], dtype=torch.int64)
                held |= {f"{_STATE}counts": counts, f"{_STATE}selector.counts": counts}
        self._restore(held)

    def _kept(self) -> dict[str, Tensor]:
        """Tensors of the state dict that are neither parameters nor buffers: the selector's state."""
        state = {} if self.selector is None else self.selector.get_state()
        return {f"{_STATE}{name}": value for name, value in state.items()}

    def _restore(self, held: dict[str, Tensor]) -> None:
        """Restore the result of `_kept`; missing names change nothing."""
        if self.selector is not None:
            self.selector.set_state(
                {name.removeprefix(_STATE): value for name, value in held.items() if name.startswith(_STATE)}
            )

    @property
    def selector_state(self) -> _Named:
        """The selector's tensors of the state dict, as attributes: torch.distributed.checkpoint looks keys up so."""
        return _Named({name.removeprefix(_STATE): value for name, value in TreatedLoss._kept(self).items()})

    def extra_repr(self) -> str:
        """The settings, as `print(loss)` shows them."""
        own = [f"{name}={getattr(self, name)!r}" for name in self._shown]
        return ", ".join([*own, f"selector={self.selector}", f"treatment={self.treatment}"])


class _Named:
    """Values with dotted names, as nested attributes."""

    def __init__(self, values: dict[str, Tensor]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        if name in self._values:
            return self._values[name]
        below = {key.removeprefix(f"{name}."): each for key, each in self._values.items() if key.startswith(f"{name}.")}
        if not below:
            raise AttributeError(name)
        return _Named(below)


class PairedLoss(TreatedLoss):
    """Base class of losses between first and second views, or between rows and keys."""

    def select(
        self, h0: Tensor, h1: Tensor, *, rows: Tensor | None = None, key_rows: Tensor | None = None,
        selector: Selector | None = None,
    ) -> Tensor:  # fmt: skip
        """Flag the difficult pairs of a batch, as `forward` does.

        Args:
            h0: (N, D) features of the first views.
            h1: (N, D) features of the second views; (K, D) where keys may outnumber rows.
            rows, key_rows, selector: see `TreatedLoss`.

        Returns:
            (N, K) bool, first views by second views, or (2N, 2N) of a loss that compares all views among themselves,
            first views first. In a process group the columns are those of all processes, in their order.

        Raises:
            ValueError: the loss has no selector, features of different widths, or see `select_pairs`.
        """
        plan = self._select_plan(selector)
        return self._select(*self._sides(plan, h0, h1, rows, key_rows), plan)

    def _sides(
        self, plan: Plan, h0: Tensor, h1: Tensor, rows: Tensor | None, key_rows: Tensor | None
    ) -> tuple[Rows, Rows | None]:
        """Features and ids of rows and of keys; None where rows are compared among themselves."""
        ids = plan.ids_of_views(rows, key_rows, h0, h1)
        return Rows(h0, h0, ids[0]), Rows(h1, h1, ids[1])


class TemperedLoss(TreatedLoss):
    """Base class of treated losses with a temperature.

    Args:
        selector, treatment, **options: see `TreatedLoss`.
        temperature: tau, a number > 0.
        learnable: learn the logarithm of the temperature as the parameter `log_temperature`; tau stays >= 0.01.
    """

    # Whether the temperature may be a tensor, to which margins carry a gradient.
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
        """tau; a scalar tensor with a gradient where it is learned or was set to one.

        Set it to a number, or before every step to a scalar tensor made of a parameter of yours, such as
        ``loss.temperature = 1 / model.logit_scale.exp()``.
        """
        if self.log_temperature is None:
            return self._temperature
        # The parameter itself is kept at the bound. Beyond a clamp in the graph it would have no gradient.
        if not transformed():  # torch.func forbids in-place changes of tensors from outside
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
            value = value.reshape(())
        number = float(value.detach()) if isinstance(value, Tensor) else value
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
        super().__setattr__(name, value)

    def extra_repr(self) -> str:
        learned = "" if self.log_temperature is None else ", learnable=True"
        return f"temperature={float(torch.as_tensor(self.temperature).detach()):.4g}{learned}, {super().extra_repr()}"


def is_kept(name: str) -> bool:
    """Whether a key of a loss's state dict may be missing: the state of a selector, or the ids of a queue."""
    return name in ("_extra_state", "queue_rows") or name.startswith(_STATE)


def check_ids(rows: Tensor | None, n: int, name: str = "rows") -> Tensor | None:
    """Ids of examples as int64; None stays None.

    Raises:
        TypeError: something else than a tensor.
        ValueError: ids that are not one integer for each of the n rows.
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


def wide(z: Tensor) -> Tensor:
    """Half precision as float32; float32 and float64 unchanged."""
    return z if z.dtype == torch.float64 else z.float()


def unit(z: Tensor) -> Tensor:
    """Rows of unit length, in float32 or float64; rows shorter than 1e-12 count as zero."""
    z = wide(z)
    return F.normalize(z * power_of_two(z), dim=1)


@torch.no_grad()
def power_of_two(z: Tensor) -> Tensor:
    """(N, 1) powers of two that bring the largest entry of every row to 1 or below, without rounding.

    Squares of entries beyond 1e19 overflow in float32, and such rows would lose their direction.
    """
    exponent = torch.frexp(z.abs().amax(dim=1, keepdim=True)).exponent.clamp(0, 120)
    return torch.ldexp(torch.ones_like(exponent, dtype=z.dtype), -exponent)


def check_temperature(temperature: float, coldest: float = 0) -> float:
    """Refuse a temperature that is not finite and positive, or so low that logits leave the range of float32."""
    least = max(coldest, MIN_TEMPERATURE)
    if isinstance(temperature, bool) or not isinstance(temperature, (int, float, np.floating)):
        raise TypeError(f"temperature must be a number, got {temperature!r}")
    if not (math.isfinite(temperature) and temperature >= least):
        low = f">= {least:g}" if temperature > 0 or coldest else "> 0"
        raise ValueError(f"temperature must be finite and {low}, got {temperature}")
    return temperature


def check_alike(z0: Tensor, z1: Tensor, h0: Tensor | None, h1: Tensor | None) -> None:
    """Refuse projections of two dtypes, features of two dtypes, integers, and several devices.

    Features may have another dtype than projections, as under autocast.
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


def check_views(z0: Tensor, z1: Tensor, h0: Tensor | None, h1: Tensor | None, more_keys: bool = False) -> None:
    """Refuse shapes other than (N, d) twice, with (N, D) twice or no features; see also `check_alike`.

    With `more_keys`, `z1` and `h1` may have more rows than `z0` and `h0`.
    """
    check_tensors({"z0": z0, "z1": z1}, h0=h0, h1=h1)
    fits = z0.dim() == z1.dim() == 2 and z0.shape[1] == z1.shape[1] and 0 not in z0.shape
    if not fits or not (len(z0) <= len(z1) if more_keys else len(z0) == len(z1)):
        shapes = "(N, d) and (K, d) with K >= N" if more_keys else "(N, d) matrices of one shape"
        raise ValueError(f"z0 and z1 must be non-empty {shapes}, got {tuple(z0.shape)} and {tuple(z1.shape)}")
    if (h0 is None) != (h1 is None):
        raise ValueError(f"pass the features of both {'towers' if more_keys else 'views'} (h0 and h1) or of neither")
    check_alike(z0, z1, h0, h1)
    if h0 is None or h1 is None:
        return
    if h0.dim() != 2 or h1.dim() != 2 or len(h0) != len(z0) or len(h1) != len(z1):
        raise ValueError(
            f"h0 and h1 must have a row for each of z0 and z1, ({len(z0)}, D) and ({len(z1)}, D), got "
            f"{tuple(h0.shape)} and {tuple(h1.shape)}"
        )
    if h0.shape[1] != h1.shape[1]:
        raise ValueError(
            f"h0 and h1 have {h0.shape[1]} and {h1.shape[1]} dimensions and cannot be compared: give features after "
            "the layers that bring both to one width, or leave them out to select on the projections"
        )
