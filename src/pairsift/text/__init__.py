"""Semantic negatives: texts with words replaced so that their meaning stays, or turns (CLINE, arXiv 2107.00440)."""

from pairsift._base.extras import needs

with needs("text", "pairsift.text"):
    from pairsift.text.semantic import (
        Change,
        SemanticViews,
        View,
        ViewSummary,
        read_texts,
        semantic_views,
        write_views,
    )
    from pairsift.text.wordnet import WordNet

__all__ = [
    "Change", "SemanticViews", "View", "ViewSummary", "WordNet", "read_texts", "semantic_views", "write_views",
]  # fmt: skip
