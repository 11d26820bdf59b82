"""The control for any claim about selection: as many pairs, at random."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from pairsift._base.checks import check_tensors
from pairsift.pairs.rows import Precision
from pairsift.pairs.selectors import GivenMasks, Selector


class RandomPairs:
    """As many pairs of every row as another selector flags, drawn at random.

    Every call draws afresh from (seed, number of the call, process); `draws`, the number of calls so far, is what a
    resumed run needs to go on with the same pairs, and the losses save it.

    Args:
        selector: whose numbers of pairs to copy.
        seed: of the draws.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> h, band = torch.randn(50, 8), ps.RankBand(0.1, 0.3)
        >>> drawn = ps.RandomPairs(band, seed=0).masks(h).whole()
        >>> bool((drawn.sum(1) == ps.select_pairs(h, band).sum(1)).all())
        True
    """

    def __init__(self, selector: Selector, seed: int = 0) -> None:
        self.selector, self.seed, self.draws = selector, seed, 0

    def masks(
        self, h: Tensor, keys: Tensor | None = None, own: int | None = None, *, precision: Precision = "fp32"
    ) -> GivenMasks:
        """Random pairs; held whole, B x K bytes. See `Selector`."""
        rank = dist.get_rank() if dist.is_available() and dist.is_initialized() else 0
        seed = self.seed * 1_000_003 + self.draws + rank * 100_000_007
        self.draws += 1
        pairs = self.selector.masks(h, keys, own, precision=precision).whole()
        generator = torch.Generator(pairs.device).manual_seed(seed % 2**63)
        return GivenMasks(random_pairs(pairs, generator, own=0 if keys is None else own))

    def __repr__(self) -> str:
        return f"RandomPairs({self.selector!r}, seed={self.seed})"


@torch.no_grad()
def random_pairs(pairs: Tensor, generator: torch.Generator | None = None, *, own: int | None = 0) -> Tensor:
    """Flag as many pairs per row as `pairs` does, but at random.

    Args:
        pairs: (B, K) bool, as from `select_pairs`.
        generator: source of randomness, on the device of `pairs`.
        own: column of the first row itself, the other rows following, never drawn; None where rows are not among the
            columns.

    Returns:
        (B, K) bool with the row sums of `pairs`.

    Raises:
        TypeError: pairs that are no bool matrix.
        ValueError: a row that flags every column, and itself is one of them.
    """
    check_tensors({"pairs": pairs})
    if pairs.dtype != torch.bool or pairs.dim() != 2:
        raise TypeError(f"pairs must be a (rows, keys) bool tensor, got {pairs.dtype} {tuple(pairs.shape)}")
    counts = pairs.sum(dim=1, keepdim=True)
    most = int(counts.max()) if pairs.numel() else 0
    if own is not None and most == pairs.shape[1] > 0:
        raise ValueError(f"a row flags all {most} columns, its own among them: give own=None where rows are no columns")
    order = torch.rand(pairs.shape, generator=generator, device=pairs.device)
    if own is not None:
        order.diagonal(own).fill_(-1)
    chosen = order.topk(most, dim=1).indices  # most <= K - 1 where a row leaves itself out, so -1 is never drawn
    drawn = torch.arange(most, device=pairs.device) < counts
    return torch.zeros_like(pairs).scatter_(1, chosen, drawn)
