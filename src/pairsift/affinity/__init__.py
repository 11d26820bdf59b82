"""P(same class) of a pair without labels, and the confident negatives that follow from it."""

from pairsift.extras import needs

with needs("train", "pairsift.affinity"):
    from pairsift.affinity.decision import Estimate, estimate
    from pairsift.affinity.errors import AffinityError
    from pairsift.affinity.fitted import Affinity
    from pairsift.affinity.negatives import ConfidentMasks, ConfidentNegatives
    from pairsift.affinity.patches import patch_features

__all__ = [
    "Affinity", "AffinityError", "ConfidentMasks", "ConfidentNegatives", "Estimate", "estimate", "patch_features",
]  # fmt: skip
