"""Which rows of features each row of a projection was computed from, as the autograd graph tells it.

Operations that move rows (slices, flips, indices, views, concatenations) are repeated on a tensor of row numbers. All
others are taken to keep rows in their place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

# Numbers that a view may copy, 64 MB.
_MOST = 2**23
_UNSIGNED = 2**64


def traced_rows(z: Tensor, key: str) -> Tensor | None:
    """Find the feature rows that the rows of a projection come from.

    Args:
        z: (N, ...) projections.
        key: under which nodes of the graph hold the number of a call and its (B, D) features.

    Returns:
        (N,) int64 numbers of rows, counted over all calls in their order; None where the graph does not tell.
    """
    nodes = _ordered(z.grad_fn, lambda node: key in node.metadata)
    calls = sorted((node.metadata[key][0], node) for node in nodes if key in node.metadata)
    rows = [(node, len(node.metadata[key][1])) for _, node in calls]
    return _traced(z, nodes, _numbered(rows), torch.arange(rows[0][1]) if len(rows) == 1 else None)


def loses_rows(z: Tensor, key: str) -> bool:
    """Whether rows between features and a projection are moved in a way that `traced_rows` does not follow."""
    return any(map(_loses, _ordered(z.grad_fn, lambda node: key in node.metadata)))


def traced_from_start(projections: Sequence[Tensor], total: int) -> list[Tensor] | None:
    """Find the same where the features have no graph, from the first operations that have one.

    Args:
        projections: (N, ...) each.
        total: rows of all calls together.

    Returns:
        (N,) int64 each; None where the graph does not tell, or its first operations have other rows.
    """
    orders = [_ordered(z.grad_fn, _takes_data, below=True) for z in projections]
    first = {
        node for nodes in orders for node in nodes
        if _takes_data(node) and not any(each in nodes for each, _ in node.next_functions)
    }  # fmt: skip
    calls = [(node, (_shape(node, 0) or (0,))[0]) for node in sorted(first, key=lambda node: node._sequence_nr())]
    held: dict[Any, Tensor | None] = {}
    if sum(rows for _, rows in calls) == total:
        held = _numbered(calls)
    elif len({min(node._sequence_nr() for node in nodes) for nodes in orders if nodes}) > 1:
        return None  # several calls, and the graph does not show how many rows each had
    only = torch.arange(total) if len(held) < 2 else None
    found = [_traced(z, nodes, dict(held), only) for z, nodes in zip(projections, orders, strict=True)]
    known = [rows for rows in found if rows is not None]
    return known if len(known) == len(found) else None


def _takes_data(node: Any) -> bool:
    """Whether an input of an operation has no gradient, as data and frozen features have none."""
    return any(each is None for each, _ in node.next_functions)


def _numbered(calls: Sequence[tuple[Any, int]]) -> dict[Any, Tensor | None]:
    """Row numbers of the outputs of some nodes, counted on from node to node."""
    held: dict[Any, Tensor | None] = {}
    start = 0
    for node, rows in calls:
        held[node] = _spread(torch.arange(start, start + rows), _shape(node, 0))
        start += rows
    return held


def _traced(z: Tensor, nodes: Sequence[Any], held: dict[Any, Tensor | None], only: Tensor | None) -> Tensor | None:
    """(N,) row numbers of a projection from those of some nodes; None where the graph does not tell.

    Args:
        z: the projection.
        nodes: between those nodes and the projection, in their order.
        held: row numbers by node; those of other nodes join them.
        only: the rows of the model's call where there is only one.
    """
    if any(map(_loses, nodes)):
        return None
    try:
        for node in nodes:
            if node not in held:
                found = _repeated(node, held)
                held[node] = _assumed(node, only) if found is None else found
        numbers = _output(z.grad_fn, z.output_nr, held)
        rows = None if numbers is None else _row_numbers(numbers)
    except (RuntimeError, IndexError, AttributeError, KeyError):  # a graph that is gone, or an unusual operation
        return None
    return rows if rows is not None and len(rows) == len(z) else None


def _ordered(root: Any, begins: Callable[[Any], bool], below: bool = False) -> list[Any]:
    """The nodes between a root and the nodes where the trace begins, these first, the root last.

    With `below` nodes under those where it may begin are there, too.
    """
    leads: dict[Any, bool] = {}
    waiting, order = [(root, False)], []
    while waiting:
        node, done = waiting.pop()
        if node is None:
            continue
        if done:
            leads[node] = begins(node) or any(leads.get(each, False) for each, _ in node.next_functions)
            if leads[node]:
                order.append(node)
        elif node not in leads:
            leads[node] = False
            waiting.append((node, True))
            if below or not begins(node):
                waiting += [(each, False) for each, _ in node.next_functions]
    return order


def _repeated(node: Any, held: dict[Any, Tensor | None]) -> Tensor | None:
    """The row numbers of a node's output; those of its input where it has several outputs (see `_output`)."""
    leading = [(each, place) for each, place in node.next_functions if each in held]
    inputs = [each for each in (_output(*edge, held) for edge in leading) if each is not None]
    if not inputs or len(inputs) < len(leading):
        return None
    name, shape = node.name(), _shape(node, 0)
    if name in ("CatBackward0", "StackBackward0"):
        if len(inputs) < sum(each is not None for each, _ in node.next_functions):
            return None
        join: Callable[..., Tensor] = torch.cat if name == "CatBackward0" else torch.stack
        return join(inputs, _signed(node._saved_dim))
    if name in _PARTS:
        return inputs[0]
    if name in _MOVES:
        return None if inputs[0].numel() > _MOST else _MOVES[name](node, inputs[0], shape)
    rows = [_row_numbers(each) for each in inputs]
    first = rows[0]
    if first is None or any(each is None or not torch.equal(each, first) for each in rows):
        return None
    return _spread(first, shape) if shape is None or shape[:1] == (len(first),) else None


