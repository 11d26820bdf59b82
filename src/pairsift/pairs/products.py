"""Products of unit rows with keys, a few rows at a time; of rows with themselves every pair is multiplied once."""

from __future__ import annotations

import torch
from torch import Tensor

# Rows among which a product serves both of its pairs: what is kept for later rows is at most a quarter of their square.
_BLOCK_ROWS = 4096


class Products:
    """`rows @ keys.T` by tiles.

    Where rows meet themselves on a CPU the matrix is symmetric, and a tile that is made for the rows before it holds
    part of the rows after it. Tiles that come in order, all of one size, use that; others are multiplied whole.

    Args:
        rows: (B, D).
        keys: (K, D); None for the rows themselves.
    """

    def __init__(self, rows: Tensor, keys: Tensor | None) -> None:
        self._rows, self._keys = rows, rows if keys is None else keys
        self._symmetric = keys is None and rows.device.type == "cpu" and rows.dtype == torch.float32
        self._tile = 0
        # By the first row of a tile to come: what earlier tiles of its block have made of it, by their own first row.
        self._made: dict[int, dict[int, Tensor]] = {}

    def into(self, out: Tensor, start: int, stop: int) -> None:
        """Write the products of the rows `start ... stop - 1` to `out` (R, K) float32."""
        if start == 0:
            self._tile, self._made = stop, {}
        if not self._symmetric or not self._tile:
            self._multiply(out, start, stop, 0, len(self._keys))
            return
        block = self._tile * max(1, _BLOCK_ROWS // self._tile)
        begin = start - start % block
        end = min(begin + block, len(self._keys))
        made = self._made.pop(start, {})
        if made.keys() != set(range(begin, start, self._tile)) or stop != min(start + self._tile, end):
            self._multiply(out, start, stop, 0, len(self._keys))  # out of order, or of another size
            return
        for column, x in made.items():
            out[:, column : column + self._tile] = x
        self._multiply(out, start, stop, 0, begin)
        self._multiply(out, start, stop, start, len(self._keys))
        for later in range(stop, end, self._tile):
            x = out[:, later : min(later + self._tile, end)].T
            self._made.setdefault(later, {})[start] = x.clone(memory_format=torch.contiguous_format)

    def _multiply(self, out: Tensor, start: int, stop: int, first: int, last: int) -> None:
        if first == last:
            return
        with torch.autocast(out.device.type, enabled=False):
            if self._keys.dtype == torch.float32:
                torch.mm(self._rows[start:stop], self._keys[first:last].T, out=out[:, first:last])
            else:
                out[:, first:last] = self._rows[start:stop] @ self._keys[first:last].T
