"""Markdown tables of result files. A table is described by data: its runs, columns and differences."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from lab.cells import Show, markdown
from lab.comparison import compared, paired
from lab.registry import find_study
from lab.rows import RESULTS, ROOT, Row, read

BENCHMARKS = ROOT / "lab" / "benchmarks" / "results"
Place = tuple[str, str]
# Libraries whose versions are not shown below a table.
_UNNAMED = {"pairsift", "lightning", "numpy", "scipy", "pillow", "scikit-learn", "hypothesis"}


@dataclass(frozen=True)
class Line:
    """All runs of one arm.

    Attributes:
        place: group and arm. In a tuned study: group and method.
        keys: group, arm, seeds, settings and versions by name. In a tuned study also title, method, setting and paper.
        values: measure -> seed -> number. A curve has its last value. Undefined values are left out.
        baseline: place of the baseline of the study.
    """

    place: Place
    keys: Mapping[str, Any]
    values: Mapping[str, Mapping[int, float]]
    baseline: Place | None = None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: title of the column.
        what: measures or keys that are the arguments of `show`. "{row}" is replaced by the name of the row.
        show: makes a cell from lists of values over seeds, or from keys.
        arm, group: arm and group to show instead of those of the row.
        minus: arm to subtract, paired by seed. "baseline" takes the baseline of the study. A function chooses one of
            the lines of the group.
        shared: whether a single run is subtracted from all seeds.
        alone: shows a line without a baseline.
        skip: arms with an empty cell.
    """

    title: str
    what: str | tuple[str, ...]
    show: Show = str
    arm: str | None = None
    group: str | None = None
    minus: str | Callable[[Line, list[Line]], Line | None] | None = None
    shared: bool = False
    alone: Show | None = None
    skip: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A table of one or more result files.

    Attributes:
        files: names of studies, or "benchmarks/NAME".
        columns: columns of the table.
        part: study to show, where a file holds several.
        has: measure or key that a line needs.
        where: key -> allowed values.
        arms, groups: arms and groups to show, in this order. None shows all in the order of the file.
        first: arm to show first.
        but: arms and groups to leave out.
        rows: names and titles of rows into which each line is split.
        by_arm: whether an arm has one row for all groups. Columns then choose the group.
        across: with `by_arm`, repeats the columns for every group, with the group as title.
        tuned: whether the best candidate of every method is shown.
        total: title of a last row of sums.
        note: makes a sentence before the origin.
    """

    files: tuple[str, ...]
    columns: tuple[Column, ...]
    part: str = ""
    has: str = ""
    where: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    arms: Iterable[str] | None = None
    groups: Sequence[str] | None = None
    first: str = ""
    but: tuple[str, ...] = ()
    rows: Mapping[str, str] | None = None
    by_arm: bool = False
    across: bool = False
    tuned: bool = False
    total: str = ""
    note: Callable[[], str] | None = None

    def __call__(self) -> str:
        """The table as markdown, with its origin."""
        lines: dict[Place, Line] = {}
        for name in self.files:
            for line in tuned_lines(name) if self.tuned else plain_lines(name, self.part):
                lines.setdefault(line.place, line)
        shown = self._shown(list(lines.values()))
        columns = self.columns
        if self.across:
            groups = dict.fromkeys(line.place[0] for line in shown)
            each = [_in_group(column, group) for group in groups for column in self.columns[1:]]
            columns = (self.columns[0], *each)
        if self.by_arm:
            shown = list({line.place[1]: line for line in reversed(shown)}.values())[::-1]
        names = {"": ""} if self.rows is None else self.rows
        cells = [
            [_cell(column, line, lines, name, title) for column in columns]
            for line in shown
            for name, title in names.items()
        ]
        if self.total:
            cells.append([self.total, *(_total(column, shown) for column in columns[1:])])
        said = "" if self.note is None else f"{self.note()} "
        return f"{markdown([column.title for column in columns], cells)}\n\n{said}{origin(self.files, self.part)}\n"

    def _shown(self, lines: list[Line]) -> list[Line]:
        """The lines of the table in its order."""
        arms, groups = (None if each is None else list(each) for each in (self.arms, self.groups))
        known = list(dict.fromkeys(line.place[0] for line in lines))

        def rank(line: Line) -> tuple[int, int]:
            group, arm = line.place
            order = int(arm != self.first) if arms is None else arms.index(arm)
            return (known if groups is None else groups).index(group), order

        kept = [
            line
            for line in lines
            if not {*line.place} & {*self.but}
            and (arms is None or line.place[1] in arms)
            and (groups is None or line.place[0] in groups)
            and (not self.has or self.has in line.values or line.keys.get(self.has))
            and all(_known(line, name) in allowed for name, allowed in self.where.items())
        ]
        return sorted(kept, key=rank)


def _in_group(column: Column, group: str) -> Column:
    values = {name: getattr(column, name) for name in ("what", "show", "arm", "minus", "shared", "alone", "skip")}
    return Column(group, group=group, **values)


def _known(line: Line, name: str) -> Any:
    if name in line.values:
        return next(iter(line.values[name].values()), None)
    return line.keys.get(name)


def _cell(column: Column, line: Line, lines: Mapping[Place, Line], name: str, title: str) -> str | None:
    if column.what == "row":
        return title
    place = (line.place[0] if column.group is None else column.group, column.arm or line.place[1])
    found = line if place == line.place else lines.get(place)
    if found is None or found.place[1] in column.skip:
        return None
    wanted = [each.format(row=name) for each in ((column.what,) if isinstance(column.what, str) else column.what)]
    if column.minus is None:
        given = [list(found.values[each].values()) if each in found.values else found.keys.get(each) for each in wanted]
        return None if given[0] is None else column.show(*([] if each is None else each for each in given))
    if wanted[0] not in found.values:
        return None
    if callable(column.minus):
        other = column.minus(found, [each for each in lines.values() if each.place[0] == place[0]])
    else:
        other = lines.get(found.baseline or place if column.minus == "baseline" else (place[0], column.minus))
    if other is not None and other is not found and other.keys["arm"] == found.keys["arm"]:
        return None  # the best candidate is the baseline itself
    if other is None or other is found:
        return None if column.alone is None else column.alone(*([*found.values[each].values()] for each in wanted))
    return column.show(*(_minus(found.values[each], other.values.get(each, {}), column.shared) for each in wanted))


def _minus(values: Mapping[int, float], others: Mapping[int, float], shared: bool) -> list[float]:
    return paired(values, dict.fromkeys(values, next(iter(others.values()))) if shared else others)


def _total(column: Column, lines: Sequence[Line]) -> str | None:
    assert isinstance(column.what, str)
    return column.show([sum(value for line in lines for value in line.values.get(column.what, {}).values())])


@cache
def runs(name: str) -> list[Row]:
    """The runs of a study or benchmark."""
    folder, _, benchmark = name.rpartition("/")
    return read(BENCHMARKS / f"{benchmark}.jsonl" if folder else RESULTS / name / "runs.jsonl")


def plain_lines(name: str, part: str = "") -> list[Line]:
    """A line for each arm, or for each run without arms and groups."""
    found: dict[Place, list[Row]] = {}
    for number, row in enumerate(runs(name)):
        if part in ("", row["study"]):
            # Without arms every run is a line.
            found.setdefault((row["group"], row["arm"] or str(number)), []).append(row)
    return [
        Line(
            place,
            {**rows[0]["versions"], **rows[0]["settings"], "group": rows[0]["group"], "arm": rows[0]["arm"],
             "commit": rows[0]["commit"], "seeds": len(rows)},
            values_of(rows),
        )
        for place, rows in found.items()
    ]  # fmt: skip


@cache
def tuned_lines(name: str) -> list[Line]:
    """A line for each arm, and for each method with its best candidate, as the study compares them."""
    study = find_study(name)
    lines = []
    for line in compared(study, study.of_scale("cpu"), runs(name)):
        method, _, setting = line.title.partition(": ")
        keys = {
            "group": line.group, "title": line.title, "arm": line.arm, "method": method, "paper": line.paper,
            "setting": setting.removeprefix(f"{method}, "), "seeds": line.seeds,
        }  # fmt: skip
        lines.append(Line((line.group, method), keys, line.values, (line.group, line.baseline)))
    return lines


def values_of(rows: Sequence[Row]) -> dict[str, dict[int, float]]:
    """Values by measure and seed. A curve has its last value."""
    found: dict[str, dict[int, float]] = {}
    for row in rows:
        for name, value in row["measures"].items():
            last = value[-1] if isinstance(value, list) and value else value
            if last is not None and last != []:
                found.setdefault(name, {})[row["seed"]] = last
    return found


def origin(files: Sequence[str], part: str = "") -> str:
    """A sentence about the origin of a table: files, versions, threads and commits."""
    rows = [row for name in files for row in runs(name) if part in ("", row["study"])]
    known = {name: {row["versions"].get(name) for row in rows} - {None} for row in rows for name in row["versions"]}
    versions = {name: each.pop() for name, each in known.items() if len(each) == 1}
    said = [f"{name} {versions[name]}" for name in ("python", "torch") if name in versions]
    said += [f"{name} {each}" for name, each in versions.items() if name not in ("python", "torch", *_UNNAMED)]
    if threads := rows[-1]["machine"].get("threads"):
        said.append(f"{threads} thread{'s' * (threads > 1)}")
    if commits := sorted({row["commit"] for row in rows if row["commit"]}):
        said.append(f"commit{'s' * (len(commits) > 1)} {', '.join(commits)}")
    names = ", ".join(f"`{file_of(name)}`" for name in files)
    return f"From {names}" + (f" ({', '.join(said)})." if said else ".")


def file_of(name: str) -> str:
    """The path of a result file, as pages name it."""
    folder, _, benchmark = name.rpartition("/")
    return f"lab/benchmarks/results/{benchmark}.jsonl" if folder else f"lab/results/{name}/"


def study_table(name: str, but_chosen_by: bool = False) -> str:
    """The table of a study of its committed runs, with its origin.

    Args:
        name: name of the study.
        but_chosen_by: leave out the measure that chooses candidates.
    """
    from lab.outcome import table_of

    study = find_study(name)
    shown = {each: title for each, title in study.measures.items() if not but_chosen_by or each != study.tuned_on}
    return f"{table_of(study, study.of_scale('cpu'), runs(name), shown)}\n\n{origin((name,))}\n"
