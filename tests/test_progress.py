"""Progress of the commands: a bar on a terminal, lines elsewhere, and neither for short work without a terminal."""

import io

import pytest
from rich.console import Console

from pairsift.cli import progress as module
from pairsift.cli.progress import line, progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test sets."""

    class Clock:
        now = 100.0

        def perf_counter(self):
            return self.now

    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


def test_a_line_gives_the_rate_and_the_time_left():
    assert line("scanning", 5000, 20_000, 10) == "scanning 5,000 of 20,000, 500/s, 30 s left"
    assert line("texts", 30, None, 10) == "texts 30, 3.0/s"
    assert line("judging", 0, 10, 5) == "judging 0 of 10, 0.0/s"


def test_without_a_terminal_there_is_a_line_every_ten_seconds(clock):
    out = io.StringIO()
    with progress("reading", Console(file=out)) as tell:
        tell(10, 1000)
        clock.now += 11
        tell(20, 1000)
        tell(30, 1000)
        tell(0, 50, "searching")
        clock.now += 20
        tell(25, 50)
    assert out.getvalue().splitlines() == [
        "reading 20 of 1,000, 1.8/s, 539 s left", "searching 25 of 50, 1.2/s, 20 s left"
    ]  # fmt: skip


def test_short_work_says_nothing_without_a_terminal():
    out = io.StringIO()
    with progress("reading", Console(file=out)) as tell:
        tell(10, 10)
    assert out.getvalue() == ""


def test_on_a_terminal_there_is_a_bar_that_goes_away():
    out = io.StringIO()
    with progress("scanning", Console(file=out, force_terminal=True, width=100)) as tell:
        tell(500, 1000)
        tell._bar.refresh()
    shown = out.getvalue()
    assert "scanning" in shown
    assert "500/1000" in shown
    assert shown.endswith("\x1b[2K")  # the line is erased


def test_the_bar_goes_away_after_an_error():
    out = io.StringIO()
    with pytest.raises(KeyboardInterrupt), progress("x", Console(file=out, force_terminal=True)) as tell:
        raise KeyboardInterrupt
    assert not tell._bar.live.is_started
