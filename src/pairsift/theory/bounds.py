"""The printed statements of arXiv 2501.01317 on the linear-probe error, with the exact values to compare them with.

All bounds have the form `4 delta / (1 - lambda_{k+1}) + 8 delta` (HaoChen et al., arXiv 2106.04156, Thm B.3); the
statements differ in the eigenvalue they give. Each function computes the *printed* value for any graph, and reports
whether the statement's own conditions hold. `exact` and `compare` compute the true value. docs/theory-errata.md lists
where the two differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from pairsift._base.extras import needs
from pairsift.theory.graph import SimilarityGraph

__all__ = [
    "Bound", "Comparison", "Condition", "Scale", "admissible_epsilon", "check_bound_arguments", "compare",
    "difficult_hurt", "exact", "from_eigenvalue", "margin", "noise_with_difficult", "noise_without_difficult",
    "potential_lower_bound", "removal_pays", "removed", "semicircle_quantile", "temperature", "temperature_factor",
    "temperature_pays", "temperature_pays_printed", "with_difficult", "without_difficult",
]  # fmt: skip

Scale = Literal["printed", "corrected"]
"""The size of the noise term: as in the paper, or with the factor of the graph's size that the paper omits."""


@dataclass(frozen=True)
class Bound:
    """The value of a statement on a graph.

    Attributes:
        source: theorem or equation.
        eigenvalue: the lambda_{k+1} that the statement gives.
        value: the bound on the linear-probe error. It is infinite from lambda = 1 on and vacuous above 1.
        holds: whether the statement's own conditions hold on this graph.
        condition: these conditions, with the values of this graph.
    """

    source: str
    eigenvalue: float
    value: float
    holds: bool
    condition: str

    def __float__(self) -> float:
        return self.value


def from_eigenvalue(eigenvalue: float, delta: float, factor: float = 1.0) -> float:
    """The bound `4 delta / (1 - lambda) * factor + 8 delta` on the linear-probe error.

    It is HaoChen et al., arXiv 2106.04156, Thm B.3, with lambda = lambda_{k+1} of the normalised adjacency. Every
    statement of arXiv 2501.01317 is an instance of it. The bound is infinite from lambda = 1 on, and 0 for delta = 0.
    """
    if delta == 0:
        return 0.0
    return math.inf if eigenvalue >= 1 else 4 * delta / (1 - eigenvalue) * factor + 8 * delta


def check_bound_arguments(vertices: int, delta: float, k: int | None) -> None:
    """Refuse a labelling error or a feature dimension that a graph with this number of vertices cannot have.

    Raises:
        ValueError: delta outside [0, 1], or k outside [1, vertices - 1].
    """
    if not 0 <= delta <= 1:
        raise ValueError(f"delta is a probability in [0, 1], got {delta}")
    if k is not None and not 1 <= k < vertices:
        raise ValueError(f"k must lie in [1, n (r + 1) - 1 = {vertices - 1}], got k={k}")


def exact(graph: SimilarityGraph, delta: float, k: int) -> float:
    """`4 delta / (1 - lambda_{k+1}) + 8 delta` with the graph's exact eigenvalue.

    Args:
        graph: with or without difficult examples.
        delta: labelling error, in [0, 1].
        k: feature dimension, 1 <= k < n (r + 1).

    Raises:
        ValueError: delta or k out of range.
    """
    check_bound_arguments(len(graph), delta, k)
    return from_eigenvalue(graph.eigenvalue(k + 1), delta)


def without_difficult(graph: SimilarityGraph, delta: float, k: int | None = None) -> Bound:
    """Thm 3.3, no difficult examples: lambda = (1 - alpha) / c2, for k >= r + 1. Exact."""
    check_bound_arguments(len(graph), delta, k)
    return _bound("Thm 3.3", graph.floor, delta, *_range(graph, k, None))


def with_difficult(graph: SimilarityGraph, delta: float, k: int | None = None) -> Bound:
    """Thm 3.4, with difficult examples: lambda = [(1 - alpha) + r (gamma - beta)] / c1, for r + 1 <= k < n_d + r + 1.

    The printed eigenvalue is lambda_{k+1} of neither pairing throughout this range (docs/theory-errata.md).
    """
    check_bound_arguments(len(graph), delta, k)
    holds, condition = _range(graph, k, graph.n_d + graph.r + 1)
    return _bound("Thm 3.4", _printed_eigenvalue(graph), delta, holds and graph.n_d > 0, condition)


def removed(graph: SimilarityGraph, delta: float, k: int | None = None) -> Bound:
    """Cor 4.1, difficult examples removed: Thm 3.3 with n - n_d examples in each class.

    Raises:
        ValueError: all examples are difficult, or delta or k out of range.
    """
    check_bound_arguments(len(graph), delta, k)
    smaller = graph.remove_difficult()
    return _bound("Cor 4.1", smaller.floor, delta, *_range(smaller, k, None))


