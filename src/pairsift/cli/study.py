"""`pairsift study`: says where the studies went."""

from __future__ import annotations

from typing import Annotated

import typer


def study(name: Annotated[str, typer.Argument(metavar="NAME", help="of the study")] = "NAME") -> None:
    """Studies are not part of the package: run `python -m lab NAME` in a checkout of the repository."""
    raise ValueError(
        f"studies are not part of the package: run python -m lab {name} in a checkout of the repository "
        "(python -m lab --list names them all)"
    )
