"""`pairsift export`: a folder of a trained encoder for the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pairsift.cli.app import console
from pairsift.cli.options import RunArgument


def export(
    run: RunArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder to write")],
) -> None:
    """Write the encoder of RUN as a folder for the Hugging Face Hub, with a model card.

    The folder holds model.safetensors, config.json and README.md. Upload it with `hf upload NAME FOLDER`. Commands that
    take a run take this folder, too.
    """
    from pairsift.train import Run, export_encoder

    folder = export_encoder(Run.open(run), output)
    console.print(f"model.safetensors, config.json and README.md: {folder}", highlight=False, soft_wrap=True)