def margin(graph: SimilarityGraph, delta: float, k: int | None = None) -> Bound:
    """Thm 4.3, margins on difficult pairs: Thm 3.3 again, exact with all cases of `edits.margin_matrix`."""
    check_bound_arguments(len(graph), delta, k)
    return _bound("Thm 4.3", graph.floor, delta, *_range(graph, k, None))


def temperature(graph: SimilarityGraph, delta: float, k: int | None = None) -> Bound:
    """Thm 4.5, temperatures on difficult pairs: Thm 3.3's first term times `temperature_factor`.

    Raises:
        ValueError: beta <= 0, or delta or k out of range.
    """
    check_bound_arguments(len(graph), delta, k)
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
    """Eq. 66, a heuristic: `(phi/2 - 1 + mu c) / (1 - mu)` with `mu = [(1-alpha) - r (gamma-beta)] / c1`.

    Args:
        graph: with difficult examples.
        phi: probability that a positive pair has two labels, in [0, 1].
        c: bound on the sum of the squared norms of the probe's rows, > 0. The paper does not show that one exists.

    Raises:
        ValueError: phi or c out of range.
    """
    if not 0 <= phi <= 1:
        raise ValueError(f"phi must lie in [0, 1], got {phi}")
    if not c > 0:
        raise ValueError(f"c must be > 0, got {c}")
    mu = ((1 - graph.alpha) - graph.r * (graph.gamma - graph.beta)) / _printed_c1(graph)
    return (phi / 2 - 1 + mu * c) / (1 - mu)


def _bound(source: str, eigenvalue: float, delta: float, holds: bool, condition: str) -> Bound:
    """The value of a statement that gives this eigenvalue."""
    return Bound(source, eigenvalue, from_eigenvalue(eigenvalue, delta), holds, condition)


def _printed_eigenvalue(graph: SimilarityGraph) -> float:
    """lambda_{k+1} as Thm 3.4 prints it, for either pairing."""
    return ((1 - graph.alpha) + graph.r * (graph.gamma - graph.beta)) / _printed_c1(graph)


def _range(graph: SimilarityGraph, k: int | None, below: int | None) -> tuple[bool, str]:
    """Whether r + 1 <= k (< below), and the condition as text. Without k it counts as true."""
    words = f"k >= r + 1 = {graph.r + 1}" if below is None else f"r + 1 = {graph.r + 1} <= k < n_d + r + 1 = {below}"
    if k is None:
        return True, words
    return k >= graph.r + 1 and (below is None or k < below), f"{words}, got k={k}"


def _printed_c1(graph: SimilarityGraph) -> float:
    """The paper's degree of a difficult vertex. It is that of the block graph, and the paper uses it for both."""
    return graph.easy_degree + graph.n_d * graph.r * (graph.gamma - graph.beta)


@dataclass(frozen=True)
class Condition:
    """An inequality between two numbers, and whether it holds.

    Attributes:
        source: the statement that it belongs to.
        left: left side.
        right: right side.
        holds: whether the inequality, and every other condition of the statement, holds.
    """

    source: str
    left: float
    right: float
    holds: bool


def difficult_hurt(graph: SimilarityGraph) -> Condition:
    """Whether Thm 3.4 exceeds Thm 3.3: n_d (1 - alpha) < c2, gamma > beta and n_d > 0. The paper claims it always."""
    left, right = graph.n_d * (1 - graph.alpha), graph.easy_degree
    return Condition("Thm 3.4 > Thm 3.3", left, right, left < right and graph.gamma > graph.beta and graph.n_d > 0)


def removal_pays(graph: SimilarityGraph) -> Condition:
    """Whether Cor 4.1 beats Thm 3.4: gamma - beta > n_d (1-alpha) (alpha + r gamma) / (r c2'), with c2' after removal.

    Raises:
        ValueError: all examples are difficult.
    """
    smaller = graph.remove_difficult()
    left = graph.gamma - graph.beta
    right = graph.n_d * (1 - graph.alpha) * (graph.alpha + graph.r * graph.gamma) / (graph.r * smaller.easy_degree)
    return Condition("Cor 4.1 < Thm 3.4", left, right, left > right)


def temperature_pays(graph: SimilarityGraph) -> Condition:
    """Whether Thm 4.5 beats Thm 3.4, exactly: `factor - 1 < (1 - lambda_3.3) / (1 - lambda_3.4) - 1`.

    Raises:
        ValueError: beta <= 0.
    """
    factor = temperature_factor(graph)
    gain, rest = graph.r * (graph.gamma - graph.beta), 1 - graph.alpha
    same = graph.n * (graph.alpha + graph.r * graph.beta)
    # The difference is written out, because the two sides agree to many digits where n is large.
    right = gain * (same - rest * (graph.n_d - 1)) / (graph.easy_degree * (same + (graph.n_d - 1) * gain))
    return Condition("Thm 4.5 < Thm 3.4", factor - 1, right, factor - 1 < right)


