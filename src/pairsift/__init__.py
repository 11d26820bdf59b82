"""pairsift: find and treat the pairs of examples that hurt contrastive learning (arXiv 2501.01317)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pairsift._base.version import __version__

if TYPE_CHECKING:
    from pairsift import (
        data,
        evaluate,
        integrations,
        losses,
        retrieval,
        same_class,
        scanning,
        spectral,
        temporal,
        text,
        theory,
        train,
    )
    from pairsift.pairs import (
        GivenPairs,
        GuideMask,
        RandomPairs,
        RankBand,
        Selector,
        SelfMask,
        pair_shares,
        random_pairs,
        select_pairs,
        text_keys,
    )
    from pairsift.same_class import Affinity, ConfidentNegatives
    from pairsift.scanning import Scan, ScanConfig, scan
    from pairsift.spectral import SpectralMap
    from pairsift.temporal import TemporalWindow
    from pairsift.train import TrainConfig, pretrain
    from pairsift.treatments import Treatment

__all__ = [
    "Affinity",
    "ConfidentNegatives",
    "GivenPairs",
    "GuideMask",
    "RandomPairs",
    "RankBand",
    "Scan",
    "ScanConfig",
    "Selector",
    "SelfMask",
    "SpectralMap",
    "TemporalWindow",
    "TrainConfig",
    "Treatment",
    "__version__",
    "data",
    "evaluate",
    "integrations",
    "losses",
    "pair_shares",
    "pretrain",
    "random_pairs",
    "retrieval",
    "same_class",
    "scan",
    "scanning",
    "select_pairs",
    "spectral",
    "temporal",
    "text",
    "text_keys",
    "theory",
    "train",
]  # fmt: skip

# A name is loaded where it is first used: the command line's help does not wait for PyTorch, nor a loss in somebody's
# training loop for Lightning, and what is not used need not be installed.
_ROOMS = (
    "data", "evaluate", "integrations", "losses", "pairs", "retrieval", "same_class", "scanning", "spectral",
    "temporal", "text", "theory", "train", "treatments",
)  # fmt: skip
_HOMES = {
    "Affinity": "same_class", "ConfidentNegatives": "same_class", "GivenPairs": "pairs", "GuideMask": "pairs",
    "RandomPairs": "pairs", "RankBand": "pairs", "Scan": "scanning", "ScanConfig": "scanning", "Selector": "pairs",
    "SelfMask": "pairs", "SpectralMap": "spectral", "TemporalWindow": "temporal",
    "TrainConfig": "train", "Treatment": "treatments", "pair_shares": "pairs",
    "pretrain": "train", "random_pairs": "pairs", "scan": "scanning", "select_pairs": "pairs", "text_keys": "pairs",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"pairsift.{name}")
    if name in _HOMES:
        value = globals()[name] = getattr(importlib.import_module(f"pairsift.{_HOMES[name]}"), name)
        return value
    raise AttributeError(f"module 'pairsift' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
