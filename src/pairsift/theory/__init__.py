"""The theory of arXiv 2501.01317 with corrections: similarity graph, bounds, measured levels and class collapse."""

from pairsift.theory import bounds, edits, population
from pairsift.theory.collapse import collapse_temperature, collapse_threshold, ssem, within_class_share
from pairsift.theory.graph import SimilarityGraph, SlowMode
from pairsift.theory.levels import Advice, Level, Levels, advise, difficult_examples, measure_levels
from pairsift.theory.population import nystroem_features

__all__ = [
    "Advice", "Level", "Levels", "SimilarityGraph", "SlowMode", "advise", "bounds", "collapse_temperature",
    "collapse_threshold", "difficult_examples", "edits", "measure_levels", "nystroem_features", "population", "ssem",
    "within_class_share",
]  # fmt: skip
