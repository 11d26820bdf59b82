"""`pairsift scan`."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import Progress

from pairsift import scanning
from pairsift._base.process import Interrupted
from pairsift.cli.app import console, in_flags, notes
from pairsift.cli.options import CONFIG, given, options_of, parameter, with_parameters
from pairsift.scanning import ScanConfig

if TYPE_CHECKING:
    from pairsift.data import FeatureSource
    from pairsift.scanning import Scan


def scan(features: Path, config: Path | None, images: str | None, **flags: Any) -> None:
    """Find difficult examples in embeddings, without labels: scores, bridging pairs, a drop list, a page to look at.

    Settings come from --config (YAML, the same names with underscores), then from flags. A killed scan continues where
    the same command is given again.
    """
    from pairsift.data import open_features, open_source

    values = given(flags)
    settings = ScanConfig.build(values) if config is None else ScanConfig.load(config, **values)
    if settings.out is None:
        raise typer.BadParameter("name the folder to write to", param_hint="'--out' / '-o'")
    source = open_features(features, settings.label_column)
    if images is not None:
        open_source(images)  # a wrong name is said before the scan, not after it
    start = time.perf_counter()
    page = settings.out / "report.html"
    result = _run(source, settings, lambda scan: scan.report(page, images, fraction=settings.fraction))
    _tell(result, source, settings)
    console.print(
        f"{len(result):,} examples in {time.perf_counter() - start:,.1f} s; {len(result.drop(settings.fraction)):,} to "
        f"drop, {len(result.pairs):,} bridging pairs: {page}", highlight=False, soft_wrap=True,
    )  # fmt: skip


def _run(source: FeatureSource, settings: ScanConfig, then: Callable[[Scan], None]) -> Scan:
    """The scan, with a bar; stopped, it says how it continues."""
    try:
        with Progress(console=notes, transient=True) as bar:
            task = bar.add_task("scanning", total=source.shape[0])
            return scanning.scan(
                source,
                settings,
                say=lambda line: notes.print(in_flags(line, "scan"), soft_wrap=True),
                progress=lambda done, _: bar.update(task, completed=done),
                then=then,
            )
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; the same command continues the scan in {settings.out}") from None


def _tell(result: Scan, source: FeatureSource, settings: ScanConfig) -> None:
    """Levels, advice, and how well planted mixes were found where there are any."""
    from pairsift.cli.theory import levels_table
    from pairsift.evaluate import detection

    console.print(levels_table(result.levels))
    for reason in result.advice.reasons:
        console.print(f"- {reason}", highlight=False, soft_wrap=True)
    if source.mixed is not None:
        auroc = detection(result.scores, source.mixed).auroc
        console.print(f"AUROC against the planted mixes: {auroc:.3f}", highlight=False)


_FEATURES = typer.Argument(
    metavar="FEATURES", help="parquet, a folder of parquet shards, .npy or .npz, as embed writes"
)
_IMAGES = typer.Option("--images", help="images of the rows, for the page: any DATA that train reads")
with_parameters(
    scan,
    [
        parameter("features", Path, _FEATURES, default=inspect.Parameter.empty),
        CONFIG,
        parameter("images", str | None, _IMAGES),
        *options_of(
            ScanConfig,
            also={"label_column": ("--labels",), "fraction": ("--drop",), "out": ("--output", "-o")},
        ),
    ],
)
