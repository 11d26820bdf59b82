"""Evaluation of features and scores: probes, nearest neighbours, detection and class collapse.

The modules are private, so that `pairsift.evaluate.collapse` is always the function. Each function imports the packages
that it needs when it is called.
"""

from pairsift.evaluate._collapse import Collapse, collapse
from pairsift.evaluate._measures import Detection, detection, semantic_hits, t_interval
from pairsift.evaluate._probes import ProbeResult, knn, linear_probe, linear_probe_sgd

__all__ = [
    "Collapse", "Detection", "ProbeResult", "collapse", "detection", "knn", "linear_probe", "linear_probe_sgd",
    "semantic_hits", "t_interval",
]  # fmt: skip
