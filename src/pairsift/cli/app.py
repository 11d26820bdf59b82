"""The application that commands belong to, and where they print."""

from __future__ import annotations

import importlib
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

import pairsift
from pairsift.cli.commands import COMMANDS

console = Console()
notes = Console(stderr=True, highlight=False)


class Commands(TyperGroup):
    """The commands: their list loads none of them, a call loads the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names, in the order of the list."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command for the list, which is its name and what it does; None for a name that is none."""
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name].summary) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments call, loaded, and its own arguments."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed and load(str(listed.name)), rest


app = typer.Typer(
    name="pairsift", cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Find and treat the pairs of examples that hurt contrastive learning (arXiv 2501.01317).",
)  # fmt: skip


def load(name: str) -> Any:
    """Import a command, or a group of sub-commands, from the module with its name."""
    word = name.replace("-", "_")
    made = getattr(importlib.import_module(f"pairsift.cli.{word}"), word)
    if isinstance(made, typer.Typer):
        return typer.main.get_command(made)
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
    alone.command(name)(made)
    return typer.main.get_command(alone)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"pairsift {pairsift.__version__}")
        raise typer.Exit()


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
    version: Annotated[bool, typer.Option("--version", help="say which version this is", callback=_version)] = False,
) -> None:
    pass
