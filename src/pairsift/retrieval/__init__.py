"""Pairs that retrievers are trained on: what is wrong with them, and batches that keep apart what must not meet."""

from pairsift.retrieval.config import PairsConfig
from pairsift.retrieval.errors import PairsError

__all__ = ["PairsConfig", "PairsError"]
