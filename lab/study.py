"""Studies: arms to compare, a function that runs an arm, and measures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from lab.drawing import Panel

Scale = Literal["smoke", "cpu", "gpu"]
# Numbers by name. None is an undefined number, and a list is a curve over training.
Measures = Mapping[str, "float | list[float | None] | None"]
Row = dict[str, Any]


class StudyError(ValueError):
    """A study that cannot be run or continued. The message gives the remedy."""


@dataclass(frozen=True)
class Arm:
    """A setting to compare with others.

    Attributes:
        name: name, unique in its group.
        setting: argument of `Study.run`, plain values that JSON can hold.
        group: arms are compared inside their group, such as a data set.
        of: method that the arm is a candidate of. The table shows the best candidate of a method by `Study.tuned_on`.
        baseline: name of the arm or method to subtract. "" subtracts none.
        paper: result that the paper reports.
    """

    name: str
    setting: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""
    of: str = ""
    baseline: str = "plain"
    paper: str = ""


@dataclass(frozen=True)
class Study:
    """A question and the runs that answer it. `python -m lab NAME` makes the runs.

    Attributes:
        name: name of the study and of its folder of results.
        question: the question, a sentence.
        arms: arms to compare, or a function of the scale that returns them.
        run: (setting, seed, scale) -> measures by name. The seed determines all random draws, so arms are paired by it.
        measures: titles of measures by name, the main one first. Other measures of `run` are kept.
        differences: number of measures, from the first on, that are compared with the baseline.
        tuned_on: measure that chooses the candidate of a method, on data that the test does not use.
        lower_is_better: whether lower values of the main measure and of `tuned_on` are better.
        seconds: estimated duration of a run at cpu scale.
        seeds: default number of seeds at cpu and gpu scale.
        table: table or figure of the paper.
        version: number to raise when equal settings give other measures, so that results do not mix.
        ready: raises a `StudyError` for arms that cannot be run at a scale.
        figures: rows of results -> further panels of the figure.
        notes: rows of results -> lines below the table.
        tables: rows of results -> markdown instead of the table of arms.

    Raises:
        StudyError: no measures, or `tuned_on` is not one of them.

    Example:
        >>> from lab import Arm, Study
        >>> def run(setting, seed, scale):
        ...     return {"accuracy": 90 + setting["bonus"] + seed}
        >>> arms = [Arm("plain", {"bonus": 0}), Arm("treated", {"bonus": 2})]
        >>> Study("own", "Does it help?", arms, run, {"accuracy": "accuracy %"}).of_scale("cpu")[1].baseline
        'plain'
    """

    name: str
    question: str
    arms: Sequence[Arm] | Callable[[Scale], Sequence[Arm]]
    run: Callable[[dict[str, Any], int, Scale], Measures]
    measures: Mapping[str, str]
    differences: int = 1
    tuned_on: str | None = None
    lower_is_better: bool = False
    seconds: float = 1.0
    seeds: int = 3
    table: str = ""
    version: int = 1
    ready: Callable[[Sequence[Arm], Scale], None] | None = None
    figures: Callable[[list[Row]], list[Panel]] | None = None
    notes: Callable[[list[Row]], list[str]] | None = None
    tables: Callable[[list[Row]], str] | None = None

    def __post_init__(self) -> None:
        if not self.measures:
            raise StudyError(f"the study {self.name!r} names no measures: give their names and titles")
        if self.tuned_on is not None and self.tuned_on not in self.measures:
            raise StudyError(f"the study {self.name!r} tunes on {self.tuned_on!r}, which is none of its measures")

    @property
    def main(self) -> str:
        """The first measure."""
        return next(iter(self.measures))

    def of_scale(self, scale: Scale) -> list[Arm]:
        """The arms at a scale.

        Raises:
            StudyError: no arms, two arms with one name, an unknown baseline, or candidates without `tuned_on`.
        """
        arms = list(self.arms(scale) if callable(self.arms) else self.arms)
        if not arms:
            raise StudyError(f"the study {self.name!r} has no arms at scale {scale!r}")
        seen = set()
        names = {(arm.group, name) for arm in arms for name in (arm.name, arm.of)}
        for arm in arms:
            key = (arm.group, arm.name)
            if key in seen:
                raise StudyError(f"the study {self.name!r} has two arms {arm.name!r} in one group: name them apart")
            seen.add(key)
            if arm.baseline and (arm.group, arm.baseline) not in names:
                raise StudyError(
                    f"the arm {arm.name!r} is compared with {arm.baseline!r}, and its group has no such arm: "
                    "add it, or set baseline"
                )
            if arm.of and self.tuned_on is None:
                raise StudyError(f"the arm {arm.name!r} is a candidate of {arm.of!r}: name what it is tuned_on")
        return arms


def data_folder() -> Path:
    """The folder of real data, from the variable PAIRSIFT_DATA.

    Raises:
        StudyError: the variable is not set.
    """
    if "PAIRSIFT_DATA" not in os.environ:
        raise StudyError("PAIRSIFT_DATA is not set: it names the folder of the real data")
    return Path(os.environ["PAIRSIFT_DATA"])


def needs(*sets: str) -> Callable[[Sequence[Arm], Scale], None]:
    """A function for `Study.ready` that refuses to run without these folders of real data.

    Args:
        sets: names of folders in `data_folder`.
    """

    def check(arms: Sequence[Arm], scale: Scale) -> None:
        missing = [name for name in sets if not (data_folder() / name).is_dir()]
        if missing:
            raise StudyError(f"PAIRSIFT_DATA={data_folder()} holds no folder {missing[0]}")

    return check
