"""Features from inside of a model, for training loops that pass on projections only."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pairsift.losses.treated import TreatedLoss

# Calls without a graph that are remembered, at most.
_REMEMBERED = 64
_NUMBERS = itertools.count()


class FeatureHook:
    """Remembers what a layer of a model gave, and finds the features that projections were made of.

    Features are found by the graph of gradients: those of a projection are the outputs of the layer that it depends on.
    Other calls do not disturb: further views, views in another order, evaluation. Where there is no graph (a frozen
    encoder, a key encoder) all calls since the last loss have to add up to the rows that are asked for; calls in
    evaluation mode are left out if they do not. They belong to the projections in the order in which those were made.

    Args:
        model: the model.
        layer: dotted name of the layer whose output are the features h, ``backbone`` say; its output is flattened to
            (B, D). "" is the model itself.

    Raises:
        ValueError: the model has no such layer; the message names those it has.
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        self.layer = layer
        self._key = f"pairsift features {next(_NUMBERS)}"
        self._calls: deque[tuple[Tensor, bool]] = deque(maxlen=_REMEMBERED)
        self._handle = find_layer(model, layer).register_forward_hook(self._remember)

    def features(self, *projections: Tensor) -> list[Tensor]:
        """The features that projections were made of.

        Args:
            *projections: (B, d) each, of one batch.

        Returns:
            (B, D) each, without gradient.

        Raises:
            ValueError: the layer did not give these rows, or it cannot be told which rows they are.
        """
        sources = [_sources(z, self._key) for z in projections]
        if not any(sources):
            order = sorted(range(len(projections)), key=lambda place: _made(projections[place]))
            rows = [len(projections[place]) for place in order]
            parts = dict(zip(order, torch.split(self.take(sum(rows)), rows), strict=True))
            return [parts[place] for place in range(len(projections))]
        self._calls.clear()
        found = [_rows_of(z, each) for z, each in zip(projections, sources, strict=True)]
        whole = torch.cat(sources[0]) if sources[0] else projections[0][:0]
        together = any(h is None for h in found) and all(_alike(each, sources[0]) for each in sources)
        if together and len(whole) == sum(len(z) for z in projections):
            # Projections that were made together, and no longer show where they stand, are taken in their order.
            return list(torch.split(whole, [len(z) for z in projections]))
        if any(h is None for h in found):
            seen = [[len(h) for h in each] for each in sources]
            raise ValueError(
                f"layer {self.layer!r} gave batches of {seen} rows to projections of {[len(z) for z in projections]} "
                "rows, and it cannot be told which rows belong together: pass slices of the model's output, or run the "
                "whole model on each view"
            )
        return [h for h in found if h is not None]

    def take(self, rows: int) -> Tensor:
        """All rows that the layer gave since the last loss, which are then forgotten.

        Args:
            rows: how many they have to be.

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
        """Leave the model as it was."""
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
        else:  # lives as long as the graph does, and is found through it
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
        left = metadata.get(key)
        if left is None:
            waiting += [each for each, _ in node.next_functions]
        else:
            found[left[0]] = left[1]
    return [found[number] for number in sorted(found)]


def _rows_of(z: Tensor, sources: Sequence[Tensor]) -> Tensor | None:
    """The rows of some features that a projection stands for; None where that cannot be told."""
    if not sources:
        return None
    h, base = torch.cat(list(sources)), z._base
    if len(h) == len(z):
        return h
    if base is None or base.dim() != 2 or len(base) != len(h) or z.stride() != base.stride() or z.dim() != 2:
        return None
    start, rest = divmod(int(z.storage_offset() - base.storage_offset()), base.stride(0))
    return h[start : start + len(z)] if rest == 0 else None


def _made(z: Tensor) -> tuple[int, int]:
    """When the first operation with a gradient made a tensor, and where its rows stand in what they are a slice of."""
    first, seen, waiting = 0, set(), [z.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [each for each, _ in node.next_functions]
        if node.next_functions:  # parameters have no place in time
            first = min(first or node._sequence_nr(), node._sequence_nr())  # type: ignore[attr-defined]
    return first, 0 if z._base is None else int(z.storage_offset())


def _alike(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return len(first) == len(second) and all(a is b for a, b in zip(first, second, strict=True))


class HookedLoss(nn.Module):
    """A loss that fetches the features h itself: called as `loss(z0, z1)`, like lightly's NTXentLoss.

    Args:
        loss: a loss called as `loss(z0, z1, h0, h1)`.
        model: the model that is trained; it is watched, not owned.
        layer: the layer whose output are the features of both views; or one layer for each argument (the towers of
            two modalities, MoCo's encoder and its key encoder).

    Raises:
        ValueError: the model has no such layer; the message names those it has.

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
            find_layer(model, name)  # all are there before any is hooked
        self.hooks = [FeatureHook(model, name) for name in names]

    def forward(self, z0: Tensor, z1: Tensor, **arguments: Any) -> Tensor:
        """The loss of projections (N, d) and (K, d), with the features of the calls that made them.

        Raises:
            ValueError: the watched layer did not give these rows; or see the loss.
        """
        if len(self.hooks) == 1:
            h0, h1 = self.hooks[0].features(z0, z1)
        else:
            (h0,), (h1,) = (hook.features(z) for hook, z in zip(self.hooks, (z0, z1), strict=True))
        value: Tensor = self.loss(z0, z1, h0, h1, **arguments)
        return value

    def remove(self) -> None:
        """Leave the model as it was."""
        for hook in self.hooks:
            hook.remove()


def find_layer(model: nn.Module, layer: str) -> nn.Module:
    """The submodule of a dotted name.

    Raises:
        ValueError: there is none; the message names those nearest to the model's top.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if layer in modules:
        return modules[layer]
    parent = layer.rpartition(".")[0]
    while parent and parent not in modules:
        parent = parent.rpartition(".")[0]
    prefix = f"{parent}." if parent else ""
    near = [f"{prefix}{name}" for name, _ in modules[parent].named_children()]
    raise ValueError(f"no layer {layer!r} in {type(model).__name__}: there are {', '.join(near) or 'none below it'}")
