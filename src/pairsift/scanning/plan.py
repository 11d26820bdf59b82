"""What a scan will do, once everything that can be refused has been."""

from __future__ import annotations

import importlib.metadata
import os
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pairsift._base.version import __version__
from pairsift.data import FeatureSource
from pairsift.scanning.arguments import Checked, Guide, check_arguments, check_features, check_guide, open_guide
from pairsift.scanning.config import ScanConfig
from pairsift.scanning.folder import check_folder, parts_folder
from pairsift.scanning.memory import reference_size
from pairsift.scanning.reference import Graph


@dataclass(frozen=True)
class Plan:
    """A scan that may start.

    Attributes:
        source: the features.
        config: the settings.
        graph: neighbours of the user's own, or None.
        threads: CPU threads.
        checked: what one pass over the features found.
        guide: another encoder's features of the same rows, or None.
        size: reference rows that the memory allows.
        identity: everything that decides the scores: a stopped scan continues only where it is the same.
        parts: folder of part files; None without an output folder.
    """

    source: FeatureSource
    config: ScanConfig
    graph: Graph | None
    threads: int
    checked: Checked
    guide: Guide | None
    size: int
    identity: dict[str, Any]
    parts: Path | None

    @property
    def good(self) -> int:
        """Rows that are not skipped."""
        return self.source.shape[0] - len(self.checked.bad)


def prepare(
    source: FeatureSource, config: ScanConfig, graph: tuple[NDArray[Any], NDArray[Any]] | None,
    say: Callable[[str], None],
) -> Plan:  # fmt: skip
    """Check the arguments, the memory, the folder and then, in one pass, every row.

    Raises:
        ScanError, DataError: see `pairsift.scan`.
    """
    arrays = None if graph is None else (np.asarray(graph[0]), np.asarray(graph[1]))
    threads = config.threads or os.cpu_count() or 1
    check_arguments(source, config, arrays)
    opened = None if config.guide is None else open_guide(config.guide, source)
    size = reference_size(source, config, threads, whole=graph is not None, guide=opened)
    if config.out is not None:
        check_folder(config.out, config.overwrite)
    checked = check_features(source, config.skip_bad, say)
    guide = None if opened is None else check_guide(opened, checked)
    identity = _identity(source, config, arrays, checked, size)
    identity["guide"] = None if guide is None else [guide.source.name, guide.checksum]
    parts = None if config.out is None else parts_folder(config.out, identity)
    known = None
    if arrays is not None:
        known = Graph(np.asarray(arrays[0], np.int64), np.asarray(arrays[1], np.float32))
    return Plan(source, config, known, threads, checked, guide, size, identity, parts)


def _identity(
    source: FeatureSource, config: ScanConfig, graph: tuple[NDArray[Any], NDArray[Any]] | None, checked: Checked,
    size: int,
) -> dict[str, Any]:  # fmt: skip
    (n, dimensions), band = source.shape, config.band()
    return {
        "features": source.name, "n": n, "dimensions": dimensions, "checksum": checked.checksum,
        "n_classes": config.n_classes, "band": None if band is None else asdict(band),
        "graph": None if graph is None else [zlib.crc32(each.tobytes()) for each in graph],
        "reference": min(size, n - len(checked.bad)), "max_pairs": config.max_pairs, "seed": config.seed,
        "skip_bad": config.skip_bad, "pairsift": __version__,
        "faiss": importlib.metadata.version("faiss-cpu"), "numpy": np.__version__,
    }  # fmt: skip
