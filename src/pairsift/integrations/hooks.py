"""Hooks that fetch features from inside a model, for training loops that pass on projections only."""

from __future__ import annotations

import itertools
import operator
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pairsift.losses.treated import TreatedLoss

# Largest number of remembered calls without a graph.
_REMEMBERED = 64
_NUMBERS = itertools.count()


class FeatureHook:
    """Remembers the output of a layer, and finds the features that projections were computed from.

    Features are found by the autograd graph: those of a projection are the outputs of the layer on which it depends.
    So further views, other orders of views and evaluation do not disturb. Without a graph (a frozen encoder, a key
    encoder) all calls since the last loss must add up to the rows of the projections; calls in evaluation mode are left
    out if they do not. They belong to the projections in the order in which these were computed.

    Args:
        model: the model.
        layer: dotted name of the layer whose output, flattened to (B, D), are the features h, such as ``backbone``; ""
            is the model itself.

    Raises:
        ValueError: the model has no such layer; the message names the layers that it has.
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        self.layer = layer
        self._key = f"pairsift features {next(_NUMBERS)}"
        self._calls: deque[tuple[Tensor, bool]] = deque(maxlen=_REMEMBERED)
        self._handle = find_layer(model, layer).register_forward_hook(self._remember)

    def features(self, *projections: Tensor) -> list[Tensor]:
        """The features that projections of one batch, (B, d) each, were computed from.

        Returns:
            (B, D) each, without gradient.

        Raises:
            ValueError: the layer did not output these rows, or it is ambiguous which rows they are.
        """
        sources = [_sources(z, self._key) for z in projections]
        sizes = [len(z) for z in projections]
        if not any(sources):
            order = sorted(range(len(projections)), key=lambda place: _computed(projections[place]))
            parts = torch.split(self.take(sum(sizes)), [sizes[place] for place in order])
            return [parts[order.index(place)] for place in range(len(projections))]
        self._calls.clear()
        found = [_rows_of(z, each) for z, each in zip(projections, sources, strict=True)]
        known = [h for h in found if h is not None]
        if len(known) == len(found):
            return known
        first = sources[0]
        same = all(len(each) == len(first) and all(map(operator.is_, each, first)) for each in sources)
        if same and sum(len(h) for h in first) == sum(sizes):
            # Projections of one joint call that no longer show their position in it are taken in order.
            return list(torch.split(torch.cat(first), sizes))
        seen = [[len(h) for h in each] for each in sources]
        raise ValueError(
            f"layer {self.layer!r} gave batches of {seen} rows to projections of {sizes} rows, and it cannot be told "
            "which rows belong together: pass slices of the model's output, or run the whole model on each view"
        )

    def take(self, rows: int) -> Tensor:
        """All outputs of the layer since the last loss, which are then forgotten.

        Returns:
            (rows, D), without gradient.

        Raises:
            ValueError: the layer's calls do not add up to so many rows.
        """
        calls = list(self._calls)
        self._calls.clear()
        for chosen in ([h for h, training in calls if training], [h for h, _ in calls]):
            if chosen and sum(len(h) for h in chosen) == rows:
                return torch.cat(chosen)
        raise ValueError(
            f"layer {self.layer!r} gave batches of {[len(h) for h, _ in calls]} rows since the last loss, and not the "
            f"{rows} rows of the projections: run the whole model on these very views before each loss, and on nothing "
            "else but in evaluation mode"
        )

    def remove(self) -> None:
        """Remove the hook from the model."""
        self._handle.remove()

    def _remember(self, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, (tuple, list)) and output:
            output = output[0]
        if not isinstance(output, Tensor) or output.dim() < 2:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise ValueError(f"layer {self.layer!r} gave {shape}; features are a tensor with a row for each example")
        h = output.detach().flatten(1)
        if output.grad_fn is None:
            self._calls.append((h, module.training))
        else:  # kept in the graph, as long as the graph lives
            kept: Any = output.grad_fn.metadata
            kept[self._key] = (next(_NUMBERS), h)


def _sources(z: Tensor, key: str) -> list[Tensor]:
    """Features (B, D) that a hook has left in the graph of a tensor, in the order of their calls."""
    found: dict[int, Tensor] = {}
    seen, waiting = set(), [z.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        metadata: Any = node.metadata
        if key in metadata:
            number, h = metadata[key]
            found[number] = h
        else:
            waiting += [each for each, _ in node.next_functions]
    return [found[number] for number in sorted(found)]


def _rows_of(z: Tensor, sources: Sequence[Tensor]) -> Tensor | None:
    """The rows of features that belong to a projection; None where that is ambiguous."""
    if not sources:
        return None
    h, base = torch.cat(list(sources)), z._base
    if len(h) == len(z):
        return h
    if base is None or base.dim() != 2 or len(base) != len(h) or z.stride() != base.stride() or z.dim() != 2:
        return None
    start, rest = divmod(int(z.storage_offset() - base.storage_offset()), base.stride(0))
    return h[start : start + len(z)] if rest == 0 else None


def _computed(z: Tensor) -> tuple[int, int]:
    """The number of a tensor's first operation in the autograd graph, and where its rows start in a larger tensor."""
    first, seen, waiting = 0, set(), [z.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [each for each, _ in node.next_functions]
        if node.next_functions:  # parameters have no place in time
            first = min(first or node._sequence_nr(), node._sequence_nr())
    return first, 0 if z._base is None else int(z.storage_offset())


class HookedLoss(nn.Module):
    """A loss that fetches the features h itself: called as `loss(z0, z1)`, like lightly's NTXentLoss.

    Args:
        loss: a loss called as `loss(z0, z1, h0, h1)`.
        model: the model in training; it does not become a submodule.
        layer: the layer whose output are the features of both views, or one layer for each argument, such as the towers
            of two modalities or MoCo's two encoders.

    Raises:
        ValueError: the model has no such layer; the message names the layers that it has.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 16))
        >>> loss = ps.losses.NTXentLoss(0.5, ps.RankBand(0.15, 0.22), ps.Treatment(margin=0.03))
        >>> hooked = ps.integrations.HookedLoss(loss, model, layer="1")
        >>> hooked(model(torch.randn(64, 8)), model(torch.randn(64, 8))).shape
        torch.Size([])
    """

    def __init__(self, loss: TreatedLoss, model: nn.Module, layer: str | tuple[str, str]) -> None:
        super().__init__()
        self.loss = loss
        names = (layer,) if isinstance(layer, str) else layer
        for name in names:
            find_layer(model, name)  # before any layer gets a hook
        self.hooks = [FeatureHook(model, name) for name in names]

    def forward(self, z0: Tensor, z1: Tensor, **arguments: Any) -> Tensor:
        """The loss of projections (N, d) and (K, d); further arguments are those of the loss.

        Raises:
            ValueError: the layer did not output these rows; or see the loss.
        """
        if len(self.hooks) == 1:
            h0, h1 = self.hooks[0].features(z0, z1)
        else:
            (h0,), (h1,) = (hook.features(z) for hook, z in zip(self.hooks, (z0, z1), strict=True))
        value: Tensor = self.loss(z0, z1, h0, h1, **arguments)
        return value

    def remove(self) -> None:
        """Remove the hooks from the model."""
        for hook in self.hooks:
            hook.remove()


def find_layer(model: nn.Module, layer: str) -> nn.Module:
    """The submodule of a dotted name.

    Raises:
        ValueError: there is none; the message names the children of the deepest module on the way.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if layer in modules:
        return modules[layer]
    parent = layer.rpartition(".")[0]
    while parent not in modules:
        parent = parent.rpartition(".")[0]
    prefix = f"{parent}." if parent else ""
    near = [f"{prefix}{name}" for name, _ in modules[parent].named_children()]
    raise ValueError(f"no layer {layer!r} in {type(model).__name__}: there are {', '.join(near) or 'none below it'}")
