"""`pairsift scan`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import Progress

from pairsift.cli.app import console, notes


def scan(
    features: Annotated[
        Path,
        typer.Argument(metavar="FEATURES", help="parquet, a folder of parquet shards, .npy or .npz, as embed writes"),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="folder to write to; a killed scan continues there")],
    images: Annotated[
        str | None, typer.Option(help="images of the rows, for the page: any DATA that train reads")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="column of classes, for levels by labels ('none' ignores them)")
    ] = None,
    n_classes: Annotated[int | None, typer.Option(help="rough number of classes (default: estimated)")] = None,
    drop: Annotated[float, typer.Option(help="share of the set that drop.csv lists")] = 0.08,
    pos_high: Annotated[
        float | None, typer.Option(help="band of the levels, upper edge (default: 1 / classes)")
    ] = None,
    pos_low: Annotated[float | None, typer.Option(help="band of the levels, lower edge (default: 2 / classes)")] = None,
    reference: Annotated[int, typer.Option(help="rows to learn from")] = 50_000,
    max_pairs: Annotated[int, typer.Option(help="bridging pairs to keep")] = 10_000,
    memory: Annotated[float, typer.Option(help="GB that the scan may take")] = 2.0,
    seed: Annotated[int, typer.Option(help="seed of the sample and the clusters", min=0)] = 0,
    threads: Annotated[int | None, typer.Option(help="CPU threads (default: all)", min=1)] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="leave out rows that are not finite")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="replace the scan in the output folder")] = False,
    engine: Annotated[Literal["local", "ray"], typer.Option(help="ray scores parquet by Ray Data")] = "local",
    address: Annotated[str | None, typer.Option(help="Ray cluster ('auto'); default: Ray on this machine")] = None,
) -> None:
    """Find difficult examples in embeddings, without labels: scores, bridging pairs, a drop list, a page to look at."""
    from pairsift import curate
    from pairsift.data import open_features, open_source
    from pairsift.evaluate import detection
    from pairsift.pairs import RankBand
    from pairsift.report import tables
    from pairsift.train import Interrupted

    if (pos_high is None) != (pos_low is None):
        raise ValueError("--pos-high and --pos-low make a band together: give both or neither")
    band = None if pos_high is None or pos_low is None else RankBand(pos_high, pos_low)
    source = open_features(features, labels)
    if images is not None:
        open_source(images)  # a wrong name is said before the scan, not after it
    start = time.perf_counter()
    try:
        with Progress(console=notes, transient=True) as bar:
            task = bar.add_task("scanning", total=source.shape[0])
            result = curate.scan(
                source, n_classes, band, reference=reference, max_pairs=max_pairs, memory=memory, seed=seed,
                threads=threads, skip_bad=skip_bad, out=output, fraction=drop, overwrite=overwrite, engine=engine,
                address=address, say=lambda line: notes.print(line, soft_wrap=True),
                progress=lambda done, _: bar.update(task, completed=done),
            )  # fmt: skip
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; the same command continues the scan in {output}") from None
    page = output / "report.html"
    result.report(page, images, fraction=drop)
    console.print(tables.levels_table(result.levels))
    for reason in result.advice.reasons:
        console.print(f"- {reason}", highlight=False, soft_wrap=True)
    if source.mixed is not None:
        console.print(
            f"AUROC against the planted mixes: {detection(result.scores, source.mixed).auroc:.3f}", highlight=False
        )
    console.print(
        f"{len(result):,} examples in {time.perf_counter() - start:,.1f} s; {len(result.drop(drop)):,} to drop, "
        f"{len(result.pairs):,} bridging pairs: {page}", highlight=False, soft_wrap=True,
    )  # fmt: skip
