"""`pairsift embed`: write the features of images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from pairsift.cli.app import console
from pairsift.cli.options import (
    DataArgument,
    Device,
    LabelColumn,
    NoLabels,
    PerClass,
    RunArgument,
    SkipCorrupt,
    check_output,
    column_of_labels,
    known_device,
    load_for,
)
from pairsift.cli.progress import progress


def embed(
    run: RunArgument,
    data: DataArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="parquet file to write")],
    label_column: LabelColumn = None,
    no_labels: NoLabels = False,
    per_class: PerClass = None,
    skip_corrupt: SkipCorrupt = False,
    device: Device = "cpu",
) -> None:
    """Write the features of DATA as parquet: row, features, label and path where known.

    RUN is a run directory or "patches". The features of "patches" come from small patches of the images, without an
    encoder, and can guide a training run or a scan.
    """
    from pairsift.temporal import by_row
    from pairsift.train import Run, write_features
    from pairsift.train import embed as embed_images

    check_output(output)
    label_column = column_of_labels(label_column, no_labels)
    if run == Path("patches"):
        features, images = _patches(data, label_column, per_class, skip_corrupt)
    else:
        encoder = Run.open(run).load_encoder().to(known_device(device))
        images = load_for(run, data, label_column, per_class, skip_corrupt)
        with progress("embedding") as tell:
            features, images = by_row(embed_images(encoder, images, progress=tell), images)
    write_features(output, features, images)
    console.print(f"{len(features):,} x {features.shape[1]} features: {output}", highlight=False, soft_wrap=True)


def _patches(data: str, label_column: str | None, per_class: int | None, skip_corrupt: bool) -> tuple[Any, Any]:
    from pairsift.data import load_images
    from pairsift.same_class import patch_features

    images = load_images(data, label_column=label_column, per_class=per_class, image_size=32, skip_corrupt=skip_corrupt)
    return patch_features(images.images), images
