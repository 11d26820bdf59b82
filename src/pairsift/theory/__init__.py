"""The theory of arXiv 2501.01317, executable and corrected: the similarity graph, its bounds, and measured levels."""

from pairsift.theory import bounds, edits, population
from pairsift.theory.advice import Advice, advise
from pairsift.theory.chain import ChainGraph
from pairsift.theory.chain_estimate import ChainErrors, estimation_errors
from pairsift.theory.chain_families import BlockChain, BridgedChain, CycleChain, PathChain
from pairsift.theory.closed_form import SlowMode
from pairsift.theory.difficult import difficult_examples
from pairsift.theory.graph import SimilarityGraph
from pairsift.theory.levels import Level, Levels, measure_levels
from pairsift.theory.population import nystroem_features

__all__ = [
    "Advice",
    "BlockChain",
    "BridgedChain",
    "ChainErrors",
    "ChainGraph",
    "CycleChain",
    "Level",
    "Levels",
    "PathChain",
    "SimilarityGraph",
    "SlowMode",
    "advise",
    "bounds",
    "difficult_examples",
    "edits",
    "estimation_errors",
    "measure_levels",
    "nystroem_features",
    "population",
]
