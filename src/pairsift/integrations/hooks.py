"""Hooks that fetch features from inside a model, for training loops that pass on projections only."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pairsift.integrations.graph_rows import loses_rows, traced_from_start, traced_rows
from pairsift.losses.treated import TreatedLoss

# Largest number of remembered calls without a graph.
_REMEMBERED = 64
_NUMBERS = itertools.count()


class FeatureHook:
    """Remembers the output of a layer, and finds the features that projections were computed from.

    Features are found by the autograd graph: those of a projection are the outputs of the layer on which it depends.
    So further views, other orders of views and evaluation do not disturb, and rows that are sliced, picked, flipped or
    joined are followed. Without a graph (a frozen encoder, a key encoder) all calls since the last loss must add up to
    the rows of the projections; calls in evaluation mode are left out if they do not. They belong to the projections in
    the order in which these were computed.

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
            calls = self.take(sum(sizes))
            if (rows := traced_from_start(projections, len(calls))) is not None:
                return [calls[each.to(calls.device)] for each in rows]
            order = sorted(range(len(projections)), key=lambda place: _computed(projections[place]))
            parts = torch.split(calls, [sizes[place] for place in order])
            return [parts[order.index(place)] for place in range(len(projections))]
        self._calls.clear()
        found = [_rows_of(z, each, self._key) for z, each in zip(projections, sources, strict=True)]
        known = [h for h in found if h is not None]
        if len(known) == len(found):
            return known
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


def _rows_of(z: Tensor, sources: Sequence[Tensor], key: str) -> Tensor | None:
    """The rows of features that belong to a projection; None where that is ambiguous."""
    if not sources:
        return None
    h = torch.cat(list(sources))
    rows = traced_rows(z, key)
    if rows is not None:
        return h if torch.equal(rows, torch.arange(len(h))) else h[rows.to(h.device)]
    return h if len(h) == len(z) and not loses_rows(z, key) else None


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
