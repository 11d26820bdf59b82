"""Errors for missing packages, which name the package and the extra of pairsift that installs it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pairsift._base.version import __version__

# Extras of large frameworks, which no other extra includes. A message that names one of them stays as it is.
_APART = ("distributed", "text", "vision")


class MissingExtraError(ModuleNotFoundError):
    """A part of pairsift needs packages that are not installed. The message says how to install them.

    Attributes:
        extra: the extra that the message names.
    """

    def __init__(self, message: str, name: str, extra: str) -> None:
        super().__init__(message, name=name)
        self.extra = extra


@contextmanager
def needs(extra: str, what: str, error: type[Exception] = MissingExtraError) -> Iterator[None]:
    """Turn a failed import inside the block into an error that says how to install the package.

    Of nested blocks, the outermost one makes the message, because it is closest to the call of the user.

    Args:
        extra: the extra of pairsift that installs the packages. A name with a dash is a package of its own.
        what: the part that needs the packages, which is the subject of the message.
        error: type of the error.

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
    """Versions of distributions by name, with pairsift first. Distributions that are not installed are left out."""
    found = {"pairsift": __version__}
    for name in names:
        with suppress(importlib.metadata.PackageNotFoundError):  # not installed, or under another name
            found[name] = importlib.metadata.version(name)
    return found
