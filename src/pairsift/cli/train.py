"""`pairsift train`: train an encoder."""

from __future__ import annotations

import textwrap
import time
from pathlib import Path
from typing import Any

import typer

from pairsift.cli.app import console, notes
from pairsift.cli.options import CONFIG, column_of_labels, given, options_of, parameter, with_parameters
from pairsift.train.config import EXPLAINED, TrainConfig


def train(data: str | None, config: Path | None, no_labels: bool, **flags: Any) -> None:
    """Train an encoder on DATA with plain or treated pairs: SimCLR, MoCo or the spectral loss.

    Settings come from --config (YAML, the same names with underscores) and from flags, which win. The output folder
    holds the resolved configuration, versions, metrics, checkpoints and the encoder. After Ctrl-C, --resume continues
    the run to the same result.
    """
    from pairsift.train import Interrupted, Run, first_process, pretrain

    values = given(flags) | ({"data": data} if data else {})
    if no_labels:
        values["label_column"] = column_of_labels(values.get("label_column"), no_labels)
    if values.get("resume"):
        run = Run.open(values.get("run_dir", TrainConfig.model_fields["run_dir"].default))
        if config is not None:
            values = TrainConfig.load(config, **values).model_dump()
        settings = run.config(**values)
    else:
        settings = TrainConfig.build(values) if config is None else TrainConfig.load(config, **values)
    start = time.perf_counter()
    say = _say if settings.progress else lambda line: None
    try:
        result = pretrain(settings, say=say)
    except Interrupted as stop:
        raise Interrupted(f"{stop}; continue with: pairsift train --resume --output {settings.run_dir}") from None
    seconds = time.perf_counter() - start
    if first_process():
        console.print(f"trained in {seconds:,.0f} s: {result.run.path}", highlight=False, soft_wrap=True)


def _say(line: str) -> None:
    """Print a line of the log; what does not fit in the columns is indented below it."""
    shown = textwrap.wrap(
        line, notes.width, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )  # fmt: skip
    notes.print("\n".join(shown), soft_wrap=True)


_DATA = typer.Argument(metavar="[DATA]", help=str(TrainConfig.model_fields["data"].description))
with_parameters(
    train,
    [
        parameter("data", str | None, _DATA),
        CONFIG,
        parameter("no_labels", bool, typer.Option("--no-labels", help="ignore labels", rich_help_panel="Data"), False),
        *options_of(TrainConfig, without=("data",), named={"run_dir": ("--output", "-o")}),
        # The configuration refuses these names of other trainers and explains why.
        *(parameter(name, str | None, typer.Option("--" + name.replace("_", "-"), hidden=True)) for name in EXPLAINED),
    ],
)
