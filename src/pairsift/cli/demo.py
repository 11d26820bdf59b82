"""`pairsift demo`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from pairsift.cli.app import console, notes


def demo(
    run_dir: Annotated[Path, typer.Option("--run-dir", "-o", help="where the runs are written")] = Path("runs/demo"),
    seeds: Annotated[int, typer.Option(help="number of seeds", min=1)] = 3,
    epochs: Annotated[int, typer.Option(help="epochs of each run", min=1)] = 30,
) -> None:
    """Plain SimCLR and the combined treatment on digits, a fifth of them mixed: a table, a scan; some minutes."""
    from pairsift.cli.demo_runs import run_demo, table, verdict

    start = time.perf_counter()
    report = run_demo(run_dir, seeds=seeds, epochs=epochs, say=lambda line: notes.print(line))
    console.print(table(report))
    console.print(verdict(report), highlight=False)
    console.print(f"{time.perf_counter() - start:,.0f} s; runs, metrics and encoders: {run_dir}", highlight=False)
    console.print(
        f"what the scan found, to look at: {run_dir / 'none-seed0' / 'scan' / 'report.html'}", highlight=False
    )
