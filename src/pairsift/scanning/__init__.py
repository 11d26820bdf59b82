"""Dataset-scale scan of embeddings: difficulty scores, bridging pairs, drop lists."""

from pairsift._base.extras import needs

with needs("scan", "pairsift.scanning"):
    from pairsift.scanning.classes import ClassEstimate, estimate_classes
    from pairsift.scanning.config import ScanConfig
    from pairsift.scanning.errors import ScanError
    from pairsift.scanning.reference import INDICATORS, SIGNS
    from pairsift.scanning.result import Histogram, Scan
    from pairsift.scanning.scanning import scan

__all__ = [
    "INDICATORS", "SIGNS", "ClassEstimate", "Histogram", "Scan", "ScanConfig", "ScanError", "estimate_classes", "scan",
]  # fmt: skip
