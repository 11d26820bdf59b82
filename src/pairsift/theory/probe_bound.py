"""The bound on the linear-probe error that every statement of arXiv 2501.01317 is an instance of."""

from __future__ import annotations

import math


def from_eigenvalue(eigenvalue: float, delta: float, factor: float = 1.0) -> float:
    """`4 delta / (1 - lambda) * factor + 8 delta`; infinite from lambda = 1 on, 0 for delta = 0.

    HaoChen et al., arXiv 2106.04156, Thm B.3, with lambda = lambda_{k+1} of the normalised adjacency.
    """
    if delta == 0:
        return 0.0
    return math.inf if eigenvalue >= 1 else 4 * delta / (1 - eigenvalue) * factor + 8 * delta


def check(vertices: int, delta: float, k: int | None) -> None:
    """Refuse a labelling error or a feature dimension that a graph of so many vertices cannot have.

    Raises:
        ValueError: delta outside [0, 1], or k outside [1, vertices - 1].
    """
    if not 0 <= delta <= 1:
        raise ValueError(f"delta is a probability in [0, 1], got {delta}")
    if k is not None and not 1 <= k < vertices:
        raise ValueError(f"k must lie in [1, n (r + 1) - 1 = {vertices - 1}], got k={k}")
