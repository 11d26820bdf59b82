"""Texts and their edits: semantic negatives (CLINE, arXiv 2107.00440), and heads that learn from them."""

from pairsift._base.extras import needs

with needs("text", "pairsift.text"):
    from pairsift.text.collator import SemanticCollator
    from pairsift.text.files import ViewSummary, read_texts, write_views
    from pairsift.text.heads import LearnedWeights, ReplacedTokenHead, ThreePartModel
    from pairsift.text.semantic import Change, SemanticViews, View, semantic_views
    from pairsift.text.wordnet import WordNet

__all__ = [
    "Change", "LearnedWeights", "ReplacedTokenHead", "SemanticCollator", "SemanticViews", "ThreePartModel", "View",
    "ViewSummary", "WordNet", "read_texts", "semantic_views", "write_views",
]  # fmt: skip
