"""The losses: each selects pairs, treats their logits, and returns a scalar."""

from pairsift.losses import baselines
from pairsift.losses.engine import Engine
from pairsift.losses.labelled import LabelledNTXentLoss
from pairsift.losses.mixed import MixedContrastiveLoss
from pairsift.losses.moco import MoCoLoss
from pairsift.losses.ntxent import NTXentLoss
from pairsift.losses.semantic import SemanticNegativeLoss
from pairsift.losses.spectral import SpectralLoss
from pairsift.losses.two_tower import TwoTowerLoss

__all__ = [
    "Engine", "LabelledNTXentLoss", "MixedContrastiveLoss", "MoCoLoss", "NTXentLoss", "SemanticNegativeLoss",
    "SpectralLoss", "TwoTowerLoss", "baselines",
]  # fmt: skip
