"""Progress of long work: a bar with rate and time left on a terminal, and the same numbers as lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from pairsift.cli.app import notes

# Seconds between two lines. Work that takes less prints none.
_BETWEEN = 10.0


class Steps:
    """Receives how far the work is.

    Args:
        what: the first step.
        console: where it is shown.
    """

    def __init__(self, what: str, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), _Rate(),
            TimeRemainingColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task(what, total=None)
        self._what, self._start = what, time.perf_counter()
        self._said = self._start

    def __call__(self, done: int, total: int | None = None, what: str | None = None) -> None:
        """Show that so much is done.

        Args:
            done: rows, images or steps that are finished.
            total: all of them; None where it is not known.
            what: the step; None for the one before. A new step counts from 0 again.
        """
        now = time.perf_counter()
        if what is not None and what != self._what:
            self._what, self._start, self._said = what, now, now
            self._bar.reset(self._task, description=what, total=total)
        self._bar.update(self._task, completed=done, total=total)
        if not self._console.is_terminal and now - self._said >= _BETWEEN:
            self._said = now
            self._console.print(line(self._what, done, total, now - self._start), soft_wrap=True)

    def start(self) -> None:
        """Show the bar."""
        self._bar.start()

    def stop(self) -> None:
        """Remove the bar."""
        self._bar.stop()


class _Rate(ProgressColumn):
    """Finished rows, images or steps a second."""

    def render(self, task: Task) -> Text:
        """See `ProgressColumn`."""
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{_short(speed)}/s")


def line(what: str, done: int, total: int | None, seconds: float) -> str:
    """How far the work is, in one line.

    Args:
        what: the step.
        done, total: finished parts, and all of them.
        seconds: since the step began.
    """
    rate = done / max(seconds, 1e-9)
    parts = [f"{what} {done:,}" + ("" if total is None else f" of {total:,}"), f"{_short(rate)}/s"]
    if total is not None and done:
        parts.append(f"{(total - done) / rate:,.0f} s left")
    return ", ".join(parts)


@contextmanager
def progress(what: str, console: Console = notes) -> Iterator[Steps]:
    """Show the progress of the work inside.

    Args:
        what: the first step.
        console: where it is shown.
    """
    steps = Steps(what, console)
    steps.start()
    try:
        yield steps
    finally:
        steps.stop()


def _short(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.1f}"
