"""How often the flagged pairs are of different classes, where labels are known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pairsift._base.checks import check_tensors


@torch.no_grad()
def pair_shares(
    pairs: Tensor, labels: Tensor, key_labels: Tensor | None = None, candidates: int | None = None
) -> tuple[float, float]:
    """How often pairs truly are of different classes: among the flagged (Fig. 4c), and among all.

    A selection knows something about classes only as far as the first exceeds the second.

    Args:
        pairs: (B, B) bool with a False diagonal; with `key_labels` (B, K), every entry a pair.
        labels: (B,) class numbers of the rows.
        key_labels: (K,) class numbers of the keys, where they are not the rows themselves.
        candidates: how many pairs there are; None counts every entry, without the diagonal where there are no
            `key_labels`.

    Returns:
        Share among flagged pairs (nan if none is flagged) and base rate over all pairs, in [0, 1].

    Raises:
        TypeError: pairs that are no bool matrix, or labels that are no tensors.
        ValueError: another number of labels than of rows and of keys.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> pairs = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 0]]).bool()
        >>> ps.pair_shares(pairs, torch.tensor([0, 0, 1]))
        (0.6666666666666666, 0.6666666666666666)
    """
    check_tensors({"pairs": pairs, "labels": labels}, key_labels=key_labels)
    if pairs.dtype != torch.bool or pairs.dim() != 2:
        raise TypeError(f"pairs must be a (rows, keys) bool tensor, got {pairs.dtype} {tuple(pairs.shape)}")
    shapes = [tuple(each.shape) for each in (labels, labels if key_labels is None else key_labels)]
    if shapes != [(n,) for n in pairs.shape]:
        raise ValueError(
            f"pairs {tuple(pairs.shape)} need a label for every row and key, got {shapes[0]} and {shapes[1]}"
        )
    different = labels[:, None] != (labels if key_labels is None else key_labels)
    flagged = int(pairs.sum())
    share = int((pairs & different).sum()) / flagged if flagged else math.nan
    total = pairs.numel() - (len(labels) if key_labels is None else 0) if candidates is None else candidates
    return share, int(different.sum()) / total if total else math.nan
