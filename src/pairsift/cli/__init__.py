"""The command line: parse, call, print. A module a command, loaded when it is called."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from pairsift._base.extras import MissingExtraError, needs
from pairsift.cli.commands import called

if TYPE_CHECKING:
    from pairsift.cli.app import console, notes
    from pairsift.cli.run import guarded

__all__ = ["console", "guarded", "main", "notes"]

_HOMES = {"console": "app", "guarded": "run", "notes": "app"}


def main() -> None:
    """Run the command line; where its packages are not installed, say in a line how to get them."""
    try:
        with needs(*called(sys.argv[1:])):
            from pairsift.cli.run import main as run
    except MissingExtraError as error:
        sys.exit(f"error: {error}")
    run()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
