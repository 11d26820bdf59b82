"""The application that commands belong to, and where they print."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    name="pairsift", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Find and treat the pairs of examples that hurt contrastive learning (arXiv 2501.01317).",
)  # fmt: skip
console = Console()
notes = Console(stderr=True, highlight=False)


@app.callback()
def _common(debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False) -> None:
    pass
