"""Whether treating pairs would pay, told from features without labels: what is measured, and the rule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from pairsift._base.checks import real_array
from pairsift.neighbors import FloatArray, principal_axes, unit_rows
from pairsift.same_class.estimator import Affinity, AffinityError, signs
from pairsift.treatments import Decision, Treatment

# AUROC of "of different classes" among near pairs from which treating is worth more than treating as many random
# pairs, by features of the run itself, and by those of a guide, which errs in other pairs than the run. Set between
# measurements on CIFAR-10 at CPU scale, see docs/selection.md: the run's own features, which this module puts at .64
# to .68, gained no more than the control; guides that it puts at .59 and .70 did, and .54 is the most that noise
# reached.
LEAST_AUROC, LEAST_AUROC_OF_GUIDE = 0.69, 0.55
# Different rows below which the 50 nearest of one are a quarter of all, so that nothing is near.
LEAST_ROWS = 200
# What is applied then: the strength that was measured, see docs/selection.md.
_MARGIN, _TEMPERATURE_SCALE, _CLASS_MATES = 0.03, 0.6, 1.0
# AUROC gained over .5 by a unit of clearness. Least squares over 25 labelled sets of the families that the affinity's
# constants were fitted on, every family weighing the same, says 1.05, and .95 to 1.12 with one family left out, whose
# sets are then missed by .02 (CIFAR-10), .09 (sentences) and .10 (digits) in the mean.
_AUROC_OF_CLEARNESS = 1.0
# Rows that are looked at: sharpness grows with their number.
_ROWS = 2000


@dataclass(frozen=True)
class Estimate:
    """What features say, without labels, about the pairs that would be treated; made by `estimate`.

    Attributes:
        rows: different ones among those looked at, at most 2,000.
        clearness: by how much more sharply the rows fall into clusters than a cloud of the same covariance: the mean
            cosine of near pairs on the 48 leading eigenvectors of the graph of neighbours, less that of the cloud.
            About 0 for noise, .11 to .17 for features of short runs on CIFAR-10, .37 for pixels of digits. Sets of less
            than 2,000 rows show less of it than larger ones of the same kind, so there the rule is cautious.
        base: mean P(different class) of all pairs.
        purity: of the pairs that the selector flags; None where it flags none.
        flagged: share of pairs that it flags.
        guide: whether the features are of a guide, and not of the run whose pairs would be treated.
    """

    rows: int
    clearness: float
    base: float
    purity: float | None
    flagged: float
    guide: bool = False

    @property
    def auroc(self) -> float:
        """Of "of different classes" among near pairs as the affinity orders them, in [.5, 1], from the clearness alone.

        P itself cannot say it: its signs are standardised over near pairs, so whatever the features, noise included,
        P spreads as if its AUROC were .62 to .68.
        """
        return min(1.0, max(0.5, 0.5 + _AUROC_OF_CLEARNESS * self.clearness))

    def decide(self) -> Decision:
        """Whether to treat, with what, and why."""
        if self.rows < LEAST_ROWS:
            return Decision(
                Treatment(),
                f"stays off: {self.rows:,} different rows are too few to tell near from far ({LEAST_ROWS} are not)",
            )
        least = LEAST_AUROC_OF_GUIDE if self.guide else LEAST_AUROC
        if self.auroc < least:
            return Decision(
                Treatment(),
                f"stays off: features hardly cluster (clearness {self.clearness:.2f}, noise 0), so same-class pairs "
                f"among near pairs would be told with an AUROC of about {self.auroc:.2f}, and treating pays from about "
                f"{least:.2f} on",
            )
        soft = f"same-class pairs weigh by P(different), AUROC about {self.auroc:.2f} among near pairs"
        if self.purity is None:
            return Decision(
                Treatment(same_class_weight=_CLASS_MATES),
                f"treating same-class pairs only, because no pair is confidently of two classes: {soft}",
            )
        gain = 100 * (self.purity - self.base)
        return Decision(
            Treatment(_MARGIN, _TEMPERATURE_SCALE, same_class_weight=_CLASS_MATES),
            f"treating {self.flagged:.1%} of pairs: these are estimated {self.purity:.1%} of different classes, "
            f"{abs(gain):.1f} points {'above' if gain >= 0 else 'below'} random ones; {soft}",
        )


class _Fitted(Protocol):
    """What `estimate` needs of `ConfidentNegatives`, which itself asks for the estimate."""

    affinity: Affinity | None

    def masks(self, h: Tensor, *, rows: Tensor) -> Any: ...


def estimate(selector: _Fitted, features: ArrayLike | Tensor, *, seed: int = 0, guide: bool = False) -> Estimate:
    """Measure what `Treatment.auto` goes by; some seconds, whatever the number of rows.

    Args:
        selector: `ConfidentNegatives` with the affinity that was fitted to these features.
        features: (N, D), those of the affinity.
        seed: of the rows that are looked at, and of the cloud that they are compared with.
        guide: whether the features are of a guide, which has to tell less to be of use; see `Estimate`.

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
    if selector.affinity is None or selector.affinity.n != len(given):
        raise AffinityError(
            f"{selector} was not fitted to these {len(given):,} rows: set selector.affinity = Affinity.fit(features)"
        )
    draw = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(given), generator=draw)[:_ROWS].sort().values
    sample = given[chosen]
    affinity = selector.affinity
    codes = affinity.codes[chosen]
    same = float(affinity.between(codes, codes).fill_diagonal_(0).sum(dtype=torch.float64))
    masks = selector.masks(sample, rows=chosen if affinity.index.ids is None else affinity.index.ids[chosen])
    flagged = float(masks.whole().float().mean())
    unit = unit_rows(sample.numpy())
    # Copies would be the clearest of clusters, images that a run has not seen yet among them.
    different = unit[np.sort(np.unique(unit, axis=0, return_index=True)[1])]
    return Estimate(
        rows=len(different),
        clearness=_clearness(different, seed) if len(different) >= LEAST_ROWS else 0.0,
        base=1 - same / (len(sample) * (len(sample) - 1)),
        purity=masks.purity() if flagged else None,
        flagged=flagged,
        guide=guide,
    )


def _clearness(unit: FloatArray, seed: int) -> float:
    return signs(unit, seed).sharpness[1] - signs(_cloud(unit, seed), seed).sharpness[1]


def _cloud(unit: FloatArray, seed: int) -> FloatArray:
    """As many unit rows of a Gaussian of the same mean and covariance: what clusters by chance and by shape alone."""
    centre, variances, axes = principal_axes(unit)
    normal = np.random.default_rng(seed).standard_normal(unit.shape) * np.sqrt(variances)
    return unit_rows(np.asarray(centre + normal @ axes.T, np.float32))
