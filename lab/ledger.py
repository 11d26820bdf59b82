"""The finished runs of a study on disk."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lab.rows import Row, encoded, read, write
from lab.study import Arm, Scale, Study, StudyError

# Fields that all runs of a file share.
_SAME = ("study", "version", "scale")


class Ledger:
    """The runs of `runs.jsonl`. An incomplete last line is left out, and its run is made again.

    Args:
        file: file to read and write.
        study, scale: study and scale of the runs.

    Raises:
        StudyError: the file holds runs of another study, version or scale, or other lines.
    """

    def __init__(self, file: Path, study: Study, scale: Scale) -> None:
        self.file = file
        self.header: Row = {"study": study.name, "version": study.version, "scale": scale}
        self.rows = read_runs(file) if file.exists() else []
        for name in _SAME:
            if self.rows and self.rows[0][name] != self.header[name]:
                raise StudyError(
                    f"{file} was made with {name} {self.rows[0][name]!r}, and this is {name} {self.header[name]!r}: "
                    "choose another --output, or move the file away"
                )

    def open(self) -> None:
        """Create the file, or remove an incomplete last line.

        Raises:
            OSError: the file cannot be written.
        """
        if not self.file.exists() or read_runs(self.file) != self.rows or not self.file.read_text().endswith("\n"):
            write(self.file, self.rows)

    def check(self, arms: Sequence[Arm]) -> None:
        """Refuse runs of an arm with other settings.

        Raises:
            StudyError: a run has another setting, which the message names.
        """
        known: dict[tuple[str, str], dict[str, Any]] = {
            (arm.group, arm.name): json.loads(json.dumps(dict(arm.setting))) for arm in arms
        }
        for row in self.rows:
            setting: dict[str, Any] = row["settings"]
            wanted = known.get((row["group"], row["arm"]), setting)
            for name in sorted({*wanted, *setting}):
                made, asked = setting.get(name), wanted.get(name)
                if made != asked:
                    raise StudyError(
                        f"{self.file} holds {row['arm']!r} with {name}={made!r}, and {asked!r} is asked for: "
                        "choose another --output, or move the file away"
                    )

    def add(self, row: Row) -> None:
        """Append a run and sync it to the disk."""
        whole = {**row, **self.header}
        with self.file.open("a") as file:
            file.write(encoded(whole, self.rows[-1] if self.rows else None) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.rows.append(whole)


def read_runs(file: Path) -> list[Row]:
    """Read the runs of a file.

    Raises:
        StudyError: a line is not a run of a study.
    """
    try:
        return read(file)
    except ValueError as error:
        raise StudyError(str(error)) from None
