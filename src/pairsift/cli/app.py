"""The application of the command line: it loads a command, runs it, and turns errors into a line or two."""

from __future__ import annotations

import errno
import importlib
import re
import shlex
import sys
import traceback
import warnings
from functools import cache
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand, TyperGroup

import pairsift
from pairsift._base.extras import MissingExtraError, needs
from pairsift._base.process import Interrupted, first_process
from pairsift.cli.commands import COMMANDS, called, command_of

# Text of users, such as digits:train: or a [name], is printed as it is.
console = Console(markup=False, emoji=False)
notes = Console(stderr=True, highlight=False, markup=False, emoji=False)

# click's UsageError. Newer typer carries click inside itself, and older typer imports it.
_UsageError: Any = typer.BadParameter.__base__
# The disk, the user's quota, or the largest size of a file.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# A setting in backquotes in a message of the library.
_SETTING = re.compile(r"`(\w+)(?:=([^`]*))?`")


class Commands(TyperGroup):
    """All commands. Listing them imports none of them, and a call imports the command that it names."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, in the order of the list."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The name and the summary of a command for the list, or None for an unknown name."""
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name].summary) if cmd_name in COMMANDS else None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that the arguments call, imported, and its own arguments."""
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


def main() -> None:
    """Run the command line. Errors are a line or two, and `--debug` shows their traceback."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    warnings.showwarning = lambda message, *_: _flagged("warning:", "yellow", str(message))
    sys.exit(guarded(arguments, debug))


def guarded(arguments: list[str], debug: bool) -> int:
    """Run one command and return its exit code.

    Args:
        arguments: the command and its arguments.
        debug: whether to print the traceback of an error.
    """
    try:
        with needs(*called(arguments)):
            code = app(_with_names_of_today(arguments), standalone_mode=False)
        return int(code or 0)
    except _UsageError as error:
        error.show()
        return int(error.exit_code)
    except Interrupted as stop:
        if first_process():
            notes.print(str(stop), soft_wrap=True)
        return 130
    except (KeyboardInterrupt, typer.Abort):
        notes.print("stopped")
        return 130
    except Exception as error:
        if debug:
            traceback.print_exc()
        _show(error, command_of(arguments), debug)
        return 1


def in_flags(text: str, command: str | None = None) -> str:
    """Replace settings in backquotes by flags: `resume=True` by --resume, `label_column='none'` by --no-labels.

    Args:
        text: a message. Names without backquotes stay as they are.
        command: the command whose options come first. Options of other commands come after them.
    """
    return _SETTING.sub(lambda found: _flag(found, command), text)


def _show(error: Exception, command: str | None, debug: bool) -> None:
    """Print an error in a line or two."""
    known = isinstance(error, (ValueError, OSError, MemoryError)) or type(error).__module__.startswith("pairsift.")
    text = in_flags(str(error) if known and str(error) else f"{type(error).__name__}: {error}", command)
    if isinstance(error, OSError) and error.errno in _FULL:
        text += "; make room, then give the command again" + (" with --resume" if command == "train" else "")
    _flagged("error:", "red", text if debug or known else f"{text} (--debug shows where)")


def _flagged(word: str, colour: str, text: str) -> None:
    """Print a coloured word and a text."""
    notes.print(word, style=colour, end=" ")
    notes.print(text, soft_wrap=True)


def _with_names_of_today(arguments: list[str]) -> list[str]:
    """Replace flags of earlier versions that still work, with a note; refuse the others, and name the flag of today."""
    command, found = command_of(arguments), []
    if command not in COMMANDS:
        return arguments
    renamed, accepted = COMMANDS[command].renamed, COMMANDS[command].accepted
    for each in arguments:
        flag, equals, value = each.partition("=")
        if flag in renamed:
            raise ValueError(f"{flag} has a new name: give {renamed[flag]} to pairsift {command}")
        if flag in accepted:
            notes.print(f"{flag} has a new name: {accepted[flag]}; the old one goes with 0.4")
        found.append(accepted.get(flag, flag) + equals + value)
    return found


def _flag(found: re.Match[str], command: str | None) -> str:
    name, value = found.group(1), found.group(2)
    first = [command] if command in COMMANDS else []
    known = next((flags for each in (*first, *COMMANDS) if name in (flags := _options(each))), None)
    if known is None:
        return found.group(0)
    if value is None or value == "True":
        return known[name]
    if value == "False":
        return known[name].replace("--", "--no-", 1)
    value = value.strip("'\"")
    if (name, value) == ("label_column", "none") and "no_labels" in known:
        return known["no_labels"]
    return f"{known[name]} {shlex.quote(value)}"


@cache
def _options(command: str) -> dict[str, str]:
    """The first flag of every option of a command, or nothing where its packages are not installed."""
    try:
        loaded = load(command)
    except MissingExtraError:
        return {}
    commands = [loaded, *getattr(loaded, "commands", {}).values()]
    return {each.name: each.opts[0] for one in commands for each in one.params if each.opts[0].startswith("--")}


def _version(wanted: bool) -> None:
    if wanted:
        print(f"pairsift {pairsift.__version__}")
        raise typer.Exit()


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="show the traceback of an error")] = False,
    version: Annotated[bool, typer.Option("--version", help="show the version", callback=_version)] = False,
) -> None:
    pass
