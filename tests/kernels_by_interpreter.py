"""What the Triton kernels give under Triton's interpreter: run as a process of its own, with TRITON_INTERPRET=1."""

import sys

import torch
from objectives import objective, rows, value_and_gradients

from pairsift.pairs import kernels
from pairsift.pairs.selector import runs_kernels


def selections():
    """(similarities, high, low) with ties, zeros of both signs and rows that leave themselves out."""
    generator = torch.Generator().manual_seed(0)
    for keys in (2, 17, 2100):
        similarities = torch.randn(3, keys, generator=generator)
        similarities[0] = similarities[0].round()
        similarities[1] = torch.tensor([0.0, -0.0]).repeat(keys)[:keys]
        similarities[2, 1] = -torch.inf
        for high, low in {(1, 2), (1, keys), (keys // 3 + 1, keys // 2 + 1)}:
            if 0 < high < low:
                yield similarities, high, low


def cases():
    """(objective, treatment, rows, tile)"""
    for treatment in ("none", "neutral", "exclude", "margin", "temperature", "combined"):
        yield "ntxent", treatment, 3, 4
    for name in ("moco", "spectral", "two-tower", "two-tower-learned", "two-tower-flagged"):
        for treatment in ("none", "combined"):
            yield name, treatment, 4, 3


def main():
    assert runs_kernels(torch.zeros(1))
    masks = [kernels.mask_band(similarities.clone(), high, low) for similarities, high, low in selections()]
    losses = [
        value_and_gradients(objective(name, treatment, dtype=torch.float32, tile=tile), *rows(name, n, torch.float32))
        for name, treatment, n, tile in cases()
    ]
    each = objective("ntxent", "combined", dtype=torch.float32, tile=5, reduction="none")(
        *rows("ntxent", 4, torch.float32)
    )
    torch.save((masks, losses, each), sys.argv[1])


if __name__ == "__main__":
    main()
