"""How good features are: linear probes and nearest neighbours; how good a difficulty score is;
whether classes have collapsed.

Its modules are private: `pairsift.evaluate.knn` is always the function.
"""

from pairsift._base.extras import needs

with needs("train", "pairsift.evaluate"):
    from pairsift.evaluate._collapse import Collapse, collapse
    from pairsift.evaluate._detection import Detection, detection
    from pairsift.evaluate._hits import semantic_hits
    from pairsift.evaluate._intervals import t_interval
    from pairsift.evaluate._knn import knn
    from pairsift.evaluate._probe import ProbeResult, linear_probe, linear_probe_sgd

__all__ = [
    "Collapse", "Detection", "ProbeResult", "collapse", "detection", "knn", "linear_probe", "linear_probe_sgd",
    "semantic_hits", "t_interval",
]  # fmt: skip
