"""What a study is: arms to compare, a function that runs one of them, and what its measures mean."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from lab.drawing import Panel

Scale = Literal["smoke", "cpu", "gpu"]
# Numbers by name; None where one is not defined, a list for a curve over training.
Measures = Mapping[str, "float | list[float | None] | None"]
Row = dict[str, Any]


class StudyError(ValueError):
    """A study that cannot be run or continued; the message says what to do."""


@dataclass(frozen=True)
class Arm:
    """One setting among those that are compared.

    Attributes:
        name: unique in its group.
        setting: what `Study.run` is given, plain values that JSON can hold.
        group: arms are compared with those of their group only; a data set, say.
        of: the method that the arm is a candidate of. Of each method the table shows the candidate that
            `Study.tuned_on` prefers.
        baseline: name of the arm, or of the method, that its difference is taken from; "" takes none.
        paper: what the paper reports for it, in words.
    """

    name: str
    setting: Mapping[str, Any] = field(default_factory=dict)
    group: str = ""
    of: str = ""
    baseline: str = "plain"
    paper: str = ""


@dataclass(frozen=True)
class Study:
    """A question, and runs that answer it: `python -m lab NAME` makes them and keeps each.

    Attributes:
        name: of the study and of its folder of results.
        question: what it answers, in a sentence.
        arms: what is compared, or a function of the scale that gives it.
        run: setting, seed, scale -> measures by name. All that is random about it
            follows from the seed, so that arms are paired by it.
        measures: names of measures and their titles, the main one first. Others that `run` returns are kept.
        differences: how many of them, from the first on, are compared with the baseline.
        tuned_on: the measure by which candidates of a method are chosen, on data that the test does not see.
        lower_is_better: whether less of the main measure and of `tuned_on` is better, as of errors.
        seconds: a run takes at cpu scale, roughly; finished runs say it better.
        seeds: number of them at cpu and gpu scale, unless asked otherwise.
        table: of the paper, or its figure.
        version: raised when the same setting comes to give other measures, so that results do not mix.
        ready: refuses arms that cannot be run at a scale, for lack of data say, with a `StudyError`.
        figures: rows of the results -> further panels of its figure.
        notes: rows of the results -> what they say beyond the table, a line each.
        tables: rows of the results -> markdown in place of the table of arms.

    Raises:
        StudyError: no measures, or a measure that `tuned_on` names and `measures` does not.

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
            StudyError: there are none, two of one name, a baseline that is none of them, or candidates without
                `tuned_on`.
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
    """The folder of real data that PAIRSIFT_DATA names.

    Raises:
        StudyError: it names none.
    """
    if "PAIRSIFT_DATA" not in os.environ:
        raise StudyError("PAIRSIFT_DATA is not set: it names the folder of the real data")
    return Path(os.environ["PAIRSIFT_DATA"])


def needs(*sets: str) -> Callable[[Sequence[Arm], Scale], None]:
    """For `Study.ready`: refuses to run without these folders of real data.

    Args:
        sets: names of folders below the one that PAIRSIFT_DATA names.
    """

    def check(arms: Sequence[Arm], scale: Scale) -> None:
        missing = [name for name in sets if not (data_folder() / name).is_dir()]
        if missing:
            raise StudyError(f"PAIRSIFT_DATA={data_folder()} holds no folder {missing[0]}")

    return check
