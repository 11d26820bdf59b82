"""`Engine`, the settings by which losses compare rows with keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from pairsift._base.checks import take_renamed
from pairsift.pairs.selector import Precision, check_precision, tile_rows, transformed

Tile = int | Literal["auto", "dense"]

# Keys from which on tiles are faster than whole matrices on a CPU; on a GPU they only save memory.
_FEWEST_KEYS = {"cpu": 256, "cuda": 16384}

# Settings of version 0.2 -> their present names.
RENAMED = {"gather": "gather_distributed"}


@dataclass(frozen=True, init=False)
class Engine:
    """Settings by which rows are compared with keys; none of them changes the meaning of a loss.

    Attributes:
        tile: rows that are compared at once, which bounds memory to `tile` times the number of keys; "dense" for whole
            matrices. "auto" is "dense" below 256 keys (16,384 on GPUs) and at most 256 rows above. All are equal to
            rounding. Only "dense" can be differentiated twice, and it is always used under `torch.func`.
        precision: of the products of features that select pairs; "bf16" is faster, see `select_pairs`.
        gather_distributed: whether every process of a process group (DDP) compares its rows with those of all
            processes. The loss, and the gradients that DDP averages, are then those of one process with the whole
            batch. Processes may hold different numbers of rows, and each must call the loss and its backward pass.

    Raises:
        ValueError: an unknown tile or precision.

    Example:
        >>> import torch
        >>> import pairsift as ps
        >>> loss = ps.losses.NTXentLoss(0.5, engine=ps.losses.Engine(tile=64, gather_distributed=False))
        >>> loss(torch.eye(4), torch.eye(4))
        tensor(0.5944)
    """

    tile: Tile = "auto"
    precision: Precision = "fp32"
    gather_distributed: bool = True

    def __init__(
        self, tile: Tile = "auto", precision: Precision = "fp32", gather_distributed: bool = True, **old: Any
    ) -> None:
        take_renamed("Engine", old, {}, RENAMED)
        for name, given in (("tile", tile), ("precision", precision), ("gather_distributed", gather_distributed)):
            object.__setattr__(self, name, given)
        whole = isinstance(self.tile, int) and not isinstance(self.tile, bool) and self.tile > 0
        if not (whole or self.tile in ("auto", "dense")):
            raise ValueError(f"tile must be 'auto', 'dense' or a positive number of rows, got {self.tile!r}")
        check_precision(self.precision)

    def tile_rows(self, keys: int, device: torch.device) -> int | None:
        """Rows of a tile, by the number of keys; None for whole matrices."""
        if transformed():  # torch.func differentiates whole matrices only
            return None
        if self.tile == "dense" or (self.tile == "auto" and keys < _FEWEST_KEYS.get(device.type, 256)):
            return None
        return tile_rows(keys) if self.tile == "auto" else self.tile
