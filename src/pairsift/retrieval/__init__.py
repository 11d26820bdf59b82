"""Pairs that retrievers are trained on: what is wrong with them, and batches that keep apart what must not meet."""

from pairsift._base.extras import needs

with needs("scan", "pairsift.retrieval"):
    from pairsift.retrieval.config import PairsConfig
    from pairsift.retrieval.errors import PairsError
    from pairsift.retrieval.inspecting import inspect_pairs
    from pairsift.retrieval.result import InspectedPairs
    from pairsift.retrieval.sampler import DistinctBatchSampler

__all__ = ["DistinctBatchSampler", "InspectedPairs", "PairsConfig", "PairsError", "inspect_pairs"]
