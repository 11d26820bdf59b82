"""How many rows a scan may learn from in the memory that it is given."""

from __future__ import annotations

from pairsift.data import FeatureSource
from pairsift.scanning.config import FEWEST_REFERENCE, ScanConfig
from pairsift.scanning.errors import ScanError
from pairsift.scanning.reference import BLOCK_ROWS, NEIGHBOURS

# Copies of the sample that fitting needs at once: itself, centred, unit, whitened, index; an affinity is fitted when
# three of them are gone. Copies of a guide's sample: itself, unit, index.
_COPIES, _GUIDE_COPIES = 5, 3


def reference_size(
    source: FeatureSource, config: ScanConfig, threads: int, whole: bool, guide: FeatureSource | None = None
) -> int:
    """Reference rows that the memory allows, or an error before anything is read.

    Args:
        source: the features.
        config: says how many rows are wanted and how much memory the scan may take. What the process holds already
            (libraries, a model, the features) is not the scan's: a notebook with a large encoder may scan, too.
        threads: scoring at once, each with blocks of its own.
        whole: every row is needed.
        guide: another encoder's features, or None.

    Raises:
        ScanError: too little memory, or fewer rows wanted than needed.
    """
    n, dimensions = source.shape
    wanted = min(n, config.reference)
    work = threads * BLOCK_ROWS * (8 * dimensions + 8 * NEIGHBOURS + 200) * 4 + 2 * dimensions**2 * 8 + 100 * n
    budget = config.memory * 1e9 - work
    row = 4 * (_COPIES * dimensions + (0 if guide is None else _GUIDE_COPIES * guide.shape[1]))
    rows = max(0, int(budget / row))
    if whole and wanted < n:
        raise ScanError(
            f"a graph needs all rows in the reference: set reference to at least {n:,}, got {config.reference:,}"
        )
    least = wanted if whole else min(wanted, FEWEST_REFERENCE)
    if rows < least:
        need = (work + least * row) / 1e9
        raise ScanError(
            f"a scan of {n:,} x {dimensions} features needs at least {need:.1f} GB, memory allows {config.memory:g}: "
            "raise it" + (", or lower threads" if threads > 1 else "")
        )
    return min(wanted, rows)