def temperature_pays_printed(graph: SimilarityGraph) -> Condition:
    """The printed condition of Thm 4.5: n_d < sqrt(r / ((alpha + r beta)(gamma + beta))) beta sqrt(n).

    It is necessary but not sufficient. Its derivation drops 1 - alpha and (n_d - 1) r (gamma - beta) from the
    eigenvalues.

    Raises:
        ValueError: beta <= 0.
    """
    temperature_factor(graph)
    density = (graph.alpha + graph.r * graph.beta) * (graph.gamma + graph.beta)
    right = math.sqrt(graph.r * graph.n / density) * graph.beta
    return Condition("Thm 4.5 (printed condition)", graph.n_d, right, graph.n_d < right and graph.gamma > graph.beta)


def noise_without_difficult(graph: SimilarityGraph, delta: float, epsilon: float, scale: Scale = "printed") -> Bound:
    """Thm B.4, which is Thm 3.3 with noise of standard deviation epsilon: lambda gains x0 epsilon / c2.

    Symmetric noise of variance 1 has spectral radius 2 sqrt(n (r + 1)). The printed gain omits this factor, and
    `scale="corrected"` includes it.

    Args:
        graph: any similarity graph; the statement ignores its difficult examples.
        delta: labelling error, in [0, 1].
        epsilon: standard deviation of the noise, >= 0.
        scale: "printed" or "corrected".

    Raises:
        ValueError: epsilon negative, delta out of range, or an unknown scale.
    """
    return _noisy("Thm B.4", graph.floor, graph, delta, epsilon, scale)


def noise_with_difficult(graph: SimilarityGraph, delta: float, epsilon: float, scale: Scale = "printed") -> Bound:
    """Thm B.5, which is Thm 3.4 with noise of standard deviation epsilon; see `noise_without_difficult`."""
    return _noisy("Thm B.5", _printed_eigenvalue(graph), graph, delta, epsilon, scale)


def admissible_epsilon(graph: SimilarityGraph, scale: Scale = "printed") -> float:
    """The largest noise for which Thms B.4 and B.5 are both finite: the larger eigenvalue reaches 1 there.

    Raises:
        ValueError: an unknown scale.
    """
    room = 1 - max(graph.floor, _printed_eigenvalue(graph))
    return max(0.0, room) / _noise_gain(graph, scale)


def semicircle_quantile(share: float) -> float:
    """The upper quantile x0 in [-2, 2] of the semicircle law (Thms B.4, B.5, Remark 1).

    It solves `x sqrt(4 - x^2) / 2 + 2 asin(x / 2) = (1 - 2 share) pi`.

    Args:
        share: n_d / (n (r + 1)) in the theorems, in [0, 1].

    Raises:
        ValueError: share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share}")
    if share in (0, 1):
        return 2.0 - 4.0 * share

    # With x = 2 sin(t / 2) the equation becomes sin t + t = (1 - 2 share) pi, which has no steep ends.
    def excess(angle: float) -> float:
        return math.sin(angle) + angle - (1 - 2 * share) * math.pi

    with needs("theory", "the semicircle's quantile"):
        from scipy.optimize import brentq
    return 2 * math.sin(brentq(excess, -math.pi, math.pi, xtol=1e-15, rtol=1e-14) / 2)


def _noisy(source: str, eigenvalue: float, graph: SimilarityGraph, delta: float, epsilon: float, scale: Scale) -> Bound:
    check_bound_arguments(len(graph), delta, None)
    if not (math.isfinite(epsilon) and epsilon >= 0):
        raise ValueError(f"epsilon must be finite and >= 0, got {epsilon}")
    gain = _noise_gain(graph, scale)
    most = admissible_epsilon(graph, scale)
    condition = f"epsilon < {most:.4g}, got {epsilon} ({scale} scale)"
    return _bound(source, eigenvalue + gain * epsilon, delta, epsilon < most, condition)


def _noise_gain(graph: SimilarityGraph, scale: Scale) -> float:
    """The gain of the eigenvalue per unit of epsilon."""
    if scale not in ("printed", "corrected"):
        raise ValueError(f"scale must be 'printed' or 'corrected', got {scale!r}")
    gain = semicircle_quantile(graph.n_d / len(graph)) / graph.easy_degree
    return gain if scale == "printed" else gain * math.sqrt(len(graph))


@dataclass(frozen=True)
class Comparison:
    """A printed statement and the exact values of the graph that it is about.

    Attributes:
        statement: the graph or treatment that is bounded, as text.
        printed: the statement's value.
        eigenvalue: exact lambda_{k+1} of that graph.
        exact: the bound with the exact eigenvalue.
        status: "exact", "loose" (above the exact bound), or "violated" (below it, so it is no upper bound).
    """

    statement: str
    printed: Bound
    eigenvalue: float
    exact: float
    status: str


def compare(graph: SimilarityGraph, delta: float, k: int) -> list[Comparison]:
    """Compare every printed statement that applies to the graph with the exact bound.

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
    check_bound_arguments(len(graph), delta, k)
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
        status = "exact"
    elif printed.eigenvalue > eigenvalue:
        status = "loose"
    else:
        status = "violated"
    return Comparison(statement, printed, eigenvalue, from_eigenvalue(eigenvalue, delta, factor), status)
