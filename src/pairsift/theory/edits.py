"""Margin and temperature as edits of the similarity graph (Thms 4.3 and 4.5 of arXiv 2501.01317).

For every kind of pair, both theorems choose the margin or temperature that turns the normalised graph with difficult
examples into the graph without them. All cases follow from that requirement, for either pairing:
`M = D^-1/2 (A_bar - A_bar_clean) D^-1/2` and `T = A_bar_clean / A_bar`. D holds the degrees with difficult examples.
"""

from __future__ import annotations

import math

import numpy as np

from pairsift.theory.graph import FloatArray, SimilarityGraph

KINDS = (
    "easy with anything easy",
    "easy with difficult, same class",
    "easy with difficult, different classes",
    "difficult with itself",
    "difficult with difficult, same class",
    "difficult pair",
    "difficult with difficult, different classes, not paired",
)


def margin_cases(graph: SimilarityGraph) -> dict[str, float]:
    """The margin of every kind of pair (Thm 4.3), in O(1). Only the matched graph has the seventh kind.

    "difficult pair" is the printed `c0 (gamma - beta) / (c1^2 c2)` with `c0 = c2 - n_d r beta` (block graph).
    """
    cases = {}
    for kind, weight, clean, hard in _kinds(graph):
        degree = _degree(graph, hard)
        cases[kind] = (weight / degree - clean / graph.easy_degree) / degree
    return cases


def temperature_cases(graph: SimilarityGraph) -> dict[str, float]:
    """The temperature of every kind of pair (Thm 4.5), in O(1). "difficult pair" is the printed `(c1/c2)(beta/gamma)`.

    Raises:
        ValueError: gamma = 0 while beta is not 0, so that no factor turns one into the other.
    """
    if graph.gamma == 0 and graph.beta != 0:
        raise ValueError(f"gamma = 0 with beta = {graph.beta}: no temperature turns a similarity of 0 into beta")
    cases = {}
    for kind, weight, clean, hard in _kinds(graph):
        change = clean / weight if weight != clean else 1.0
        cases[kind] = change * _degree(graph, hard) / graph.easy_degree
    return cases


def margin_matrix(graph: SimilarityGraph) -> FloatArray:
    """M of Thm 4.3, (n (r + 1), n (r + 1)), in units of degrees.

    Multiply it by `graph.volume` for a loss whose weights are probabilities, such as `population.margin_loss`.
    """
    return _fill(graph, margin_cases(graph))


def temperature_matrix(graph: SimilarityGraph) -> FloatArray:
    """T of Thm 4.5, (n (r + 1), n (r + 1)), relative to the base temperature.

    Raises:
        ValueError: see `temperature_cases`.
    """
    return _fill(graph, temperature_cases(graph))


def apply_margin(graph: SimilarityGraph, margins: FloatArray) -> FloatArray:
    """A_bar - D^1/2 M D^1/2, the matrix that the margin loss factorises (Thm 4.2)."""
    scale = np.sqrt(graph.degrees())
    edited: FloatArray = graph.normalized_adjacency() - margins * (scale[:, None] * scale)
    return edited


def apply_temperature(graph: SimilarityGraph, temperatures: FloatArray) -> FloatArray:
    """T * A_bar elementwise, the matrix that the temperature loss factorises (Thm 4.4)."""
    return graph.normalized_adjacency() * temperatures


def _kinds(graph: SimilarityGraph) -> list[tuple[str, float, float, int]]:
    """Kind, similarity, similarity without difficult examples, and how many of the two vertices are difficult."""
    alpha, beta, gamma = graph.alpha, graph.beta, graph.gamma
    levels = [(0.0, 0.0, 0), (alpha, alpha, 1), (beta, beta, 1), (1.0, 1.0, 2), (alpha, alpha, 2), (gamma, beta, 2)]
    if graph.pairing == "matched":
        levels.append((beta, beta, 2))
    return [(kind, *level) for kind, level in zip(KINDS, levels, strict=False)]


def _degree(graph: SimilarityGraph, hard: int) -> float:
    """sqrt(d_i d_j) of a pair with `hard` difficult examples."""
    return math.sqrt(graph.difficult_degree**hard * graph.easy_degree ** (2 - hard))


def _fill(graph: SimilarityGraph, cases: dict[str, float]) -> FloatArray:
    labels, hard, values = graph.labels(), graph.difficult(), list(cases.values())
    same = labels[:, None] == labels
    hard_count = hard[:, None].astype(int) + hard
    kind = np.zeros(same.shape, int)
    kind[(hard_count == 1) & same] = 1
    kind[(hard_count == 1) & ~same] = 2
    kind[(hard_count == 2) & same] = 4
    kind[(hard_count == 2) & ~same] = len(values) - 1
    kind[graph.difficult_pairs()] = 5
    kind[np.diag(hard)] = 3
    matrix: FloatArray = np.array(values)[kind]
    return matrix
