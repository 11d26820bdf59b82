"""The printed statements of arXiv 2501.01317 on the linear-probe error, each beside the exact value.

All bounds have the form `4 delta / (1 - lambda_{k+1}) + 8 delta` (HaoChen et al., arXiv 2106.04156, Thm B.3); the
statements differ in the eigenvalue they give. Each function computes what is *printed*, whichever graph it is handed,
and says whether the statement's own conditions hold; `exact` and `compare` say what is true. docs/theory-errata.md
lists where the two part.
"""

from pairsift.theory.bounds.comparison import Comparison, compare
from pairsift.theory.bounds.conditions import (
    Condition,
    difficult_hurt,
    removal_pays,
    temperature_pays,
    temperature_pays_printed,
)
from pairsift.theory.bounds.noise import (
    Scale,
    admissible_epsilon,
    noise_with_difficult,
    noise_without_difficult,
    semicircle_quantile,
)
from pairsift.theory.bounds.statements import (
    Bound,
    exact,
    margin,
    potential_lower_bound,
    removed,
    temperature,
    temperature_factor,
    with_difficult,
    without_difficult,
)
from pairsift.theory.probe_bound import from_eigenvalue

__all__ = [
    "Bound",
    "Comparison",
    "Condition",
    "Scale",
    "admissible_epsilon",
    "compare",
    "difficult_hurt",
    "exact",
    "from_eigenvalue",
    "margin",
    "noise_with_difficult",
    "noise_without_difficult",
    "potential_lower_bound",
    "removal_pays",
    "removed",
    "semicircle_quantile",
    "temperature",
    "temperature_factor",
    "temperature_pays",
    "temperature_pays_printed",
    "with_difficult",
    "without_difficult",
]
