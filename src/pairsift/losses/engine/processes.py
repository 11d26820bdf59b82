"""Batches spread over several processes: numbers of rows, and gathering with a gradient, hidden from the compiler."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64)
_Function = TypeVar("_Function", bound=Callable[..., Any])


def opaque(function: _Function) -> _Function:
    """A function that `torch.compile` does not trace.

    `torch.compiler.disable` loads the compiler, which takes seconds. As long as the compiler is not loaded nothing is
    compiled, so this applies it at the first call after the compiler was loaded.
    """

    @functools.wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        if "torch._dynamo" not in sys.modules:
            return function(*arguments, **options)
        if not hidden:
            hidden.append(torch.compiler.disable(function))  # type: ignore[no-untyped-call]
        return hidden[0](*arguments, **options)

    hidden: list[Callable[..., Any]] = []
    return cast(_Function, call)


class Processes:
    """The processes that share a batch, each with its own rows.

    Every process must create one with the same names at the same step. The processes first exchange the shapes of
    their tensors, so that they may hold different numbers of rows.

    Args:
        gather: whether other processes count; without a process group there are none.
        **tensors: (rows, width) or (rows,) by name; None where one is not given.

    Raises:
        ValueError: on every process, if widths, dtypes or the given names differ between processes.
        RuntimeError: another process ended or failed.
    """

    def __init__(self, gather: bool, **tensors: Tensor | None) -> None:
        self.size, self.rank = 1, 0
        if gather and dist.is_available() and dist.is_initialized():
            self.size, self.rank = dist.get_world_size(), dist.get_rank()
        self._rows = {name: [0 if x is None else len(x)] for name, x in tensors.items()}
        if self.size > 1:
            self._meet(tensors)

    @opaque
    def _meet(self, tensors: dict[str, Tensor | None]) -> None:
        device = next(x.device for x in tensors.values() if x is not None)
        mine = [
            number
            for x in tensors.values()
            for number in ((0, 0, -1) if x is None else (len(x), x[:1].numel(), _DTYPES.index(x.dtype)))
        ]
        theirs = [torch.empty(len(mine), dtype=torch.int64, device=device) for _ in range(self.size)]
        _exchange(lambda: dist.all_gather(theirs, torch.tensor(mine, device=device)))
        table = torch.stack(theirs).view(self.size, len(tensors), 3).tolist()
        for column, name in enumerate(tensors):
            kinds = [_kind(*row[column][1:]) for row in table]
            for rank, kind in enumerate(kinds):
                if kind != kinds[0]:
                    raise ValueError(
                        f"{name} must be alike on all processes, but process 0 has {kinds[0]} and process {rank} has "
                        f"{kind}: build the same model everywhere, or pass "
                        "gather_distributed=False to keep processes apart"
                    )
            self._rows[name] = [row[column][0] for row in table]

    def total(self, name: str) -> int:
        """Rows of this name on all processes."""
        return sum(self._rows[name])

    def before(self, name: str) -> int:
        """Rows of this name on the processes before this one, which is the position of its own rows when gathered."""
        return sum(self._rows[name][: self.rank])

    def gather(self, name: str, x: Tensor) -> Tensor:
        """Rows (total, ...) of all processes in their order, from the (rows, ...) of each.

        The gradient of each row goes back to its process. `name` is that of a tensor with as many rows.
        """
        if self.size == 1:
            return x
        gathered: Tensor = _Gather.apply(x, self._rows[name], self.rank)  # type: ignore[no-untyped-call]
        return gathered

    def weight(self, name: str) -> float:
        """Number of processes over number of rows: the weight of a row in the loss of a process.

        Data-parallel training averages gradients over processes; with this weight the average is the gradient of the
        mean over all rows.
        """
        return self.size / self.total(name)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a scalar over the processes, with the gradient of this process's value."""
        if self.size == 1:
            return value
        return value + (self.sum(value.detach()) / self.size - value.detach())

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over the processes, without gradient."""
        if self.size == 1:
            return value
        value = value.detach().clone()
        _exchange(lambda: dist.all_reduce(value))
        return value


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: list[int], rank: int) -> Tensor:
        ctx.rows, ctx.rank = rows, rank
        most = max(rows)
        padded = x.new_zeros(most, *x.shape[1:])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in rows]
        _exchange(lambda: dist.all_gather(parts, padded))
        return torch.cat([part[:n] for part, n in zip(parts, rows, strict=True)])

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        total = upstream.contiguous().clone()
        _exchange(lambda: dist.all_reduce(total))
        first = sum(ctx.rows[: ctx.rank])
        return total[first : first + ctx.rows[ctx.rank]], None, None


def _exchange(work: Callable[[], Any]) -> None:
    """Run a collective operation; its failure raises an error that names the likely causes."""
    try:
        work()
    except RuntimeError as error:
        raise RuntimeError(
            "another process did not answer while the batch was exchanged: it ended, failed (see its own message) or "
            f"took longer than the process group's timeout ({error})"
        ) from error


def _kind(width: int, dtype: int) -> str:
    return "none" if dtype < 0 else f"{width} columns of {_DTYPES[dtype]}"
