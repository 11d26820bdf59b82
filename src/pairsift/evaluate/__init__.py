"""How good features are: linear probes and nearest neighbours."""

from pairsift.evaluate.knn import knn
from pairsift.evaluate.probe import ProbeResult, linear_probe, linear_probe_sgd

__all__ = ["ProbeResult", "knn", "linear_probe", "linear_probe_sgd"]
