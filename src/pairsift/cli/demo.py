"""`pairsift demo`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from pairsift._base.words import counted
from pairsift.cli.app import console, notes


def demo(
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the runs and the page")] = Path("runs/demo"),
    seeds: Annotated[int, typer.Option(help="number of seeds", min=1)] = 3,
    epochs: Annotated[int, typer.Option(help="epochs of each run", min=1)] = 5,
) -> None:
    """Compare plain and treated SimCLR on digits, find their difficult pairs, and write a page; a minute."""
    from pairsift.demo import METHODS, run_demo, summary, table

    start = time.perf_counter()
    runs = seeds * len(METHODS)
    notes.print(f"{runs} runs on handwritten digits, a fifth of them mixed with a digit of another class")
    report = run_demo(output, seeds=seeds, epochs=epochs, say=lambda line: notes.print(line))
    shown = Table(title=f"Digits, {counted(seeds, 'seed')}; gains over plain SimCLR in points")
    for i, title in enumerate(("method", "20-NN %", "gain", "linear %", "gain", "seconds")):
        shown.add_column(title, justify="right" if i else "left", no_wrap=True)
    for row in table(report):
        shown.add_row(*row)
    console.print(shown)
    for line in summary(report):
        console.print(line, highlight=False)
    seconds = time.perf_counter() - start
    console.print(f"{seconds:,.0f} s. Open {output / 'demo.html'}", highlight=False, soft_wrap=True)
