"""Dataset-scale scan of embeddings: difficulty scores, bridging pairs, drop lists."""

from pairsift.curate.checks import ScanError
from pairsift.curate.classes import ClassEstimate, estimate_classes
from pairsift.curate.reference import SIGNS
from pairsift.curate.result import Histogram, Scan
from pairsift.curate.scanning import scan

__all__ = ["SIGNS", "ClassEstimate", "Histogram", "Scan", "ScanError", "estimate_classes", "scan"]
