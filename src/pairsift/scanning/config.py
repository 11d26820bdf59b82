"""The one description of a scan: every option of `pairsift scan` and every YAML key is a field of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator, model_validator

from pairsift._base.settings import Settings, setting
from pairsift.data.columns import NO_LABELS
from pairsift.pairs import RankBand

# Fewer rows give no clusters and scales to rely on.
FEWEST_REFERENCE = 1000
# Rows up to which a scan compares every row with every other: beyond, that would take longer than all the rest.
EXACT_ROWS = 25_000
# Nearest rows that a scan knows of every row.
MOST_WITHIN = 60


# Names of version 0.2.
_RENAMED = {
    "out": "output", "fraction": "drop_fraction", "memory": "memory_gb", "guide": "guide_features",
    "pos_high": "band_start", "pos_low": "band_stop",
}  # fmt: skip


class ScanError(ValueError):
    """A scan that cannot be done as asked; the message says why and names the remedy."""


class ScanConfig(Settings):
    """Settings of `pairsift.scan`.

    Raises:
        ScanError: unknown fields (the nearest known name is given) or bad values, each named.

    Example:
        >>> import pairsift as ps
        >>> config = ps.ScanConfig(n_classes=10, memory_gb=1.0)
        >>> config.n_classes, config.reference
        (10, 50000)
    """

    error = ScanError
    unsaved = frozenset({"overwrite"})

    n_classes: int | None = setting(None, "Scan", "rough number of classes, at least 2 (None: estimated)")
    reference: int = setting(
        50_000,
        "Scan",
        f"rows to learn from; sets up to {EXACT_ROWS:,} rows are searched exactly, larger ones by an inverted file",
    )
    max_pairs: int = setting(10_000, "Scan", "close pairs of different clusters to keep")
    within: int = setting(
        10, "Scan", f"such a pair is mutually among so many nearest rows, 1 to {MOST_WITHIN}", ge=1, le=MOST_WITHIN
    )
    seed: int = setting(0, "Scan", "seed of the sample and the clusters", ge=0)
    guide_features: Path | None = setting(
        None, "Scan", "another encoder's features of the same rows, to find out which pairs are of different classes"
    )

    split_column: str | None = setting(
        None, "Copies", "column that names the split of a row (train, test): copies across splits are leaks"
    )
    against: Path | None = setting(
        None, "Copies", "another set by the same encoder (a test set, say): its rows with a copy in this set are leaks"
    )

    column: str | None = setting(
        None, "Input", "column of the features, or the columns of their dimensions, as a pattern or with commas "
        "(None: found)",
    )  # fmt: skip
    id_column: str | None = setting(
        None, "Input", "column that names the rows in every output (None: 'id' where there is one)"
    )
    keep: tuple[str, ...] = setting((), "Input", "further columns to pass through to every output, with commas")
    skip_bad: bool = setting(
        False, "Input", "leave out rows that are missing or not finite (score nan) instead of refusing them"
    )

    label_column: str | None = setting(
        None, "Input", "column of the classes, for label errors and levels: the difficulty score never looks at them "
        "(None: the usual one where there is one)",
    )  # fmt: skip
    no_labels: bool = setting(False, "Input", "ignore labels")
    band_start: float | None = setting(None, "Levels", "band of the levels, upper edge (None: 1 / classes)")
    band_stop: float | None = setting(None, "Levels", "band of the levels, lower edge (None: 2 / classes)")

    memory_gb: float = setting(2.0, "Machine", "GB that the scan may take, beyond what the process holds already")
    threads: int | None = setting(None, "Machine", "CPU threads (None or 0: all)")
    engine: Literal["local", "ray"] = setting("local", "Machine", "ray scores parquet by Ray Data")
    address: str | None = setting(None, "Machine", "Ray cluster ('auto' finds one; None: Ray on this machine)")

    output: Path | None = setting(None, "Output", "folder to write to, part by part: a killed scan continues there")
    map: Literal["pca", "umap", "tsne"] = setting(
        "pca", "Output", "what places the rows on the page's map: principal components, UMAP or t-SNE (slower)"
    )
    drop_fraction: float = setting(0.08, "Output", "share of the set that drop.csv lists")
    overwrite: bool = setting(False, "Output", "replace the scan in the output folder")

    @field_validator("keep", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        """Names from the command line are one word with commas."""
        return tuple(name.strip() for name in value.split(",")) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> ScanConfig:
        if self.reference < FEWEST_REFERENCE:
            raise ValueError(
                f"reference must be at least {FEWEST_REFERENCE:,} rows, got {self.reference}: clusters and scales come "
                "from it"
            )
        if self.max_pairs < 1 or (self.threads or 0) < 0:
            raise ValueError(f"max_pairs and threads must be positive, got {self.max_pairs} and {self.threads}")
        if not self.memory_gb > 0:
            raise ValueError(f"memory_gb must be positive, got {self.memory_gb}")
        if not 0 <= self.drop_fraction < 1:
            raise ValueError(f"drop_fraction must lie in [0, 1), got {self.drop_fraction}")
        if self.no_labels and self.label_column not in (None, NO_LABELS):
            raise ValueError(f"`no_labels` ignores labels: leave out `label_column={self.label_column!r}`")
        if (self.band_start is None) != (self.band_stop is None):
            raise ValueError(
                f"`band_start` and `band_stop` make a band together: give both or neither, got {self.band_start} and "
                f"{self.band_stop}"
            )
        self.band()
        return self

    @classmethod
    def hint(cls, name: str) -> str | None:
        """For a name that is no field, the field that may have been meant."""
        if name in _RENAMED:
            return f"it is {_RENAMED[name]!r} since 0.3"
        return super().hint(name)

    def labels_from(self) -> str | None:
        """The `label_column` that readers of `pairsift.data` take."""
        return NO_LABELS if self.no_labels else self.label_column

    def band(self) -> RankBand | None:
        """The rank band that the levels are measured with; None for 1 to 2 times 1 / classes."""
        return None if self.band_start is None or self.band_stop is None else RankBand(self.band_start, self.band_stop)

    def with_keywords(self, keywords: dict[str, Any], band: RankBand | None = None) -> ScanConfig:
        """The configuration with some fields set anew.

        Raises:
            TypeError: a keyword is no field, or the band no band.
        """
        if band is not None:
            if not isinstance(band, RankBand):
                raise TypeError(f"band must be a RankBand, got {type(band).__name__}")
            keywords = {"band_start": band.start, "band_stop": band.stop} | keywords
        return self.updated("scan", keywords)
