"""Texts with replaced words as semantic negatives (CLINE, arXiv 2107.00440), and models that learn from them."""

from pairsift._base.extras import needs

with needs("text", "pairsift.text"):
    from pairsift.text.heads import LearnedWeights, ReplacedTokenHead, SemanticCollator, ThreePartModel
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
    "Change", "LearnedWeights", "ReplacedTokenHead", "SemanticCollator", "SemanticViews", "ThreePartModel", "View",
    "ViewSummary", "WordNet", "read_texts", "semantic_views", "write_views",
]  # fmt: skip
