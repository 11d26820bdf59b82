"""The one description of an inspection: every option of `pairsift pairs` and every YAML key is a field of it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from pairsift._base.settings import Settings, setting
from pairsift.retrieval.errors import PairsError


class PairsConfig(Settings):
    """Settings of `pairsift.retrieval.inspect_pairs`.

    Raises:
        PairsError: unknown fields (the nearest known name is given) or bad values, each named.

    Example:
        >>> import pairsift as ps
        >>> config = ps.retrieval.PairsConfig(guide="minilm", margin=0.05)
        >>> config.margin, config.cap
        (0.05, 0.1)
    """

    error = PairsError
    unsaved = frozenset({"overwrite"})

    anchor: str | None = setting(None, "Columns", "column of anchors (None: the usual one)")
    positive: str | None = setting(None, "Columns", "column of positives (None: the usual one)")
    negatives: str | None = setting(
        None, "Columns", "columns of mined negatives, commas between (None: the usual ones; 'none' for none)"
    )

    guide: str | None = setting(
        None, "Guide", "encoder that judges texts: 'minilm' (packaged), a sentence-transformers name or folder, or a "
        "file of features (None: embeddings judge themselves, texts are compared as texts only)",
    )  # fmt: skip
    margin: float | None = setting(
        None, "Guide", "how far below its own positive a candidate may be, as a part of that similarity (None: the "
        "spread of known positives)",
    )  # fmt: skip
    floor: float | None = setting(
        None, "Guide", "similarity below which nothing is a false negative (None: the 90th percentile of known "
        "positives; -1: none)",
    )  # fmt: skip
    cap: float = setting(
        0.1, "Guide", "share of the candidates that may be ranked above a known positive before the guide is not "
        "believed for its row",
    )  # fmt: skip
    near: float | None = setting(
        None, "Guide", "similarity from which two texts are near-duplicates (None: from the distances of neighbours)"
    )
    neighbours: int = setting(50, "Guide", "most similar candidates of a row that are looked at one by one")
    sample: int = setting(2048, "Guide", "rows that rates are measured on, against all candidates")
    seed: int = setting(0, "Guide", "seed of samples and search", ge=0)

    drop_near: bool = setting(False, "Clean", "leave near-duplicate rows out of clean.parquet, not only duplicates")
    bad_negatives: Literal["null", "drop"] = setting(
        "null", "Clean", "what becomes of mined negatives that look like positives: null keeps the row without them, "
        "drop leaves the row out",
    )  # fmt: skip

    threads: int | None = setting(None, "Machine", "CPU threads (None or 0: all)")

    out: Path | None = setting(None, "Output", "folder to write to")
    examples: int = setting(30, "Output", "of each kind on the page")
    max_conflicts: int = setting(10_000_000, "Output", "pairs of conflicts.parquet; the most similar are kept")
    overwrite: bool = setting(False, "Output", "replace the inspection in the output folder")

    @model_validator(mode="after")
    def _consistent(self) -> PairsConfig:
        for name in ("margin", "floor", "near"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise ValueError(f"{name} must be a finite number, got {value}")
        if self.near is not None and not -1 <= self.near <= 1:
            raise ValueError(f"near must lie in [-1, 1], got {self.near}: it is a cosine")
        if not 0 < self.cap <= 1:
            raise ValueError(f"cap must lie in (0, 1], got {self.cap}: it is a share of the candidates")
        for name, least in (("neighbours", 1), ("sample", 2), ("examples", 0), ("max_conflicts", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if (self.threads or 0) < 0:
            raise ValueError(f"threads must be positive, got {self.threads}")
        return self

    def with_keywords(self, keywords: dict[str, Any]) -> PairsConfig:
        """The configuration with some fields set anew.

        Raises:
            TypeError: a keyword is no field.
        """
        for name in keywords:
            hint = self.hint(name)
            if hint is not None:
                raise TypeError(f"inspect_pairs() got an unexpected keyword argument {name!r}: {hint}")
        return self if not keywords else PairsConfig(**self.model_dump() | keywords)
