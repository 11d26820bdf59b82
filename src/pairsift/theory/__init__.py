"""The theory of arXiv 2501.01317, executable and corrected: the similarity graph, its bounds, and measured levels."""

import importlib
from typing import TYPE_CHECKING, Any

from pairsift._base.extras import needs
from pairsift.theory import bounds, edits, population
from pairsift.theory.advice import Advice, advise
from pairsift.theory.closed_form import SlowMode
from pairsift.theory.collapse import collapse_temperature, collapse_threshold, ssem, within_class_share
from pairsift.theory.difficult import difficult_examples
from pairsift.theory.graph import SimilarityGraph
from pairsift.theory.levels import Level, Levels, measure_levels
from pairsift.theory.population import nystroem_features

if TYPE_CHECKING:
    from pairsift.theory.chain import ChainGraph
    from pairsift.theory.chain_estimate import ChainErrors, estimation_errors
    from pairsift.theory.chain_families import BlockChain, BridgedChain, CycleChain, PathChain

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
    "collapse_temperature",
    "collapse_threshold",
    "difficult_examples",
    "edits",
    "estimation_errors",
    "measure_levels",
    "nystroem_features",
    "population",
    "ssem",
    "within_class_share",
]

# Chains are sparse matrices of scipy's, which the graph of levels does without.
_CHAINS = {
    "BlockChain": "chain_families", "BridgedChain": "chain_families", "ChainErrors": "chain_estimate",
    "ChainGraph": "chain", "CycleChain": "chain_families", "PathChain": "chain_families",
    "estimation_errors": "chain_estimate",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _CHAINS:
        with needs("theory", f"pairsift.theory.{name}"):
            return getattr(importlib.import_module(f"{__name__}.{_CHAINS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
