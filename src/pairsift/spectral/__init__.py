"""The spectral contrastive loss solved in closed form, for embeddings, retrieval pairs and images."""

from pairsift._base.extras import needs

with needs("train", "pairsift.spectral"):
    from pairsift.spectral.choice import HeldOut, Ranking, Setting
    from pairsift.spectral.errors import SpectralError
    from pairsift.spectral.map import SpectralMap
    from pairsift.spectral.modules import UnitLinear
    from pairsift.spectral.patches import PatchEncoder

__all__ = ["HeldOut", "PatchEncoder", "Ranking", "Setting", "SpectralError", "SpectralMap", "UnitLinear"]
