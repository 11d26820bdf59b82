"""Gradients of large batches in little memory, by embedding parts twice (GradCache, arXiv 2101.06983)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

Tokens = dict[str, Any]


class CachedEmbeddings:
    """Embeddings of a batch without graphs of the encoder, which the backward pass computes again a part at a time.

    Args:
        embed: turns the tokens of b texts into (b, D) embeddings with a graph.
        columns: tokens of every column, tensors of (B, ...) values.
        size: texts embedded at once, > 0.

    Attributes:
        columns: (B, D) embeddings of each column, leaves of the autograd graph.
    """

    def __init__(self, embed: Callable[[Tokens], Tensor], columns: Sequence[Tokens], size: int) -> None:
        self._embed = embed
        self._parts = [list(_parts(tokens, size)) for tokens in columns]
        self._random: list[list[_Random]] = []
        self.columns: list[Tensor] = []
        for parts in self._parts:
            self._random.append([])
            embedded = []
            for part in parts:
                self._random[-1].append(_Random(part))
                with torch.no_grad():
                    embedded.append(embed(part))
            self.columns.append(torch.cat(embedded).detach().requires_grad_())

    def loss(self, value: Tensor, gradients: Sequence[Tensor] | None = None) -> Tensor:
        """The value of a loss of `columns`, with a backward pass that reaches the encoder.

        Args:
            value: scalar, with a graph to `columns` unless `gradients` are given.
            gradients: of the loss by each column; None computes them.

        Returns:
            The same number; its gradient equals the gradient of a batch embedded at once.
        """
        gradients = torch.autograd.grad(value, self.columns) if gradients is None else gradients
        value = value.detach().requires_grad_()
        value.register_hook(lambda outer: self._backward(gradients, outer))  # type: ignore[no-untyped-call]
        return value

    def _backward(self, gradients: Sequence[Tensor], outer: Tensor) -> None:
        for parts, states, gradient in zip(self._parts, self._random, gradients, strict=True):
            start = 0
            for part, state in zip(parts, states, strict=True):
                with state.again(), torch.enable_grad():
                    embedded = self._embed(part)
                stop = start + len(embedded)
                torch.autograd.backward(embedded, gradient[start:stop].to(embedded.dtype) * outer)
                start = stop


def _parts(tokens: Tokens, size: int) -> Iterator[Tokens]:
    count = len(next(each for each in tokens.values() if isinstance(each, Tensor)))
    for start in range(0, count, size):
        part = slice(start, min(start + size, count))
        yield {
            name: each[part] if isinstance(each, Tensor) and each.dim() and len(each) == count else each
            for name, each in tokens.items()
        }


class _Random:
    """The current state of the random number generators, so that dropout can be drawn again."""

    def __init__(self, part: Tokens) -> None:
        tensors = [each for each in part.values() if isinstance(each, Tensor) and each.is_cuda]
        self._devices = sorted({each.get_device() for each in tensors})
        self._cpu = torch.get_rng_state()
        self._cuda = [torch.cuda.get_rng_state(device) for device in self._devices]

    @contextmanager
    def again(self) -> Iterator[None]:
        with torch.random.fork_rng(self._devices):
            torch.set_rng_state(self._cpu)
            for device, state in zip(self._devices, self._cuda, strict=True):
                torch.cuda.set_rng_state(state, device)
            yield
