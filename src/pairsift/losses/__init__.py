"""Objectives: each is similarities + pairs + treatment -> scalar, one objective a file."""

from pairsift.losses.ntxent import NTXentLoss

__all__ = ["NTXentLoss"]
