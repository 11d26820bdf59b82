"""What is not installed is said by name, with the extra that brings it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pairsift._base.version import __version__

# Other people's frameworks: no other extra brings them, so a message that names one of them stays as it is.
_APART = ("distributed", "text", "vision")


class MissingExtraError(ModuleNotFoundError):
    """A part of pairsift was asked for whose packages are not installed; the message says how to get them.

    Attributes:
        extra: the extra that the message names.
    """

    def __init__(self, message: str, name: str, extra: str) -> None:
        super().__init__(message, name=name)
        self.extra = extra


@contextmanager
def needs(extra: str, what: str, error: type[Exception] = MissingExtraError) -> Iterator[None]:
    """Imports in this block that find no package say who needs it, and the command that brings it.

    Where such blocks lie in each other the outermost speaks: it knows best what was asked for.

    Args:
        extra: the extra of pairsift that holds the packages, or, with a dash in it, a package of its own.
        what: what needs them, the subject of the message.
        error: what is raised; a room whose errors have a type of their own may name it.

    Raises:
        MissingExtraError: or `error`; a package other than pairsift is not installed.

    Example:
        >>> with needs("scan", "a scan"):
        ...     import no_such_package
        Traceback (most recent call last):
        pairsift._base.extras.MissingExtraError: a scan needs no_such_package: pip install 'pairsift[scan]'
    """
    try:
        yield
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        apart = isinstance(missing, MissingExtraError) and missing.extra in _APART
        if package in ("", "pairsift") or apart:
            raise
        message = f"{what} needs {package}: pip install " + (extra if "-" in extra else f"'pairsift[{extra}]'")
        if issubclass(error, MissingExtraError):
            raise error(message, package, extra) from missing
        raise error(message) from missing


def versions(*names: str) -> dict[str, str]:
    """The versions of distributions by name, pairsift's first; one that is not installed is left out."""
    found = {"pairsift": __version__}
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):  # an extra, or a package of another build
            found[name] = importlib.metadata.version(name)
    return found
