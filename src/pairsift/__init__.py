"""pairsift: find and treat the pairs of examples that hurt contrastive learning (arXiv 2501.01317)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pairsift import affinity, curate, data, evaluate, integrations, losses, retrieval, text, theory, train
    from pairsift.affinity import Affinity, ConfidentNegatives
    from pairsift.curate import Scan, ScanConfig, scan
    from pairsift.pairs import (
        GivenPairs,
        GuideMask,
        RandomPairs,
        RankBand,
        Selector,
        TemporalWindow,
        pair_shares,
        random_pairs,
        select_pairs,
        text_keys,
    )
    from pairsift.train import TrainConfig, pretrain
    from pairsift.treatments import Treatment

__version__ = "0.2.0"
__all__ = [
    "Affinity", "ConfidentNegatives", "GivenPairs", "GuideMask", "RandomPairs", "RankBand", "Scan", "ScanConfig",
    "Selector", "TemporalWindow", "TrainConfig", "Treatment", "affinity", "curate", "data", "evaluate", "integrations",
    "losses", "pair_shares", "pretrain", "random_pairs", "retrieval", "scan", "select_pairs", "text", "text_keys",
    "theory", "train",
]  # fmt: skip

# A name is loaded where it is first used: the command line's help does not wait for PyTorch, nor a loss in somebody's
# training loop for Lightning, and what is not used need not be installed.
_ROOMS = (
    "affinity", "curate", "data", "evaluate", "integrations", "losses", "pairs", "retrieval", "text", "theory", "train",
    "treatments",
)  # fmt: skip
_HOMES = {
    "Affinity": "affinity", "ConfidentNegatives": "affinity", "GivenPairs": "pairs", "GuideMask": "pairs",
    "RandomPairs": "pairs", "RankBand": "pairs", "Scan": "curate", "ScanConfig": "curate", "Selector": "pairs",
    "TemporalWindow": "pairs", "TrainConfig": "train", "Treatment": "treatments", "pair_shares": "pairs",
    "pretrain": "train", "random_pairs": "pairs", "scan": "curate", "select_pairs": "pairs", "text_keys": "pairs",
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
