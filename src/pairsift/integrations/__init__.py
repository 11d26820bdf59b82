"""Treated losses in the training loops of other libraries. Import a module where its library is used.

`HookedLoss` and `FeatureHook` (any PyTorch loop, lightly), `lightning.TreatPairs`, `metric_learning.NTXentLoss`,
`sentence_transformers.TreatedRankingLoss`, `sentence_transformers.SemanticRankingLoss`, `solo_learn.simclr_loss_func`.
"""

from pairsift.integrations.hooks import FeatureHook, HookedLoss

__all__ = ["FeatureHook", "HookedLoss"]
