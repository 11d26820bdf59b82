"""Dataset-scale scan of embeddings: difficulty scores, bridging pairs, drop lists."""

from pairsift.extras import needs

with needs("scan", "pairsift.curate"):
    from pairsift.curate.classes import ClassEstimate, estimate_classes
    from pairsift.curate.config import ScanConfig
    from pairsift.curate.errors import ScanError
    from pairsift.curate.reference import INDICATORS, SIGNS
    from pairsift.curate.result import Histogram, Scan
    from pairsift.curate.scanning import scan

__all__ = [
    "INDICATORS", "SIGNS", "ClassEstimate", "Histogram", "Scan", "ScanConfig", "ScanError", "estimate_classes", "scan",
]  # fmt: skip
