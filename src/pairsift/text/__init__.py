"""Texts and their edits: semantic negatives (CLINE, arXiv 2107.00440), and heads that learn from them."""

from pairsift.text.collator import SemanticCollator
from pairsift.text.heads import LearnedWeights, ReplacedTokenHead, ThreePartModel
from pairsift.text.semantic import Change, SemanticViews, View, semantic_views
from pairsift.text.wordnet import WordNet

__all__ = [
    "Change", "LearnedWeights", "ReplacedTokenHead", "SemanticCollator", "SemanticViews", "ThreePartModel", "View",
    "WordNet", "semantic_views",
]  # fmt: skip
