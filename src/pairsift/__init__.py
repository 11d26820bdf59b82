"""pairsift: find and treat the pairs of examples that hurt contrastive learning (arXiv 2501.01317)."""

from pairsift import data, losses
from pairsift.pairs import RankBand, random_pairs, select_pairs
from pairsift.treatments import Treatment

__version__ = "0.1.0"
__all__ = ["RankBand", "Treatment", "data", "losses", "random_pairs", "select_pairs"]
