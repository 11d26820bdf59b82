"""What came of a study: its table beside the paper's numbers, and its figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import plotly.graph_objects as go

from lab.compared import Line, compared
from lab.study import Arm, Row, Study
from pairsift._base.files import replacing
from pairsift.evaluate import t_interval
from pairsift.report.figures import INK, SYMBOLS, styled
from pairsift.report.page import Section, write_figures

NONE = "no difference"


def write_outcome(folder: Path, study: Study, arms: Sequence[Arm], rows: list[Row], scale: str) -> None:
    """Write `table.md` and `figure.html`.

    Raises:
        OSError: they cannot be written.
    """
    with replacing(folder / "table.md") as temporary:
        temporary.write_text(page(study, arms, rows, scale))
    lines = [] if study.tables is not None else compared(study, arms, rows)
    sections = [
        Section(heading or study.question, f"{study.measures[study.main]}, with 95 % intervals over seeds.", figure)
        for heading, figure in _figures(study, lines).items()
    ]
    if study.figures is not None:
        sections += [Section(heading, "", figure) for heading, figure in study.figures(rows).items()]
    write_figures(folder / "figure.html", study.name, study.question, sections)


def page(study: Study, arms: Sequence[Arm], rows: list[Row], scale: str) -> str:
    """The table of a study with what it needs to be read."""
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
    text += ["", markdown(study, arms, rows), "", *(f"- {line}" for line in (*facts, *said)), ""]
    return "\n".join(text)


def markdown(study: Study, arms: Sequence[Arm], rows: list[Row], only: Mapping[str, str] | None = None) -> str:
    """A line an arm or method: its measures, differences and what the paper reports.

    Args:
        study, arms: what was compared.
        rows: finished runs.
        only: measures to show, with their titles; None shows all.
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
                difference(line.differences[name]) for line in lines
            ]
    columns["paper"] = [line.paper for line in lines]
    used = {title: cells for title, cells in columns.items() if any(cells)}
    table = [
        list(used),
        [":---" if title in ("set", "arm") else "---:" for title in used],
        *zip(*used.values(), strict=True),
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    mean, half = t_interval(values)
    digits = 3 if abs(mean) < 1 else 2
    return f"{mean:.{digits}f}" + (f" ± {half:.{digits}f}" if half > 0 else "")  # nan of one seed; 0 of what is known


def difference(values: Sequence[float]) -> str:
    """Mean of paired differences with its interval, called none where the interval holds 0."""
    if not values:
        return ""
    mean, half = t_interval(values)
    if half != half:
        return f"{mean:+.2f} (one seed)"
    told = f"{mean:+.2f} ± {half:.2f}"
    return told if abs(mean) > half else f"{NONE} ({told})"


def _figures(study: Study, lines: list[Line]) -> dict[str, go.Figure]:
    """A figure a group: every arm's main measure, and its difference from the baseline."""
    figures = {}
    for group in dict.fromkeys(line.group for line in lines):
        figure = go.Figure()
        of_group = [line for line in lines if line.group == group and line.differences[study.main]][::-1]
        values = [t_interval(line.differences[study.main]) for line in of_group]
        figure.add_scatter(
            x=[mean for mean, _ in values], y=[line.title for line in of_group], mode="markers", showlegend=False,
            error_x={"array": [0 if half != half else half for _, half in values], "color": INK[2], "thickness": 1},
            marker={"symbol": SYMBOLS[0], "color": INK[2], "size": 9},
        )  # fmt: skip
        figure.add_vline(x=0, line_color="#888")
        styled(figure, f"difference: {study.measures[study.main]}", "")
        height = max(300, 110 + 24 * len(of_group))
        figures[group] = figure.update_layout(height=height, margin={"l": 260, "r": 20, "t": 30, "b": 60})
    return figures
