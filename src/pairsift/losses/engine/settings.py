"""`Engine`: the settings of how rows meet keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch

from pairsift._base.checks import take_renamed
from pairsift.pairs.selector import Precision, check_precision, tile_rows, transformed

Tile = int | Literal["auto", "dense"]

# Keys from which on tiles are faster than whole matrices on a CPU; on a GPU they only save memory.
_FEWEST_KEYS = {"cpu": 256, "cuda": 16384}


# Settings of 0.2 by their names of today.
RENAMED = {"gather": "gather_distributed"}


@dataclass(frozen=True, init=False)
class Engine:
    """How rows are compared with keys; none of it changes what a loss means.

    Attributes:
        tile: rows that are compared at once: memory grows with rows times keys instead of rows squared. "auto" is
            "dense", whole matrices, below 256 keys (16,384 on GPUs), and 256 rows above (fewer beyond 65,536 keys).
            Both give the same to rounding; only "dense" can be differentiated twice. Under `torch.func` it is "dense".
        precision: "bf16" selects pairs by products of bfloat16 features, which is faster and not exact; see
            `select_pairs`.
        gather_distributed: in a process group (DDP), let every process compare its own rows with the rows of all
            processes, and rank among them; the loss, and the gradients that DDP averages, are those of one process with
            the whole batch, also where processes hold different numbers of rows. Every process must call the loss and
            its backward pass. False keeps every process to its own rows, and gathers nothing.

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
        """Rows of a tile against so many keys, None for whole matrices."""
        if transformed():  # torch.func differentiates whole matrices only
            return None
        if self.tile == "dense" or (self.tile == "auto" and keys < _FEWEST_KEYS.get(device.type, 256)):
            return None
        return tile_rows(keys) if self.tile == "auto" else self.tile
