"""`python -m lab`: run a study."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

from lab.study import StudyError
from pairsift._base.process import Interrupted

if TYPE_CHECKING:
    from lab.running import Plan

console = Console(markup=False, emoji=False)
notes = Console(stderr=True, highlight=False, markup=False, emoji=False)
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


def main(arguments: list[str]) -> int:
    """Run one command line and return its exit code. An error is printed as a line."""
    try:
        return int(app(arguments, standalone_mode=False) or 0)
    except typer.BadParameter.__base__ as error:  # type: ignore[misc]
        error.show()
        return int(error.exit_code)
    except Interrupted as stop:
        notes.print(str(stop), soft_wrap=True)
        return 130
    except (OSError, StudyError, ValueError, ModuleNotFoundError) as error:
        notes.print("error:", style="red", end=" ")
        notes.print(str(error), soft_wrap=True)
        return 1


@app.command()
def study(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="of the study, or a Python file with one of your own")
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="what there is, what it answers and what it costs")] = False,
    scale: Annotated[
        Literal["smoke", "cpu", "gpu"], typer.Option(help="smoke: seconds, on small data; cpu; gpu: the paper's sizes")
    ] = "cpu",
    seeds: Annotated[int | None, typer.Option(help="number of seeds (default: the study's own; smoke: 2)")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="folder of the study's folder")] = Path("results"),
    jobs: Annotated[int, typer.Option(help="runs at a time, a process each")] = 1,
    engine: Annotated[Literal["local", "ray"], typer.Option(help="ray spreads runs over machines")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Ray cluster ('auto' finds one; none: Ray on this machine)")
    ] = None,
) -> None:
    """Run a study over seeds. Finished runs are kept, and the same command continues a stopped study.

    It writes runs.jsonl, and table.md and figure.svg with the paper's numbers next to the measured ones.
    """
    from lab.outcome import table_of, write_outcome
    from lab.running import plan

    if list_:
        _tell_all()
        return
    if name is None:
        raise typer.BadParameter("name a study; --list tells which there are", param_hint="'NAME'")
    made = plan(name, scale, seeds, output)
    notes.print(_cost(made, jobs), soft_wrap=True)
    _work(made, jobs, engine, address)
    write_outcome(made.folder, made.study, made.arms, made.ledger.rows, made.scale)
    console.print(table_of(made.study, made.arms, made.ledger.rows), highlight=False, soft_wrap=True)
    console.print(f"written: {made.folder / 'table.md'}, figure.svg, runs.jsonl", highlight=False, soft_wrap=True)


def _work(made: Plan, jobs: int, engine: Literal["local", "ray"], address: str | None) -> None:
    """Run with a progress bar. Ctrl-C keeps finished runs."""
    from lab.running import carry_out

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
               TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=False))  # fmt: skip
    try:
        with Progress(*columns, console=notes, transient=True) as bar:
            task = bar.add_task(made.study.name, total=len(made.todo))
            carry_out(made, jobs, lambda done: bar.update(task, completed=done), engine, address)
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped: {len(made.ledger.rows)} finished runs are kept in {made.ledger.file}; the same command goes on"
        ) from None


def _cost(made: Plan, jobs: int) -> str:
    there, todo, each = len(made.ledger.rows), len(made.todo), made.seconds
    words = f"{made.study.name} at scale {made.scale}: {todo} runs to do, {there} there already"
    if made.taken:
        words += f", {len(made.taken)} the same as in other studies"
    if not todo:
        return words
    if each is None:
        return f"{words}; what they take is known after the first"
    return f"{words}; about {_time(todo * each / max(1, jobs))} ({each:.1f} s a run, {max(1, jobs)} at a time)"


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _tell_all() -> None:
    from lab.registry import find_study, names

    # Names are to be typed again, so they stay whole on narrow terminals too.
    study = Column("study", no_wrap=True, min_width=max(map(len, names())))
    table = Table(study, "what it answers", Column("paper", max_width=12), "runs", "core time")
    for name in names():
        found = find_study(name)
        runs = len(found.of_scale("cpu")) * found.seeds
        table.add_row(name, found.question, found.table, str(runs), _time(runs * found.seconds))
    console.print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
