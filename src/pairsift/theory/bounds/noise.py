"""The statements on similarities with noise (Thms B.4 and B.5, Remark 1)."""

from __future__ import annotations

import math
from typing import Literal

from pairsift._base.extras import needs
from pairsift.theory.bounds.statements import Bound, make_bound, printed_eigenvalue
from pairsift.theory.graph import SimilarityGraph
from pairsift.theory.probe_bound import check

Scale = Literal["printed", "corrected"]
"""Size of the noise term: as in the paper, or with the factor of the graph's size that it lacks."""


def noise_without_difficult(graph: SimilarityGraph, delta: float, epsilon: float, scale: Scale = "printed") -> Bound:
    """Thm B.4, Thm 3.3 on similarities with noise of standard deviation epsilon: lambda gains x0 epsilon / c2.

    Variance-1 symmetric noise has spectral radius 2 sqrt(n (r + 1)), which the printed gain lacks; `scale="corrected"`
    has it.

    Raises:
        ValueError: epsilon negative, delta out of range, an unknown scale.
    """
    return _noisy("Thm B.4", graph.floor, graph, delta, epsilon, scale)


def noise_with_difficult(graph: SimilarityGraph, delta: float, epsilon: float, scale: Scale = "printed") -> Bound:
    """Thm B.5, Thm 3.4 on similarities with noise of standard deviation epsilon; see `noise_without_difficult`."""
    return _noisy("Thm B.5", printed_eigenvalue(graph), graph, delta, epsilon, scale)


def admissible_epsilon(graph: SimilarityGraph, scale: Scale = "printed") -> float:
    """The largest noise for which both Thm B.4 and Thm B.5 are finite: where the larger eigenvalue reaches 1.

    Raises:
        ValueError: an unknown scale.
    """
    room = 1 - max(graph.floor, printed_eigenvalue(graph))
    return max(0.0, room) / _noise_gain(graph, scale)


def semicircle_quantile(share: float) -> float:
    """x0 in [-2, 2] that a share of the semicircle law lies above (Thms B.4, B.5, Remark 1).

    Solves `x sqrt(4 - x^2) / 2 + 2 asin(x / 2) = (1 - 2 share) pi`.

    Args:
        share: n_d / (n (r + 1)) in the theorems, in [0, 1].

    Raises:
        ValueError: share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share}")
    if share in (0, 1):
        return 2.0 - 4.0 * share

    # In the angle x = 2 sin(t / 2) the equation reads sin t + t = (1 - 2 share) pi, which has no steep ends.
    def excess(angle: float) -> float:
        return math.sin(angle) + angle - (1 - 2 * share) * math.pi

    with needs("theory", "the semicircle's quantile"):
        from scipy.optimize import brentq
    return 2 * math.sin(brentq(excess, -math.pi, math.pi, xtol=1e-15, rtol=1e-14) / 2)


def _noisy(source: str, eigenvalue: float, graph: SimilarityGraph, delta: float, epsilon: float, scale: Scale) -> Bound:
    check(len(graph), delta, None)
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be finite and >= 0, got {epsilon}")
    gain = _noise_gain(graph, scale)
    most = admissible_epsilon(graph, scale)
    condition = f"epsilon < {most:.4g}, got {epsilon} ({scale} scale)"
    return make_bound(source, eigenvalue + gain * epsilon, delta, epsilon < most, condition)


def _noise_gain(graph: SimilarityGraph, scale: Scale) -> float:
    """What the eigenvalue gains per unit of epsilon."""
    if scale not in ("printed", "corrected"):
        raise ValueError(f"scale must be 'printed' or 'corrected', got {scale!r}")
    gain = semicircle_quantile(graph.n_d / len(graph)) / graph.easy_degree
    return gain if scale == "printed" else gain * math.sqrt(len(graph))
