import pytest
import torch

from pairsift.pairs import rank_band
from pairsift.pairs.rank_band import Products


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(rank_band, "_BLOCK_ROWS", 12)


def rows(n, seed=0):
    return torch.randn(n, 7, generator=torch.Generator().manual_seed(seed))


def by_tiles(made, n, keys, tile, starts=None):
    out = torch.full((n, keys), torch.nan)
    for start in range(0, n, tile) if starts is None else starts:
        made.into(out[start : min(start + tile, n)], start, min(start + tile, n))
    return out


@pytest.mark.parametrize("tile", [1, 3, 4, 5, 12, 40])
@pytest.mark.parametrize("n", [1, 2, 12, 13, 31])
def test_rows_with_themselves(n, tile):
    h = rows(n)
    made = Products(h, None)
    for _ in range(2):  # a second walk begins anew
        torch.testing.assert_close(by_tiles(made, n, n, tile), h @ h.T)
    assert not made._made


def test_a_pair_is_multiplied_once_within_a_block(monkeypatch):
    """24 rows in blocks of 12 by tiles of 4: 12, 8 and 4 columns of their own block, and the 12 of the other."""
    counted = []
    whole = Products._multiply

    def count(self, out, start, stop, first, last):
        counted.append((stop - start) * (last - first))
        whole(self, out, start, stop, first, last)

    monkeypatch.setattr(Products, "_multiply", count)
    h = rows(24)
    by_tiles(Products(h, None), 24, 24, 4)
    assert sum(counted) == 2 * 4 * (12 + 8 + 4) + 24 * 12


def test_tiles_in_any_order_and_of_any_size():
    h = rows(31)
    made = Products(h, None)
    torch.testing.assert_close(by_tiles(made, 31, 31, 4, [8, 0, 16, 4, 4, 28, 12, 20, 24]), h @ h.T)
    for start, stop in ((5, 8), (12, 14), (14, 18), (0, 4), (4, 7), (8, 12), (28, 31)):
        out = torch.empty(stop - start, 31)
        made.into(out, start, stop)
        torch.testing.assert_close(out, h[start:stop] @ h.T)


def test_other_keys_and_half_precision():
    h, keys = rows(9), rows(20, seed=1)
    torch.testing.assert_close(by_tiles(Products(h, keys), 9, 20, 4), h @ keys.T)
    half = h.bfloat16()
    torch.testing.assert_close(by_tiles(Products(half, None), 9, 9, 4), (half @ half.T).float())
