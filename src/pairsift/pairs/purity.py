"""How often the flagged pairs are of different classes, where labels are known."""

from __future__ import annotations

import math

import torch
from torch import Tensor


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

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> pairs = torch.tensor([[0, 1, 1], [0, 0, 0], [1, 0, 0]]).bool()
        >>> ps.pair_shares(pairs, torch.tensor([0, 0, 1]))
        (0.6666666666666666, 0.6666666666666666)
    """
    different = labels[:, None] != (labels if key_labels is None else key_labels)
    flagged = int(pairs.sum())
    share = int((pairs & different).sum()) / flagged if flagged else math.nan
    total = pairs.numel() - (len(labels) if key_labels is None else 0) if candidates is None else candidates
    return share, int(different.sum()) / total if total else math.nan
