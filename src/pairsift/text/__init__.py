"""Texts and their edits: semantic negatives (CLINE, arXiv 2107.00440), and heads that learn from them."""

from pairsift.text.semantic import Change, SemanticViews, View, semantic_views
from pairsift.text.wordnet import WordNet

__all__ = ["Change", "SemanticViews", "View", "WordNet", "semantic_views"]
