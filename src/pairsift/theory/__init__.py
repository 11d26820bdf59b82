"""The theory of arXiv 2501.01317, executable and corrected: the similarity graph, its bounds, and measured levels."""

from pairsift.theory import bounds, edits, population
from pairsift.theory.graph import SimilarityGraph, SlowMode
from pairsift.theory.levels import Advice, Level, Levels, advise, difficult_examples, measure_levels

__all__ = [
    "Advice",
    "Level",
    "Levels",
    "SimilarityGraph",
    "SlowMode",
    "advise",
    "bounds",
    "difficult_examples",
    "edits",
    "measure_levels",
    "population",
]
