"""`pairsift pairs`."""

from __future__ import annotations

import inspect
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from pairsift import retrieval
from pairsift._base.words import counted
from pairsift.cli.app import console, in_flags, notes
from pairsift.cli.options import CONFIG, given, options_of, parameter, with_parameters
from pairsift.cli.progress import progress
from pairsift.retrieval import PairsConfig

if TYPE_CHECKING:
    from pairsift.retrieval import InspectedPairs


def pairs(train: Path, config: Path | None, **flags: Any) -> None:
    """Find what hurts a retriever in its training pairs: duplicates, likely false negatives, bad mined negatives.

    Settings come from --config (YAML, the same names with underscores), then from flags.
    """
    values = given(flags)
    settings = PairsConfig.build(values) if config is None else PairsConfig.load(config, **values)
    if settings.output is None:
        raise typer.BadParameter("name the folder to write to", param_hint="'--output' / '-o'")
    start = time.perf_counter()
    with progress("reading") as tell:
        found = retrieval.inspect_pairs(
            train,
            settings,
            say=lambda line: notes.print(in_flags(line, "pairs"), soft_wrap=True),
            progress=lambda what, done, total: tell(done, total, what),
        )
    _tell(found)
    console.print(
        f"{counted(len(found), 'row')} in {time.perf_counter() - start:,.1f} s; {found.summary.clean_rows:,} in "
        f"clean.parquet: {settings.output / 'report.html'}", highlight=False, soft_wrap=True,
    )  # fmt: skip


def _tell(found: InspectedPairs) -> None:
    """Print the figures, the expected false negatives by batch size, and how to read them."""
    from pairsift.retrieval.findings import BATCHES
    from pairsift.retrieval.report import expectations, notes, numbers

    table = Table("found", "number", show_header=False)
    table.columns[1].justify = "right"
    for name, value in numbers(found.summary):
        table.add_row(name, value)
    console.print(table)
    expected = expectations(found.summary)
    if expected:
        table = Table("false negatives a row meets in a batch of", *(f"{batch:,}" for batch in BATCHES))
        for name, cells in expected:
            table.add_row(name, *cells)
        console.print(table)
    for line in notes(found.summary):
        console.print(f"- {in_flags(line, 'pairs')}", highlight=False, soft_wrap=True)


_TRAIN = typer.Argument(
    metavar="TRAIN",
    help="parquet, jsonl, csv, tsv or arrow, or a folder of parquet shards: anchor, positive and mined negatives, as "
    "texts or embeddings",
)
with_parameters(
    pairs,
    [
        parameter("train", Path, _TRAIN, default=inspect.Parameter.empty),
        CONFIG,
        *options_of(PairsConfig, named={"output": ("--output", "-o")}),
    ],
)
