"""Objectives: each is similarities + pairs + treatment -> scalar, one objective a file."""

from pairsift.losses.ntxent import NTXentLoss
from pairsift.losses.spectral import SpectralLoss

__all__ = ["NTXentLoss", "SpectralLoss"]
