"""A bank: what the encoder has thought of every training image, over epochs and views."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Bank(nn.Module):
    """Moving average of the unit features of N images, half of it the newest epoch; a buffer, so checkpoints hold it.

    One view in mid-training says little about an image; its mean over views and epochs says more.

    Args:
        n: N images.
        width: D features of each; held in half precision, 2 N D bytes.
    """

    rows: Tensor

    def __init__(self, n: int, width: int) -> None:
        super().__init__()
        self.register_buffer("rows", torch.zeros(n, width, dtype=torch.float16))

    @torch.no_grad()
    def update(self, h: Tensor, positions: Tensor) -> None:
        """Take in the features of a batch.

        Args:
            h: (2B, D) of both views of B images, first views first.
            positions: (B,) which images they are, each once.
        """
        first, second = F.normalize(h.detach().float(), dim=1).chunk(2)
        new = F.normalize(first + second, dim=1)
        # An image that was never seen has a row of zeros, so its first mean is what is new.
        self.rows[positions] = F.normalize(0.5 * self.rows[positions].float() + 0.5 * new, dim=1).half()

    @torch.no_grad()
    def features(self) -> Tensor:
        """(N, D) float32 on the CPU. Images that no batch has held yet stand at the mean of the others: no sign of
        anything."""
        rows = self.rows.float().cpu()
        unseen = rows.abs().amax(dim=1) == 0
        if bool(unseen.any()) and not bool(unseen.all()):
            rows[unseen] = rows[~unseen].mean(dim=0)
        return rows
