"""`pairsift probe`: measure a trained encoder by its features."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.table import Table

from pairsift.cli.app import console
from pairsift.cli.options import (
    Device,
    LabelColumn,
    RunArgument,
    SkipCorrupt,
    check_output,
    known_device,
    load_labelled,
)


def probe(
    run: RunArgument,
    train: Annotated[str, typer.Argument(metavar="TRAIN", help="labelled data that the classifiers learn from")],
    test: Annotated[str, typer.Argument(metavar="TEST", help="labelled data that they are tested on")],
    protocol: Annotated[
        Literal["lbfgs", "sgd"],
        typer.Option(help="lbfgs: logistic regression and kNN on features; sgd: the usual probe of papers"),
    ] = "lbfgs",
    lr: Annotated[float, typer.Option(help="learning rate of --protocol sgd")] = 1.0,
    epochs: Annotated[int, typer.Option(help="epochs of --protocol sgd", min=1)] = 100,
    label_column: LabelColumn = None,
    per_class: Annotated[int | None, typer.Option(help="first so many images of each class of TRAIN", min=1)] = None,
    skip_corrupt: SkipCorrupt = False,
    device: Device = "cpu",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="JSON file to write (default: probe-PROTOCOL.json in RUN)")
    ] = None,
) -> None:
    """Measure the encoder of RUN: linear probe and kNN accuracy on TEST, learned from TRAIN."""
    from pairsift._base.files import write_json
    from pairsift.data import UNLABELLED
    from pairsift.evaluate import knn, linear_probe, linear_probe_sgd
    from pairsift.temporal import by_row
    from pairsift.train import Run
    from pairsift.train import embed as embed_images

    check_output(output)
    results: dict[str, float] = {}
    start = time.perf_counter()
    encoder = Run.open(run).load_encoder().to(known_device(device))
    parts = ((train, per_class), (test, None))
    if protocol == "sgd":
        splits = [load_labelled(run, spec, label_column, n, skip_corrupt) for spec, n in parts]
        if any(images.vectors for images in splits):
            raise ValueError("the SGD probe crops and flips images: use `protocol='lbfgs'` for frames of sequences")
        results["linear probe (SGD)"] = linear_probe_sgd(encoder, *splits, lr=lr, epochs=epochs)
    else:
        x, y = [], []
        for spec, n in parts:
            images = load_labelled(run, spec, label_column, n, skip_corrupt)
            features, images = by_row(embed_images(encoder, images), images)
            labels = np.asarray(images.labels)
            x.append(features[labels != UNLABELLED])
            y.append(labels[labels != UNLABELLED])
        fitted = linear_probe(x[0], y[0], x[1], y[1])
        results["linear probe"] = fitted.accuracy
        for k in (20, 200):
            if k <= len(x[0]):
                results[f"{k}-NN"] = knn(x[0], y[0], x[1], y[1], k=k)
    table = Table("measure", "accuracy %")
    for name, value in results.items():
        table.add_row(name, f"{100 * value:.2f}")
    console.print(table)
    record = {"train": train, "test": test, "per_class": per_class, "protocol": protocol, "accuracy": results}
    write_json(output or run / f"probe-{protocol}.json", record | {"seconds": time.perf_counter() - start})