def _assumed(node: Any, only: Tensor | None) -> Tensor | None:
    """The rows of a matrix inside of a model that was called once, as many as the call had: models keep rows in place.

    Attention, for example, mixes the tokens of a row in ways that are not repeated here.
    """
    shape, name = _shape(node, 0), node.name()
    if only is None or shape is None or len(shape) != 2 or shape[0] != len(only):
        return None
    if name == "IndexBackward0":
        first = node._saved_indices[0]
        if first is None or not torch.equal(first.cpu(), torch.arange(len(only))):
            return None
    if name in (*_PARTS, "FlipBackward0", "RollBackward0", "IndexSelectBackward0"):
        return None
    return _spread(only, shape)


def _loses(node: Any) -> bool:
    """Whether a node moves rows in a way that is not repeated here."""
    return node.name() in _LOST and _signed(getattr(node, "_saved_dim", 0)) == 0


def _output(node: Any, place: int, held: dict[Any, Tensor | None]) -> Tensor | None:
    """Row numbers of one output of a node."""
    part, numbers = _PARTS.get(node.name()), held[node]
    return numbers if part is None or numbers is None else part(node, numbers)[place]


def _row_numbers(numbers: Tensor) -> Tensor | None:
    """(N,) number of each row of a tensor; None where one holds several."""
    for dim in range(1, numbers.dim()):
        if numbers.stride(dim) == 0 and numbers.shape[dim]:
            numbers = numbers.narrow(dim, 0, 1)
    rows = numbers.reshape(len(numbers), -1)
    return rows[:, 0] if bool((rows == rows[:, :1]).all()) else None


def _spread(rows: Tensor, shape: Sequence[int] | None) -> Tensor:
    """Row numbers (N,) as a tensor of a shape (N, ...), without copies."""
    if shape is None or len(shape) < 2:
        return rows
    return rows.view(-1, *[1] * (len(shape) - 1)).expand(len(rows), *shape[1:])


def _shape(node: Any, place: int) -> tuple[int, ...] | None:
    """Shape of an output of a node; None where the graph does not keep it."""
    try:
        return tuple(int(each) for each in node._input_metadata[place].shape)
    except (AttributeError, IndexError, RuntimeError):
        return None


def _signed(number: int) -> int:
    """A saved number, which the graph keeps without its sign."""
    return number - _UNSIGNED if number >= _UNSIGNED // 2 else number


def _viewed(node: Any, numbers: Tensor, shape: Sequence[int] | None) -> Tensor:
    if shape is None or math.prod(shape) != numbers.numel():
        raise RuntimeError("the graph does not keep the shape")
    return numbers.reshape(tuple(shape))


def _sliced(node: Any, numbers: Tensor, shape: Any) -> Tensor:
    dim = _signed(node._saved_dim) % numbers.dim()
    part = slice(_signed(node._saved_start), _signed(node._saved_end), node._saved_step)
    return numbers[(slice(None),) * dim + (part,)]


def _indexed(node: Any, numbers: Tensor, shape: Any) -> Tensor:
    wanted = [slice(None) if each is None else each.cpu() for each in node._saved_indices]
    return numbers[tuple(wanted)]


def _signed_all(numbers: Sequence[int]) -> list[int]:
    return [_signed(each) for each in numbers]


# Operations that move rows, by the names of their nodes.
_MOVES: dict[str, Callable[[Any, Tensor, Any], Tensor]] = {
    **dict.fromkeys(
        ("ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "SqueezeBackward0", "SqueezeBackward1",
         "SqueezeBackward2", "UnsqueezeBackward0"), _viewed,
    ),
    "SliceBackward0": _sliced,
    "SelectBackward0": lambda node, x, _: x.select(_signed(node._saved_dim), _signed(node._saved_index)),
    "IndexBackward0": _indexed,
    "IndexSelectBackward0": lambda node, x, _: x.index_select(_signed(node._saved_dim), node._saved_index.cpu()),
    "FlipBackward0": lambda node, x, _: x.flip(_signed_all(node._saved_dims)),
    "RollBackward0": lambda node, x, _: x.roll(list(node._saved_shifts), _signed_all(node._saved_dims)),
    "TransposeBackward0": lambda node, x, _: x.transpose(_signed(node._saved_dim0), _signed(node._saved_dim1)),
    "PermuteBackward0": lambda node, x, _: x.permute(_signed_all(node._saved_dims)),
    "TBackward0": lambda node, x, _: x.t(),
    "ExpandBackward0": lambda node, x, shape: x.expand(shape),
    "RepeatBackward0": lambda node, x, _: x.repeat(list(node._saved_repeats)),
}  # fmt: skip
# Those with several outputs.
_PARTS: dict[str, Callable[[Any, Tensor], Sequence[Tensor]]] = {
    "SplitBackward0": lambda node, x: torch.split(x, node._saved_split_size, _signed(node._saved_dim)),
    "SplitWithSizesBackward0": lambda node, x: torch.split(x, list(node._saved_split_sizes), _signed(node._saved_dim)),
    "UnbindBackward0": lambda node, x: x.unbind(_signed(node._saved_dim)),
}
# Those that move rows in ways that are not repeated here.
_LOST = (
    "GatherBackward0", "ScatterBackward0", "SortBackward0", "TopkBackward0", "AsStridedBackward0", "CopySlices",
    "IndexPutBackward0", "MaskedSelectBackward0", "TakeBackward0", "MaskedScatterBackward0", "ScatterAddBackward0",
    "IndexAddBackward0", "IndexCopyBackward0",
)  # fmt: skip
