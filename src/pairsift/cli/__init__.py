"""The command line of pairsift: each command has a module, which is imported when the command is called."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from pairsift._base.extras import MissingExtraError, needs
from pairsift.cli.commands import called

if TYPE_CHECKING:
    from pairsift.cli.app import console, guarded, notes

__all__ = ["console", "guarded", "main", "notes"]

# How often a waiting OpenMP thread looks before it sleeps. By default threads look 30 times as long, and two processes
# with a thread for every core then hold each other up (lab/benchmarks/busy.py). Fewer looks slow a process alone.
SPIN_COUNT = "10000"


def main() -> None:
    """Run the command line. Where its packages are not installed, print a line that says how to install them."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)  # before PyTorch is imported
    try:
        with needs(*called(sys.argv[1:])):
            from pairsift.cli.app import main as run
    except MissingExtraError as error:
        sys.exit(f"error: {error}")
    run()


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.app"), name)
