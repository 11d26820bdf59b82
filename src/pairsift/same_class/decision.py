"""Estimates from features without labels whether treating pairs would help, and the rule that decides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pairsift._base.checks import real_array
from pairsift.neighbors import FloatArray, principal_axes, unit_rows
from pairsift.same_class.estimator import Affinity, AffinityError, pair_scores
from pairsift.treatments import Decision, Treatment

# AUROC of "of different classes" among near pairs from which on treating pairs helps more than treating as many random
# pairs, for features of the run itself and for features of a guide, which errs in other pairs. Set between
# measurements on CIFAR-10 at CPU scale, see docs/findings.md. The run's own features, estimated at .64 to .68, gained
# no more than the control. Guides estimated at .59 and .70 did. Noise reached at most .54.
LEAST_AUROC, LEAST_AUROC_OF_GUIDE = 0.69, 0.55
# With fewer different rows, the 50 nearest rows are more than a quarter of all.
LEAST_ROWS = 200
# The treatment that was measured, see docs/findings.md.
_TREATMENT = Treatment(margin=0.03, temperature_scale=0.6, same_class_weight=1.0)
# AUROC above .5 per unit of clusterability. Least squares over the 25 labelled sets of the estimator's constants, with
# equal weights of their families, give 1.05, and .95 to 1.12 with one family left out. The mean error on that family is
# .02 (CIFAR-10), .09 (sentences) and .10 (digits).
_AUROC_OF_CLUSTERABILITY = 1.0
# Size of the sample; `sharpness` grows with the number of rows.
_ROWS = 2000


@dataclass(frozen=True)
class Estimate:
    """Estimates, without labels, about the pairs that would be treated; created by `estimate`.

    Attributes:
        rows: different rows in the sample, at most 2,000.
        clusterability: mean cosine of near pairs on the 48 leading eigenvectors of the neighbour graph, minus the same
            for Gaussian noise of equal mean and covariance. About 0 for noise, .11 to .17 for features of short runs on
            CIFAR-10, .37 for pixels of digits. It is smaller in sets of fewer than 2,000 rows.
        base: mean P(different class) of all pairs.
        purity: mean P(different class) of the selected pairs; None where none is selected.
        flagged: share of pairs that the selector selects.
        guide: whether the features are of a guide, not of the run whose pairs would be treated.
    """

    rows: int
    clusterability: float
    base: float
    purity: float | None
    flagged: float
    guide: bool = False

    @property
    def auroc(self) -> float:
        """Estimated AUROC in [.5, 1] of P for "of different classes" among near pairs, from the clusterability.

        P itself does not show it: its scores are standardised over near pairs, so that P spreads for any features,
        noise included, as if its AUROC were .62 to .68.
        """
        return min(1.0, max(0.5, 0.5 + _AUROC_OF_CLUSTERABILITY * self.clusterability))

    def decide(self) -> Decision:
        """The recommended treatment and the reason for it."""
        if self.rows < LEAST_ROWS:
            return Decision(
                Treatment(),
                f"stays off: {self.rows:,} different rows are too few to tell near from far ({LEAST_ROWS} are not)",
            )
        least = LEAST_AUROC_OF_GUIDE if self.guide else LEAST_AUROC
        if self.auroc < least:
            return Decision(
                Treatment(),
                f"stays off: features hardly cluster (clusterability {self.clusterability:.2f}, noise 0), so "
                "same-class pairs among near pairs would be found with an "
                f"AUROC of about {self.auroc:.2f}, and treating pays from about {least:.2f} on",
            )
        soft = f"same-class pairs weigh by P(different), AUROC about {self.auroc:.2f} among near pairs"
        if self.purity is None:
            return Decision(
                Treatment(same_class_weight=_TREATMENT.same_class_weight),
                f"treating same-class pairs only, because no pair is confidently of two classes: {soft}",
            )
        return Decision(
            _TREATMENT,
            f"treating {self.flagged:.1%} of pairs: {self.purity:.1%} of the treated pairs are estimated to be of "
            f"different classes (all pairs: {self.base:.1%}); {soft}",
        )


class _Fitted(Protocol):
    """`ConfidentNegatives`, whose module imports this one."""

    affinity: Affinity | None

    def masks(self, h: Tensor, *, rows: Tensor) -> Any: ...


def estimate(selector: _Fitted, features: ArrayLike | Tensor, *, seed: int = 0, guide: bool = False) -> Estimate:
    """Estimate whether treating pairs would help; takes some seconds for any number of rows.

    Args:
        selector: `ConfidentNegatives` with an affinity fitted to these features.
        features: (N, D), those of the affinity.
        seed: of the sample of rows, and of the noise for comparison.
        guide: whether the features are of a guide; see `Estimate`.

    Raises:
        AffinityError: the selector has no affinity, or one of another number of rows.

    Example:
        >>> import numpy as np
        >>> import pairsift as ps
        >>> rng = np.random.default_rng(0)
        >>> features = np.repeat(np.eye(10, 32), 60, axis=0) + 0.1 * rng.standard_normal((600, 32))
        >>> found = ps.same_class.estimate(ps.ConfidentNegatives(ps.Affinity.fit(features)), features)
        >>> found.decide().on, found.auroc > 0.6
        (True, True)
    """
    given = torch.from_numpy(np.asarray(real_array(features, "features", AffinityError), np.float32))
    affinity = selector.affinity
    if affinity is None or affinity.n != len(given):
        raise AffinityError(
            f"{selector} was not fitted to these {len(given):,} rows: set selector.affinity = Affinity.fit(features)"
        )
    draw = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(given), generator=draw)[:_ROWS].sort().values
    sample, codes = given[chosen], affinity.codes[chosen]
    same = float(affinity.between(codes, codes).fill_diagonal_(0).sum(dtype=torch.float64))
    masks = selector.masks(sample, rows=chosen if affinity.index.ids is None else affinity.index.ids[chosen])
    flagged = float(masks.whole().float().mean())
    unit = unit_rows(sample.numpy())
    # Without exact copies, which would look like the clearest clusters.
    different = unit[np.sort(np.unique(unit, axis=0, return_index=True)[1])]
    return Estimate(
        rows=len(different),
        clusterability=_clusterability(different, seed) if len(different) >= LEAST_ROWS else 0.0,
        base=1 - same / (len(sample) * (len(sample) - 1)),
        purity=masks.purity() if flagged else None,
        flagged=flagged,
        guide=guide,
    )


def _clusterability(unit: FloatArray, seed: int) -> float:
    """Sharpness of unit rows, minus that of Gaussian noise of equal mean and covariance."""
    centre, variances, axes = principal_axes(unit)
    normal = np.random.default_rng(seed).standard_normal(unit.shape) * np.sqrt(variances)
    noise = unit_rows(np.asarray(centre + normal @ axes.T, np.float32))
    return pair_scores(unit, seed).sharpness[1] - pair_scores(noise, seed).sharpness[1]
