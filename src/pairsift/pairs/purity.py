"""How often selected pairs are of different classes, where labels are known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pairsift._base.checks import check_tensors
from pairsift.pairs.selector import check_pairs


@torch.no_grad()
def pair_shares(
    pairs: Tensor, labels: Tensor, key_labels: Tensor | None = None, candidates: int | None = None
) -> tuple[float, float]:
    """Share of different classes among the flagged pairs (Fig. 4c) and among all pairs.

    A selection knows something about classes only as far as the first exceeds the second.

    Args:
        pairs: (B, B) bool with a False diagonal; with `key_labels` (B, K), every entry a pair.
        labels: (B,) class numbers of the rows, -1 where unknown: pairs of such rows are not counted.
        key_labels: (K,) class numbers of the keys, where they are not the rows themselves.
        candidates: number of pairs; None counts every entry, without the diagonal where there are no `key_labels`.
            What it leaves out is as many entries in every row.

    Returns:
        Both shares, in [0, 1]; nan where there are no pairs of known classes.

    Raises:
        TypeError: pairs that are not a bool matrix, or labels that are not tensors.
        ValueError: another number of labels than of rows and of keys.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> pairs = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 0]]).bool()
        >>> ps.pair_shares(pairs, torch.tensor([0, 0, 1]))
        (0.6666666666666666, 0.6666666666666666)
    """
    check_tensors({"labels": labels}, key_labels=key_labels)
    others = labels if key_labels is None else key_labels
    if [tuple(each.shape) for each in (labels, others)] != [(n,) for n in check_pairs(pairs).shape]:
        raise ValueError(
            f"pairs {tuple(pairs.shape)} need a label for every row and key, got {tuple(labels.shape)} and "
            f"{tuple(others.shape)}"
        )
    known = (labels >= 0)[:, None] & (others >= 0)
    different = known & (labels[:, None] != others)
    flagged = int((pairs & known).sum())
    share = int((pairs & different).sum()) / flagged if flagged else math.nan
    if candidates is not None:
        left_out = (pairs.numel() - candidates) // max(1, len(labels))
    else:
        left_out = 1 if key_labels is None else 0
    total = int(known.sum()) - left_out * int((labels >= 0).sum())
    return share, int(different.sum()) / total if total else math.nan
