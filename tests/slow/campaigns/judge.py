"""What a fuzzed call may do: give a result that holds, or refuse in the library's own words, within time and memory."""

from __future__ import annotations

import faulthandler
import io
import linecache
import resource
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pairsift
from pairsift import cli

PACKAGE = str(Path(pairsift.__file__).parent)
# Seconds and bytes that an input may take; the inputs are small, so that both are far beyond what any needs.
SECONDS, BYTES = 60, 3 * 10**9


class Defect(AssertionError):  # noqa: N818 (what is found, not what fails)
    """An input that was neither refused in words nor given a result that holds."""


class Hang(BaseException):
    """An input that took too long; no `except Exception` of the library swallows it."""


class Judge:
    """Counts what becomes of the inputs of a target.

    Args:
        name: of the target.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.outcomes: Counter[str] = Counter()

    @property
    def inputs(self) -> int:
        """Inputs judged so far."""
        return sum(self.outcomes.values())

    def call(self, work: Callable[[], Any], check: Callable[[Any], None] = lambda result: None) -> Any:
        """What the work returned, checked; None where it was refused.

        Raises:
            Defect: another error than the library's own, or a result that does not hold.
        """
        try:
            with limited(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                result = work()
        except Exception as error:
            check_refusal(error)
            self.outcomes["refused"] += 1
            return None
        check(result)
        self.outcomes["result"] += 1
        return result

    def command(self, *arguments: Any, check: Callable[[], None] = lambda: None) -> int:
        """The exit code of a command, whose words and result are checked.

        Raises:
            Defect: see `call`; or a refusal that takes more than two lines, or an exit code that hides it.
        """
        raised: list[Exception] = []
        real = cli.app.app

        def app(*given: Any, **options: Any) -> Any:
            try:
                return real(*given, **options)
            except Exception as error:
                raised.append(error)
                raise

        out, err = io.StringIO(), io.StringIO()
        with limited(), mock.patch.object(sys, "stdout", out), mock.patch.object(sys, "stderr", err), \
                mock.patch.object(cli.app, "app", app), warnings.catch_warnings():  # fmt: skip
            warnings.simplefilter("ignore")
            code = cli.guarded([str(each) for each in arguments], False)
        if code == 0:
            check()
        else:
            check_words(err.getvalue(), raised)
        self.outcomes["result" if code == 0 else "refused"] += 1
        return code


def check_refusal(error: Exception) -> None:
    """A refusal is an error of a kind that callers expect, raised on purpose by the library, with words.

    Raises:
        Defect: it is none.
    """
    if isinstance(error, OSError) and error.filename is not None:
        return
    frames = traceback.extract_tb(error.__traceback__)
    line = linecache.getline(frames[-1].filename, frames[-1].lineno or 0).strip()
    own = frames[-1].filename.startswith(PACKAGE) and line.startswith("raise")
    if not isinstance(error, (ValueError, TypeError, OSError)) or not own or not str(error).strip():
        where = "".join(traceback.format_list(frames[-4:]))
        raise Defect(f"not a refusal: {type(error).__name__}: {error}\n{where}") from error


def check_words(words: str, raised: list[Exception]) -> None:
    """What a refused command says: one or two lines, which the library meant to say.

    Raises:
        Defect: a traceback, too many lines, or an error that was not meant.
    """
    if "Traceback" in words or "--debug shows" in words:
        raise Defect(f"not a refusal: {words}")
    if "error: " in words:
        if raised:  # else refused before the application was called
            check_refusal(raised[-1])
        said = words[words.rindex("error: ") :].strip()
        if len(said.splitlines()) > 2:
            raise Defect(f"a refusal of {len(said.splitlines())} lines: {said}")
    elif "Usage: " not in words and "stopped" not in words:
        raise Defect(f"refused without words: {words!r}")


@contextmanager
def limited() -> Iterator[None]:
    """Within the time; a call that never comes back to Python ends the process with its stack."""

    def ring(*_: Any) -> None:
        raise Hang(f"an input took more than {SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    faulthandler.dump_traceback_later(3 * SECONDS, exit=True)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        signal.signal(signal.SIGALRM, before)


def limit_memory() -> None:
    """From now on this process may take so many bytes more than it has; who asks for more gets a MemoryError."""
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
