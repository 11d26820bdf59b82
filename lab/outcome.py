"""Writes the outcome of a study: a table with the paper's numbers, and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from lab.cells import difference, markdown
from lab.comparison import Line, compared
from lab.drawing import Figure, Panel, Series, save
from lab.study import Arm, Row, Study
from pairsift._base.files import replacing
from pairsift.evaluate import t_interval


def write_outcome(folder: Path, study: Study, arms: Sequence[Arm], rows: list[Row], scale: str) -> None:
    """Write `table.md` and `figure.svg`.

    Raises:
        OSError: the files cannot be written.
    """
    with replacing(folder / "table.md") as temporary:
        temporary.write_text(page(study, arms, rows, scale))
    panels = [] if study.tables is not None else _gains(study, compared(study, arms, rows))
    if study.figures is not None:
        panels += study.figures(rows)
    if panels:
        save(Figure(panels, height=4.0), folder / "figure.svg")


def page(study: Study, arms: Sequence[Arm], rows: list[Row], scale: str) -> str:
    """The page of a study: question, table, facts and notes."""
    counts = sorted({row["seed"] for row in rows})
    commits = sorted({row["commit"] for row in rows if row.get("commit")})
    facts = [
        f"{len(rows)} runs at scale {scale}, {len(counts)} seed{'s' * (len(counts) != 1)}"
        + (f", commit {', '.join(commits)}" if commits else ""),
        "± is half of a 95 % t interval over seeds, differences are paired by seed; *no difference*: the interval "
        "holds 0.",
    ]
    if study.tuned_on is not None and any(arm.of for arm in arms):
        facts.append(f"Of each method the candidate is shown that is best by the {study.measures[study.tuned_on]}.")
    said = [] if study.notes is None else study.notes(rows)
    text = [f"# {study.name}", "", study.question + (f" ({study.table})" if study.table else "")]
    text += ["", table_of(study, arms, rows), "", *(f"- {line}" for line in (*facts, *said)), ""]
    return "\n".join(text)


def table_of(study: Study, arms: Sequence[Arm], rows: list[Row], only: Mapping[str, str] | None = None) -> str:
    """A table with a line for each arm or method: measures, differences and the paper's result.

    Args:
        study, arms: the study and its arms.
        rows: finished runs.
        only: titles of the measures to show. None shows all.
    """
    if study.tables is not None:
        return study.tables(rows)
    lines = compared(study, arms, rows)
    shown = dict(study.measures if only is None else only)
    differ = [name for name in list(study.measures)[: study.differences] if name in shown]
    columns: dict[str, list[str]] = {
        "set": [line.group for line in lines], "arm": [line.title for line in lines],
        "seeds": [str(line.seeds) for line in lines],
    }  # fmt: skip
    for name, title in shown.items():
        columns[title] = [_cell([*line.values[name].values()]) for line in lines]
        if name in differ:
            columns[f"{'difference' if name == study.main else f'difference, {title}'}"] = [
                difference(line.differences[name]) or "" for line in lines
            ]
    columns["paper"] = [line.paper for line in lines]
    used = {title: cells for title, cells in columns.items() if any(cells)}
    return markdown(list(used), list(zip(*used.values(), strict=True)))


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean, half = t_interval(values)
    digits = 3 if abs(mean) < 1 else 2
    return f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if half > 0 else "")  # nan of one seed; 0 of what is known


def _gains(study: Study, lines: list[Line]) -> list[Panel]:
    """A panel for each group with the difference of every arm from its baseline, by the main measure."""
    panels = []
    for group in dict.fromkeys(line.group for line in lines):
        own = [line for line in lines if line.group == group and line.differences[study.main]]
        both = [t_interval(line.differences[study.main]) for line in own]
        points = Series("", [mean for mean, _ in both], list(range(len(own))), [half for _, half in both], hollow=True)
        if own:
            title = f"difference: {study.measures[study.main]}"
            panels.append(Panel([points], group, title, rows=[line.title for line in own], zero=True))
    return panels
