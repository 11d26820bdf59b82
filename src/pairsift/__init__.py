"""pairsift: find and treat the pairs of examples that hurt contrastive learning (arXiv 2501.01317)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from pairsift import data, losses
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
from pairsift.treatments import Treatment

if TYPE_CHECKING:
    from pairsift import affinity, curate, evaluate, integrations, retrieval, text, theory, train
    from pairsift.affinity import Affinity, ConfidentNegatives
    from pairsift.curate import Scan, ScanConfig, scan
    from pairsift.train import TrainConfig, pretrain

__version__ = "0.1.0"
__all__ = [
    "Affinity", "ConfidentNegatives", "GivenPairs", "GuideMask", "RandomPairs", "RankBand", "Scan", "ScanConfig",
    "Selector", "TemporalWindow", "TrainConfig", "Treatment", "affinity", "curate", "data", "evaluate", "integrations",
    "losses", "pair_shares", "pretrain", "random_pairs", "retrieval", "scan", "select_pairs", "text", "text_keys",
    "theory", "train",
]  # fmt: skip

# Someone who wants the loss in a training loop of their own does not wait for Lightning and scikit-learn to import.
_LAZY = {
    "Affinity": "affinity", "ConfidentNegatives": "affinity", "Scan": "curate", "ScanConfig": "curate",
    "TrainConfig": "train", "affinity": "", "curate": "", "evaluate": "", "integrations": "", "pretrain": "train",
    "retrieval": "", "scan": "curate", "text": "", "theory": "", "train": "",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'pairsift' has no attribute {name!r}")
    module = importlib.import_module(f"pairsift.{_LAZY[name] or name}")
    return getattr(module, name) if _LAZY[name] else module
