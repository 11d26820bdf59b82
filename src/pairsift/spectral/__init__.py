"""The spectral contrastive loss solved in closed form, for embeddings, retrieval pairs and images."""

from pairsift._base.extras import needs

with needs("train", "pairsift.spectral"):
    from pairsift.spectral.choice import HeldOut, Ranking, Setting
    from pairsift.spectral.errors import SpectralError
    from pairsift.spectral.map import SpectralMap, UnitLinear

__all__ = ["HeldOut", "Ranking", "Setting", "SpectralError", "SpectralMap", "UnitLinear"]
