"""Dataset-scale scan of embeddings: difficulty scores, bridging pairs, drop lists."""

from pairsift._base.extras import needs

with needs("scan", "pairsift.scanning"):
    from pairsift.scanning.config import ScanConfig, ScanError
    from pairsift.scanning.estimates import ClassEstimate, Histogram, estimate_classes
    from pairsift.scanning.reference import INDICATORS
    from pairsift.scanning.result import Scan
    from pairsift.scanning.scanning import scan

__all__ = [
    "INDICATORS", "ClassEstimate", "Histogram", "Scan", "ScanConfig", "ScanError", "estimate_classes", "scan",
]  # fmt: skip
