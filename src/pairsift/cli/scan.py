"""`pairsift scan`."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pairsift import scanning
from pairsift._base.process import Interrupted
from pairsift._base.words import counted
from pairsift.cli.app import console, in_flags, notes
from pairsift.cli.options import CONFIG, given, options_of, parameter, with_parameters
from pairsift.cli.progress import progress
from pairsift.scanning import ScanConfig

if TYPE_CHECKING:
    from pairsift.data import FeatureSource
    from pairsift.scanning import Scan


def scan(features: str, config: Path | None, images: str | None, **flags: Any) -> None:
    """Find difficult examples in embeddings, without labels: scores, close pairs of different clusters, a list to
    drop, a page to look at.

    Settings come from --config (YAML, the same names with underscores), then from flags. A killed scan continues when
    the same command is given again.
    """
    from pairsift.data import open_features
    from pairsift.scanning.thumbnails import open_images

    values = given(flags)
    settings = ScanConfig.build(values) if config is None else ScanConfig.load(config, **values)
    if settings.output is None:
        raise typer.BadParameter("name the folder to write to", param_hint="'--output' / '-o'")
    source = open_features(features, settings.labels_from(), settings.column)
    if images is not None:
        open_images(images, source.rows, source.paths)  # images that do not fit are refused before the scan
    start = time.perf_counter()
    page, fraction = settings.output / "report.html", settings.drop_fraction
    result = _run(source, settings, lambda scan: scan.report(page, images, fraction=fraction))
    console.print(
        f"{len(result):,} examples in {time.perf_counter() - start:,.1f} s; {len(result.drop(fraction)):,} to "
        f"drop, {_close_pairs(len(result.pairs))}: {page}", highlight=False, soft_wrap=True,
    )  # fmt: skip
    _print_findings(result, source)


def _close_pairs(number: int) -> str:
    return counted(number, "close pair of different clusters", "close pairs of different clusters")


def _run(source: FeatureSource, settings: ScanConfig, then: Callable[[Scan], None]) -> Scan:
    """The scan, with a bar; stopped, it says how it continues."""
    try:
        with progress("scanning") as tell:
            return scanning.scan(
                source,
                settings,
                say=lambda line: notes.print(in_flags(line, "scan"), soft_wrap=True),
                progress=tell,
                then=then,
            )
    except KeyboardInterrupt:
        raise Interrupted(f"stopped; the same command continues the scan in {settings.output}") from None


def _print_findings(result: Scan, source: FeatureSource) -> None:
    """Print notes, how well planted mixtures were found where there are any, and last what the theory says."""
    from pairsift.cli.theory import levels_table
    from pairsift.evaluate import detection

    for note in result.notes:
        console.print(f"- {in_flags(note, 'scan')}", highlight=False, soft_wrap=True)
    _print_issues(result)
    _print_copies(result)
    if source.mixed is not None:
        auroc = detection(result.scores, source.mixed).auroc
        console.print(f"AUROC against the planted mixes: {auroc:.3f}", highlight=False)
    console.print(
        "\nTheory (arXiv 2501.01317), for a graph with these levels; train with and without before you use it:"
    )
    console.print(levels_table(result.labelled_levels or result.levels))
    for reason in result.advice.reasons:
        console.print(f"- {reason}", highlight=False, soft_wrap=True)


# Label issues that the terminal shows.
_ISSUES = 5


def _print_issues(result: Scan) -> None:
    """Print the most certain label issues."""
    issues = result.label_issues
    if issues is None:
        return
    where = ", most certain first; label_issues.parquet lists them" if len(issues) else ""
    console.print(
        f"{counted(len(issues), 'label is', 'labels are')} probably wrong{where}", highlight=False, soft_wrap=True
    )
    for row in result.issue_table().slice(0, _ISSUES).to_pylist():
        name = row.get("id") or row.get("path") or row["row"]
        given, suggested = row.get("class") or row["label"], row.get("suggested_class") or row["suggested"]
        console.print(
            f"- {name}: {given}, rather {suggested} (score {row['score']:.3f})", highlight=False,
            soft_wrap=True,
        )  # fmt: skip


def _print_copies(result: Scan) -> None:
    """Print how many rows are copies of others, and how many leak."""
    if result.duplicates is not None:
        groups = int(result.duplicates.column("keep").to_numpy().sum())
        copies = counted(len(result.duplicates) - groups, "row copies", "rows copy")
        console.print(
            f"{copies} {counted(groups, 'other')}, exactly or nearly; duplicates.parquet lists the groups and the row "
            "to keep", highlight=False, soft_wrap=True,
        )  # fmt: skip
    if result.leaks is not None:
        against = "against_row" in result.leaks.column_names
        one, many = ("row of the other set has", "rows of the other set have") if against else ("row has", "rows have")
        where = "this one" if against else "another split"
        console.print(
            f"{counted(len(result.leaks), one, many)} a copy in {where}: leaks.parquet", highlight=False, soft_wrap=True
        )


_FEATURES = typer.Argument(
    metavar="FEATURES", help="a file, a folder of shards or a pattern: parquet, Arrow, CSV, JSON lines, .npy, .npz, .pt"
)
_IMAGES = typer.Option("--images", help="images of the rows, for the page: any DATA that train reads")
with_parameters(
    scan,
    [
        parameter("features", str, _FEATURES, default=inspect.Parameter.empty),
        CONFIG,
        parameter("images", str | None, _IMAGES),
        *options_of(
            ScanConfig,
            named={"output": ("--output", "-o"), "no_labels": ("--no-labels",)},
        ),
    ],
)
