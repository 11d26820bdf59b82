"""The theory of arXiv 2501.01317, executable and corrected: the similarity graph, its bounds, and measured levels."""

from pairsift.theory import bounds, edits, population
from pairsift.theory.graph import SimilarityGraph, SlowMode

__all__ = ["SimilarityGraph", "SlowMode", "bounds", "edits", "population"]
