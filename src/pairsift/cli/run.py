"""One run of the command line: errors are a line or two."""

from __future__ import annotations

import errno
import sys
import traceback
import warnings
from typing import Any

import typer

from pairsift._base.extras import needs
from pairsift._base.process import Interrupted, first_process
from pairsift.cli.app import app, notes
from pairsift.cli.commands import called, command_of
from pairsift.cli.flags import in_flags

# click's UsageError, which newer typer carries inside itself and older typer imports.
_UsageError: Any = typer.BadParameter.__base__
# The disk, the user's share of it, or the size that a file may have.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main() -> None:
    """Run the command line; errors are a line or two, `--debug` shows where they come from."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    warnings.showwarning = lambda message, *_: notes.print(f"[yellow]warning:[/] {message}", soft_wrap=True)
    sys.exit(guarded(arguments, debug))


def guarded(arguments: list[str], debug: bool) -> int:
    """Run one command; its exit code."""
    try:
        with needs(*called(arguments)):
            code = app(arguments, standalone_mode=False)
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
        known = isinstance(error, (ValueError, OSError, MemoryError)) or type(error).__module__.startswith("pairsift.")
        text = str(error) if known and str(error) else f"{type(error).__name__}: {error}"
        command = command_of(arguments)
        text = in_flags(text, command)
        if isinstance(error, OSError) and error.errno in _FULL:
            text += "; make room, then give the command again" + (" with --resume" if command == "train" else "")
        notes.print("[red]error:[/] ", end="")
        notes.print(text if debug or known else f"{text} (--debug shows where)", markup=False, soft_wrap=True)
        return 1
