"""Printed statements beside the truth about the graphs they speak of."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pairsift.theory.bounds.statements import (
    Bound,
    margin,
    removed,
    temperature,
    temperature_factor,
    with_difficult,
    without_difficult,
)
from pairsift.theory.graph import SimilarityGraph
from pairsift.theory.probe_bound import check, from_eigenvalue


@dataclass(frozen=True)
class Comparison:
    """A printed statement beside the truth about the graph it speaks of.

    Attributes:
        statement: what is bounded, in words.
        printed: the statement's value.
        eigenvalue: exact lambda_{k+1} of that graph (nan where it has no k + 1 eigenvalues).
        exact: the bound with the exact eigenvalue.
        verdict: "exact", "loose" (above the exact bound), or "violated" (below it, so it is no upper bound).
    """

    statement: str
    printed: Bound
    eigenvalue: float
    exact: float
    verdict: str


def compare(graph: SimilarityGraph, delta: float, k: int) -> list[Comparison]:
    """Every printed statement that applies to the graph beside the exact one.

    Args:
        graph: with difficult examples.
        delta: labelling error, in [0, 1].
        k: feature dimension, 1 <= k < n (r + 1).

    Raises:
        ValueError: delta or k out of range.

    Example:
        >>> from pairsift.theory import SimilarityGraph, bounds
        >>> graph = SimilarityGraph(n=40, r=3, n_d=8, alpha=0.5, beta=0.1, gamma=0.3)
        >>> len(bounds.compare(graph, delta=0.05, k=4))
        5
    """
    check(len(graph), delta, k)
    clean = graph.without_difficult()
    rows = [
        _compare("none difficult", without_difficult(graph, delta, k), clean, delta, k),
        _compare("untreated", with_difficult(graph, delta, k), graph, delta, k),
    ]
    if graph.n_d < graph.n:
        smaller = graph.remove_difficult()
        if k < len(smaller):
            rows.append(_compare("removal", removed(graph, delta, k), smaller, delta, k))
    rows.append(_compare("margin", margin(graph, delta, k), clean, delta, k))
    if graph.beta > 0:
        bound, factor = temperature(graph, delta, k), temperature_factor(graph)
        rows.append(_compare("temperature", bound, clean, delta, k, factor))
    return rows


def _compare(
    statement: str, printed: Bound, graph: SimilarityGraph, delta: float, k: int, factor: float = 1.0
) -> Comparison:
    eigenvalue = graph.eigenvalue(k + 1)
    if math.isclose(eigenvalue, printed.eigenvalue, rel_tol=1e-12):
        verdict = "exact"
    elif printed.eigenvalue > eigenvalue:
        verdict = "loose"
    else:
        verdict = "violated"
    return Comparison(statement, printed, eigenvalue, from_eigenvalue(eigenvalue, delta, factor), verdict)
