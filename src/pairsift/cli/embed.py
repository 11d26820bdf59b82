"""`pairsift embed`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairsift.cli.app import console
from pairsift.cli.inputs import check_output, load_for
from pairsift.cli.options import DataArgument, Device, LabelColumn, PerClass, RunArgument, SkipCorrupt


def embed(
    run: RunArgument,
    data: DataArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="parquet file to write")],
    label_column: LabelColumn = None,
    per_class: PerClass = None,
    skip_corrupt: SkipCorrupt = False,
    device: Device = "cpu",
) -> None:
    """Write the features of DATA as parquet: row, features, label and path where known."""
    from pairsift.data import by_row
    from pairsift.train import Run, write_features
    from pairsift.train import embed as embed_images

    check_output(output)
    encoder = Run.open(run).load_encoder().to(device)
    images = load_for(run, data, label_column, per_class, skip_corrupt)
    features, images = by_row(embed_images(encoder, images), images)
    write_features(output, features, images)
    console.print(f"{len(features):,} x {features.shape[1]} features: {output}", highlight=False, soft_wrap=True)
