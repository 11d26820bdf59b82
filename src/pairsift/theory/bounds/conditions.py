"""When difficult examples hurt, and when a treatment pays: the printed conditions, and exact ones."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pairsift.theory.bounds.statements import temperature_factor
from pairsift.theory.graph import SimilarityGraph


@dataclass(frozen=True)
class Condition:
    """A printed inequality: `left` against `right`, and whether it holds."""

    source: str
    left: float
    right: float
    holds: bool


def difficult_hurt(graph: SimilarityGraph) -> Condition:
    """When Thm 3.4 exceeds Thm 3.3: n_d (1 - alpha) < c2 (and gamma > beta, n_d > 0). The paper states it always."""
    left, right = graph.n_d * (1 - graph.alpha), graph.easy_degree
    return Condition("Thm 3.4 > Thm 3.3", left, right, left < right and graph.gamma > graph.beta and graph.n_d > 0)


def removal_pays(graph: SimilarityGraph) -> Condition:
    """When Cor 4.1 beats Thm 3.4: gamma - beta > n_d (1-alpha) (alpha + r gamma) / (r c2'), c2' after removal.

    Raises:
        ValueError: all examples are difficult.
    """
    smaller = graph.remove_difficult()
    left = graph.gamma - graph.beta
    right = graph.n_d * (1 - graph.alpha) * (graph.alpha + graph.r * graph.gamma) / (graph.r * smaller.easy_degree)
    return Condition("Cor 4.1 < Thm 3.4", left, right, left > right)


def temperature_pays(graph: SimilarityGraph) -> Condition:
    """When Thm 4.5 beats Thm 3.4, exactly: `factor - 1 < (1 - lambda_3.3) / (1 - lambda_3.4) - 1`.

    Raises:
        ValueError: beta <= 0.
    """
    factor = temperature_factor(graph)
    gain, rest = graph.r * (graph.gamma - graph.beta), 1 - graph.alpha
    same = graph.n * (graph.alpha + graph.r * graph.beta)
    # Written out, because the two sides agree to many digits where n is large.
    right = gain * (same - rest * (graph.n_d - 1)) / (graph.easy_degree * (same + (graph.n_d - 1) * gain))
    return Condition("Thm 4.5 < Thm 3.4", factor - 1, right, factor - 1 < right)


def temperature_pays_printed(graph: SimilarityGraph) -> Condition:
    """The printed condition of Thm 4.5: n_d < sqrt(r / ((alpha + r beta)(gamma + beta))) beta sqrt(n).

    Necessary but not sufficient: its derivation drops 1 - alpha and (n_d - 1) r (gamma - beta) from the eigenvalues.

    Raises:
        ValueError: beta <= 0.
    """
    temperature_factor(graph)
    density = (graph.alpha + graph.r * graph.beta) * (graph.gamma + graph.beta)
    right = math.sqrt(graph.r * graph.n / density) * graph.beta
    return Condition("Thm 4.5 (printed condition)", graph.n_d, right, graph.n_d < right and graph.gamma > graph.beta)
