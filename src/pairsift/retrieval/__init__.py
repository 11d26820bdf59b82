"""Training pairs of retrievers: their faults, and batches that keep conflicting texts apart."""

from pairsift._base.extras import needs

with needs("scan", "pairsift.retrieval"):
    from pairsift.retrieval.config import PairsConfig, PairsError
    from pairsift.retrieval.result import InspectedPairs, inspect_pairs
    from pairsift.retrieval.sampler import DistinctBatchSampler

__all__ = ["DistinctBatchSampler", "InspectedPairs", "PairsConfig", "PairsError", "inspect_pairs"]
