"""Encoding many rows with the memory of a few: large contrastive batches on small devices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from pairsift._base.checks import take_renamed


def encode_in_chunks(encoder: nn.Module, inputs: Tensor, mini_batch_size: int, **old: int) -> Tensor:
    """The encoder's features of all rows, of which a backward pass holds only a mini-batch's activations at once.

    Each part of the rows is encoded twice: now without keeping activations, and again when the gradient of its features
    is known, as in GradCache (arXiv 2101.06983), so that a loss over all rows costs the encoder's memory of one part.
    Gradients are those of encoding all rows at once, with the same random draws in both passes. Batch norm is the
    exception: it sees the statistics of a part (its running statistics count every part once). Parts are of equal size,
    or differ by one row.

    Args:
        encoder: (rows, ...) -> (rows, D).
        inputs: (B, ...).
        mini_batch_size: most rows of a part, > 0; a part has one more where a part of a single row would be left,
            which has no batch statistics.

    Returns:
        (B, D).

    Raises:
        ValueError: mini_batch_size <= 0.

    Example:
        >>> import torch
        >>> from pairsift.losses import NTXentLoss
        >>> from pairsift.train import encode_in_chunks
        >>> encoder = torch.nn.Linear(8, 4)
        >>> view0, view1 = torch.randn(64, 8), torch.randn(64, 8)
        >>> h = encode_in_chunks(encoder, torch.cat([view0, view1]), mini_batch_size=16)
        >>> h.shape
        torch.Size([128, 4])
        >>> NTXentLoss()(*h.chunk(2)).backward()  # compares all 128 views
        >>> encoder.weight.grad.shape
        torch.Size([4, 8])
    """
    take_renamed("encode_in_chunks", old, {}, {"chunk": "mini_batch_size"})
    if mini_batch_size <= 0:
        raise ValueError(f"mini_batch_size must be positive, got {mini_batch_size}")
    parts = -(-len(inputs) // mini_batch_size)
    if mini_batch_size > 1:
        parts = min(parts, max(1, len(inputs) // 2))
    encoded = [
        checkpoint(encoder, part, use_reentrant=False, context_fn=lambda: (nullcontext(), _without_statistics(encoder)))
        for part in torch.tensor_split(inputs, parts)
    ]
    return torch.cat(encoded)


@contextmanager
def _without_statistics(encoder: nn.Module) -> Iterator[None]:
    """Leaves running statistics alone: the second encoding of a chunk must not count it again."""
    norms = [module for module in encoder.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, batches) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, batches
