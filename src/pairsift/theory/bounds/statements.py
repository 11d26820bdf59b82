"""The statements on the linear-probe error, each as it is printed, and what their values are made of."""

from __future__ import annotations

from dataclasses import dataclass

from pairsift.theory.graph import SimilarityGraph
from pairsift.theory.probe_bound import check, from_eigenvalue


@dataclass(frozen=True)
class Bound:
    """A statement's value on a graph.

    Attributes:
        source: theorem or equation.
        eigenvalue: the lambda_{k+1} it gives.
        value: the bound on the linear-probe error; infinite from lambda = 1 on. Above 1 it says nothing.
        holds: whether the statement's own conditions hold here.
        condition: these conditions, with the values seen.
    """

    source: str
    eigenvalue: float
    value: float
    holds: bool
    condition: str

    def __float__(self) -> float:
        return self.value


def exact(graph: SimilarityGraph, delta: float, k: int) -> float:
    """`4 delta / (1 - lambda_{k+1}) + 8 delta` with the graph's exact eigenvalue.

    Args:
        graph: with or without difficult examples.
        delta: labelling error, in [0, 1].
        k: feature dimension, 1 <= k < n (r + 1).

    Raises:
        ValueError: delta or k out of range.
    """
    return graph.bound(delta, k)


def without_difficult(graph: SimilarityGraph, delta: float, k: int | None = None) -> Bound:
    """Thm 3.3, no difficult examples: lambda = (1 - alpha) / c2, for k >= r + 1. Exact."""
    check(len(graph), delta, k)
    return make_bound("Thm 3.3", graph.floor, delta, *_range(graph, k, None))


def with_difficult(graph: SimilarityGraph, delta: float, k: int | None = None) -> Bound:
    """Thm 3.4, with difficult examples: lambda = [(1 - alpha) + r (gamma - beta)] / c1, for r + 1 <= k < n_d + r + 1.

    The printed eigenvalue is lambda_{k+1} of neither pairing throughout this range (docs/theory-errata.md).
    """
    check(len(graph), delta, k)
    holds, condition = _range(graph, k, graph.n_d + graph.r + 1)
    return make_bound("Thm 3.4", printed_eigenvalue(graph), delta, holds and graph.n_d > 0, condition)


def removed(graph: SimilarityGraph, delta: float, k: int | None = None) -> Bound:
    """Cor 4.1, difficult examples removed: Thm 3.3 with n - n_d examples a class.

    Raises:
        ValueError: all examples are difficult, or delta or k out of range.
    """
    check(len(graph), delta, k)
    smaller = graph.remove_difficult()
    return make_bound("Cor 4.1", smaller.floor, delta, *_range(smaller, k, None))


def margin(graph: SimilarityGraph, delta: float, k: int | None = None) -> Bound:
    """Thm 4.3, margins on difficult pairs: Thm 3.3 again, exact with all cases of `edits.margin_matrix`."""
    check(len(graph), delta, k)
    return make_bound("Thm 4.3", graph.floor, delta, *_range(graph, k, None))


def temperature(graph: SimilarityGraph, delta: float, k: int | None = None) -> Bound:
    """Thm 4.5, temperatures on difficult pairs: Thm 3.3's first term times `temperature_factor`.

    Raises:
        ValueError: beta <= 0, or delta or k out of range.
    """
    check(len(graph), delta, k)
    holds, condition = _range(graph, k, None)
    value = from_eigenvalue(graph.floor, delta, temperature_factor(graph))
    return Bound("Thm 4.5", graph.floor, value, holds, condition)


def temperature_factor(graph: SimilarityGraph) -> float:
    """`1 - (n_d/n)^2 + (gamma/beta)^2 (n_d/n)^2` of Thm 4.5.

    Raises:
        ValueError: beta <= 0, where a ratio of similarities has no meaning.
    """
    if graph.beta <= 0:
        raise ValueError(f"Thm 4.5 divides by beta, which must be > 0, got {graph.beta}; use a margin instead")
    share = (graph.n_d / graph.n) ** 2
    ratio = graph.gamma / graph.beta
    return 1 - share + (ratio * share) * ratio if share else 1.0  # inf where the ratio's square is


def potential_lower_bound(graph: SimilarityGraph, phi: float, c: float) -> float:
    """Eq. 66: `(phi/2 - 1 + mu c) / (1 - mu)`, `mu = [(1-alpha) - r (gamma-beta)] / c1`. A heuristic of the paper.

    Args:
        graph: with difficult examples.
        phi: probability that a positive pair has two labels, in [0, 1].
        c: bound on the squared norms of the probe's rows in all, > 0; it must exist, which the paper does not show.

    Raises:
        ValueError: phi or c out of range.
    """
    if not 0 <= phi <= 1:
        raise ValueError(f"phi must lie in [0, 1], got {phi}")
    if not c > 0:
        raise ValueError(f"c must be > 0, got {c}")
    mu = ((1 - graph.alpha) - graph.r * (graph.gamma - graph.beta)) / _printed_c1(graph)
    return (phi / 2 - 1 + mu * c) / (1 - mu)


def make_bound(source: str, eigenvalue: float, delta: float, holds: bool, condition: str) -> Bound:
    """A statement's value, from the eigenvalue it gives."""
    return Bound(source, eigenvalue, from_eigenvalue(eigenvalue, delta), holds, condition)


def printed_eigenvalue(graph: SimilarityGraph) -> float:
    """lambda_{k+1} as Thm 3.4 prints it, whichever pairing the graph has."""
    return ((1 - graph.alpha) + graph.r * (graph.gamma - graph.beta)) / _printed_c1(graph)


def _range(graph: SimilarityGraph, k: int | None, below: int | None) -> tuple[bool, str]:
    """Whether r + 1 <= k (< below), and this in words; without k what it must satisfy."""
    words = f"k >= r + 1 = {graph.r + 1}" if below is None else f"r + 1 = {graph.r + 1} <= k < n_d + r + 1 = {below}"
    if k is None:
        return True, words
    return k >= graph.r + 1 and (below is None or k < below), f"{words}, got k={k}"


def _printed_c1(graph: SimilarityGraph) -> float:
    """The paper's degree of a difficult vertex, that of the block graph, which it uses for both."""
    return graph.easy_degree + graph.n_d * graph.r * (graph.gamma - graph.beta)
