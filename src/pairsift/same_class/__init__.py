"""Estimates of P(same class) of pairs without labels, and selection of confident negatives."""

from pairsift._base.extras import needs

with needs("scan", "pairsift.same_class"):
    from pairsift.same_class.decision import Estimate, estimate
    from pairsift.same_class.estimator import Affinity, AffinityError
    from pairsift.same_class.negatives import ConfidentMasks, ConfidentNegatives
    from pairsift.same_class.patches import patch_features

__all__ = [
    "Affinity", "AffinityError", "ConfidentMasks", "ConfidentNegatives", "Estimate", "estimate", "patch_features",
]  # fmt: skip
