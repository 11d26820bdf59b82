"""The finished runs of a study on disk: a line of what they belong to, then a line of JSON each."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pairsift
from lab.records import environment
from lab.study import Arm, Row, Scale, Study, StudyError
from pairsift._base.files import replacing

# What has to agree for runs to stand in one file.
_SAME = ("study", "version", "scale")


class Ledger:
    """Runs in `runs.jsonl`; a line that a kill left half written is left out, and its run is made again.

    Args:
        file: to read now, and to write to.
        study, scale: whose runs they are.

    Raises:
        StudyError: the file holds something else: runs of another study, version or scale (it says what differs), or
            lines that are none of its own.
    """

    def __init__(self, file: Path, study: Study, scale: Scale) -> None:
        self.file, self.header = file, _header(study, scale)
        self.rows: list[Row] = []
        self._new = True
        if not file.exists():
            return
        lines = _lines(file)
        if not lines:
            return
        for name in _SAME:
            if lines[0].get(name) != self.header[name]:
                raise StudyError(
                    f"{file} was made with {name} {lines[0].get(name)!r}, and this is {name} {self.header[name]!r}: "
                    "choose another --output, or move the file away"
                )
        self.header, self.rows, self._new = lines[0], lines[1:], False

    def open(self) -> None:
        """Make the file, or take a half-written line off its end.

        Raises:
            OSError: it cannot be written.
        """
        text = "".join(json.dumps(each) + "\n" for each in (self.header, *self.rows))
        if self._new or self.file.read_text() != text:
            with replacing(self.file) as temporary:
                temporary.write_text(text)
        self._new = False

    def check(self, arms: Sequence[Arm]) -> None:
        """Refuse runs of an arm that was set otherwise.

        Raises:
            StudyError: there is one; it says what differs.
        """
        known: dict[tuple[str, str], dict[str, Any]] = {
            (arm.group, arm.name): json.loads(json.dumps(dict(arm.setting))) for arm in arms
        }
        for row in self.rows:
            setting: dict[str, Any] = row["setting"]
            wanted = known.get((row["group"], row["arm"]), setting)
            for name in sorted({*wanted, *setting}):
                made, asked = setting.get(name), wanted.get(name)
                if made != asked:
                    raise StudyError(
                        f"{self.file} holds {row['arm']!r} with {name}={made!r}, and {asked!r} is asked for: "
                        "choose another --output, or move the file away"
                    )

    def add(self, row: Row) -> None:
        """Append a run, and wait until the disk has it."""
        with self.file.open("a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.rows.append(row)


def read_runs(file: Path) -> list[Row]:
    """The runs of a file, whatever made it.

    Raises:
        StudyError: see `Ledger`.
    """
    return _lines(file)[1:]


def _header(study: Study, scale: Scale) -> dict[str, Any]:
    return {
        "study": study.name, "version": study.version, "pairsift": pairsift.__version__,
        "scale": scale, "environment": environment(1),
    }  # fmt: skip


def _lines(file: Path) -> list[dict[str, Any]]:
    *whole, torn = file.read_text().split("\n")
    lines: list[dict[str, Any]] = []
    for number, text in enumerate([*whole, torn] if torn else whole, 1):
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            if number == len(whole) + 1:
                break  # the process was killed while it wrote this
            raise StudyError(f"line {number} of {file} is no JSON: mend it, or move the file away") from None
        if not isinstance(line, dict) or (lines and not {"group", "arm", "seed", "setting", "measures"} <= line.keys()):
            raise StudyError(f"line {number} of {file} is no run of a study: mend it, or move the file away")
        lines.append(line)
    return lines
