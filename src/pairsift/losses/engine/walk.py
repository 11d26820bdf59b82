"""Losses of rows a tile at a time, with their gradients in the same pass.

Memory is O(B (d + D) + tile x K) for B rows and K keys; no (B, K) matrix of logits or pairs is made. The pairs of a
tile are selected and treated, and its loss and gradients are computed, while it is in the cache. Small batches use
whole matrices and autograd instead, which is faster for them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from pairsift.losses.engine.processes import opaque

# (products (R, K), slice of the rows, their weights (R,) or None, gradients of the inputs) -> losses (R,). With weights
# it overwrites the products with d(weighted loss) / d(product), and adds to the gradients of the inputs.
Step = Callable[[Tensor, slice, Tensor | None, Sequence[Tensor]], Tensor]


def by_tiles(
    rows: Tensor, keys: Tensor, step: Step, tile: int, weight: float | None, inputs: Sequence[Tensor] = ()
) -> Tensor:
    """Losses that `step` computes from the products of rows and keys, by tiles.

    Args:
        rows: (B, d).
        keys: (K, d); may be the rows themselves.
        step: computes the losses of a tile.
        tile: rows of a tile.
        weight: of every row in the returned sum; None returns the loss of each row, and computes all tiles again in the
            backward pass, where the weights of the rows are known.
        inputs: further tensors on which the losses depend.

    Returns:
        Scalar, or (B,) without a weight.

    Raises:
        RuntimeError: in a second differentiation.
    """
    value: Tensor = _Walk.apply(rows, keys, step, tile, weight, *inputs)  # type: ignore[no-untyped-call]
    return value


@opaque
def row_losses(rows: Tensor, keys: Tensor, formula: Callable[[Tensor, slice], Tensor], tile: int | None) -> Tensor:
    """Sum over all rows of a formula of their products with the keys, differentiated by autograd within each tile.

    Args:
        rows: (B, d).
        keys: (K, d).
        formula: turns products (R, K) and the slice of their rows into losses (R,), without overwriting the products.
        tile: rows at once; None for whole matrices.

    Returns:
        Scalar.

    Raises:
        RuntimeError: in a second differentiation, by tiles.
    """
    if tile is None:
        return formula(rows @ keys.T, slice(0, len(rows))).sum()

    def step(x: Tensor, part: slice, weights: Tensor | None, d_inputs: Sequence[Tensor]) -> Tensor:
        if weights is None:
            return formula(x, part)
        with torch.enable_grad():
            products = x.detach().requires_grad_()
            losses = formula(products, part)
            (gradient,) = torch.autograd.grad((losses * weights).sum(), products)
        x.copy_(gradient)
        return losses.detach()

    return by_tiles(rows, keys, step, tile, 1.0)


class _Walk(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, keys: Tensor, step: Step, tile: int, weight: float | None, *inputs: Tensor
    ) -> Tensor:
        ctx.step, ctx.tile, ctx.at_once = step, tile, weight is not None
        if weight is None:
            ctx.save_for_backward(rows, keys, *inputs)
            return _walk(ctx, rows, keys, None, inputs)[0]
        weights = rows.new_full((len(rows),), weight) if any(ctx.needs_input_grad) else None
        losses, gradients = _walk(ctx, rows, keys, weights, inputs)
        ctx.save_for_backward(*gradients)
        return losses.sum() * weight

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # only while a graph of the gradient is asked for
            raise RuntimeError("a loss by tiles has no second derivative: make the loss with tile='dense'")
        if ctx.at_once:
            d_rows, d_keys, *d_inputs = (None if g is None else g * upstream for g in ctx.saved_tensors)
        else:
            rows, keys, *inputs = ctx.saved_tensors
            d_rows, d_keys, *d_inputs = _walk(ctx, rows, keys, upstream, inputs)[1]
        return d_rows, d_keys, None, None, None, *d_inputs


def _walk(
    ctx: Any, rows: Tensor, keys: Tensor, weights: Tensor | None, inputs: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """Losses (B,), and with weights of the rows the gradients of their weighted sum."""
    n, tile = len(rows), ctx.tile
    losses = rows.new_empty(n)
    d_rows = torch.empty_like(rows) if weights is not None and ctx.needs_input_grad[0] else None
    d_keys = torch.zeros_like(keys) if weights is not None and ctx.needs_input_grad[1] else None
    d_inputs = [torch.zeros_like(each) for each in inputs]
    buffer = rows.new_empty(min(tile, n), len(keys))
    for start in range(0, n, tile):
        part = slice(start, min(start + tile, n))
        x = torch.mm(rows[part], keys.T, out=buffer[: part.stop - start])
        losses[part] = ctx.step(x, part, None if weights is None else weights[part], d_inputs)
        if d_rows is not None:
            torch.mm(x, keys, out=d_rows[part])
        if d_keys is not None:
            d_keys.addmm_(x.T, rows[part])
    return losses, (d_rows, d_keys, *d_inputs)
