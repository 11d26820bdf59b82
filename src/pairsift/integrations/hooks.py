"""Features from inside of a model, so that a training loop that passes on only projections needs no other change."""

from __future__ import annotations

from collections import deque
from typing import Any

import torch
from torch import Tensor, nn

from pairsift.losses.treated import TreatedLoss

# Calls of the layer that are remembered: views may come one by one or together, and evaluation may come between.
_REMEMBERED = 8


class FeatureHook:
    """Remembers what a layer of a model gave in its last calls.

    Args:
        model: the model.
        layer: dotted name of the layer whose output are the features h, ``backbone`` say; its output is flattened to
            (B, D). "" is the model itself.

    Raises:
        ValueError: the model has no such layer; the message names those it has.
    """

    def __init__(self, model: nn.Module, layer: str) -> None:
        self.layer = layer
        self._outputs: deque[Tensor] = deque(maxlen=_REMEMBERED)
        self._handle = find_layer(model, layer).register_forward_hook(self._remember)

    def take(self, rows: int) -> Tensor:
        """The last `rows` rows that the layer gave, over one call or several, and forget them.

        Args:
            rows: how many.

        Returns:
            (rows, D), without gradient.

        Raises:
            ValueError: the layer's last calls do not add up to so many rows.
        """
        outputs = list(self._outputs)
        self._outputs.clear()
        for count in range(1, len(outputs) + 1):
            total = sum(len(each) for each in outputs[-count:])
            if total == rows:
                return torch.cat(outputs[-count:])
            if total > rows:
                break
        seen = [len(each) for each in outputs]
        raise ValueError(
            f"layer {self.layer!r} gave batches of {seen} rows since the last loss, whose last do not add up to the "
            f"{rows} rows of the projections: run the whole model on these very views before each loss"
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
        self._outputs.append(output.detach().flatten(1))


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
            ValueError: the watched layer did not give as many rows; or see the loss.
        """
        if len(self.hooks) == 1:
            h = self.hooks[0].take(len(z0) + len(z1))
            h0, h1 = h[: len(z0)], h[len(z0) :]
        else:
            h0, h1 = (hook.take(len(z)) for hook, z in zip(self.hooks, (z0, z1), strict=True))
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
