"""`InspectedPairs`: what an inspection found, and how it is saved."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pairsift._base.files import write_json
from pairsift.data.tables import write_table
from pairsift.retrieval.clean import Cleaning
from pairsift.retrieval.examples import Gallery
from pairsift.retrieval.page import Distributions, pairs_page

# What a finished inspection consists of; pairs.json is last.
FILES = ("rows.parquet", "conflicts.parquet", "clean.parquet", "report.html", "pairs.json")


@dataclass(frozen=True)
class InspectedPairs:
    """What is wrong with N pairs.

    Attributes:
        facts: every figure, with settings and versions, as pairs.json has them.
        rows: a table of the N input rows: `kept` and `clean_row` (whether and where in clean.parquet), `reasons`
            (words), `anchor_key` and `positive_key` (equal where texts are), `duplicate_of`, `near_duplicate_of`;

            - with mined negatives `bad_negatives` (number), `negative_keys` (of the others);
            - with a guide `similarity` (of anchor and positive), `rank` (share of the candidates above the positive),
              `reliable`, `false_negatives` (texts found), `worst_row`, `worst_similarity` (of the most similar one).
        conflicts: pairs of kept rows that must not share a batch beside those that hold the same text: `row`, `other`,
            `clean_row`, `clean_other`, `similarity`, `reason`. Each stands for its text: `key` and `other_key`, which
            other rows may hold too (`DistinctBatchSampler` knows).
        galleries: the worst of each kind.
        distributions: similarities to draw; None without a guide.
        cleaning: writes clean.parquet.
    """

    facts: dict[str, Any]
    rows: pa.Table
    conflicts: pa.Table
    galleries: list[Gallery]
    distributions: Distributions | None
    cleaning: Cleaning

    def __len__(self) -> int:
        return len(self.rows)

    def save(self, folder: Path | str) -> None:
        """Write rows.parquet, conflicts.parquet, clean.parquet, report.html and pairs.json, each whole or not at all.

        Args:
            folder: made where missing; files of an earlier inspection in it are replaced.

        Raises:
            OSError: not writable.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pairs.json").unlink(missing_ok=True)
        for name, table in (("rows", self.rows), ("conflicts", self.conflicts)):
            write_table(folder / f"{name}.parquet", table)
        self.clean(folder / "clean.parquet")
        self.report(folder / "report.html")
        write_json(folder / "pairs.json", self.facts)

    def clean(self, path: Path | str) -> int:
        """Write the input without what is left out; how many rows that is.

        Raises:
            OSError: not writable.
        """
        return self.cleaning.write(Path(path))

    def report(self, path: Path | str) -> None:
        """Write the page: one file to look at, without network.

        Raises:
            OSError: not writable.
        """
        pairs_page(Path(path), self.facts, self.galleries, self.distributions)
