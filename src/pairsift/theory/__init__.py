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

__all__ = [
    "Advice",
    "ChainErrors",
    "ChainGraph",
    "Level",
    "Levels",
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
_CHAINS = ("ChainErrors", "ChainGraph", "estimation_errors")


def __getattr__(name: str) -> Any:
    if name in _CHAINS:
        with needs("theory", f"pairsift.theory.{name}"):
            return getattr(importlib.import_module(f"{__name__}.chain"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
