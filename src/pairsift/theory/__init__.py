"""The theory of arXiv 2501.01317, executable and corrected: the similarity graph, its bounds, and measured levels."""

from pairsift.theory import bounds, edits, population
from pairsift.theory.advice import Advice, advise
from pairsift.theory.closed_form import SlowMode
from pairsift.theory.difficult import difficult_examples
from pairsift.theory.graph import SimilarityGraph
from pairsift.theory.levels import Level, Levels, measure_levels
from pairsift.theory.population import nystroem_features

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
    "nystroem_features",
    "population",
]
