"""How good features are: linear probes and nearest neighbours; how good a difficulty score is."""

from pairsift.evaluate.detection import Detection, detection
from pairsift.evaluate.knn import knn
from pairsift.evaluate.probe import ProbeResult, linear_probe, linear_probe_sgd

__all__ = ["Detection", "ProbeResult", "detection", "knn", "linear_probe", "linear_probe_sgd"]
