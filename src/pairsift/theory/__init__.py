"""The corrected theory of arXiv 2501.01317 as code: the similarity graph, its bounds, and measured levels."""

import importlib
from typing import TYPE_CHECKING, Any

from pairsift._base.extras import needs
from pairsift.theory import bounds, edits, population
from pairsift.theory.collapse import collapse_temperature, collapse_threshold, ssem, within_class_share
from pairsift.theory.graph import SimilarityGraph, SlowMode
from pairsift.theory.levels import Advice, Level, Levels, advise, difficult_examples, measure_levels
from pairsift.theory.population import nystroem_features

if TYPE_CHECKING:
    from pairsift.theory.chain import ChainErrors, ChainGraph, estimation_errors
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

# Chains need scipy, and the similarity graph does not: these names are imported on first use.
_CHAINS = {
    "BlockChain": "chain_families", "BridgedChain": "chain_families", "ChainErrors": "chain",
    "ChainGraph": "chain", "CycleChain": "chain_families", "PathChain": "chain_families",
    "estimation_errors": "chain",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _CHAINS:
        with needs("theory", f"pairsift.theory.{name}"):
            return getattr(importlib.import_module(f"{__name__}.{_CHAINS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
