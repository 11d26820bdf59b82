"""Commands for `kill.py` to kill: what they are, what they leave, and which parts of it are finished when."""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from results import ROOT

from lab.rows import read
from pairsift import cli
from pairsift.scanning import work
from pairsift.train.run import read_checkpoint

# What tells a file from another one that took its place.
Stamp = tuple[int, int, int]
Parts = dict[Hashable, Hashable]
CLOCK = ("images_per_second", "seconds")


class Task(ABC):
    """A command that can be killed and goes on.

    Attributes:
        name: in the results.
        part: what it finishes one after the other, in the plural.
        processes: that it is started in, at the same time.
    """

    name: str
    part: ClassVar[str]
    processes: int = 1

    @abstractmethod
    def command(self, out: Path, again: bool) -> list[str]:
        """The command, for the first time or again."""

    def call(self, command: list[str]) -> int:
        """Run the command in this process; its exit code."""
        return cli.guarded(command, False)

    @abstractmethod
    def ended(self, out: Path) -> bool:
        """Whether nothing is left to do, which the command would refuse to do again."""

    @abstractmethod
    def content(self, out: Path) -> dict[str, bytes]:
        """What it left, by file, without seconds and paths."""

    @abstractmethod
    def watched(self, out: Path) -> Iterable[Path]:
        """Files that say which parts are finished."""

    @abstractmethod
    def parts(self, file: Path, stamp: Stamp) -> Parts:
        """The finished parts that a watched file tells of, and what would be another if a part were made again."""


class Train(Task):
    """Training that writes every kind of file a run can.

    Args:
        name: in the results.
        flags: of the method.
        processes: see `Task`.
    """

    part = "epochs"

    def __init__(self, name: str, flags: str, processes: int = 1) -> None:
        self.name, self.processes = name, processes
        self._flags = flags.split()

    def command(self, out: Path, again: bool) -> list[str]:
        """--resume where a run has begun."""
        usual = "train digits:train --per-class 12 --image-size 8 --batch-size 40 --checkpoint-every 3 --device cpu"
        usual += " --threads 1 --no-progress --mix 0.2 --save-features"
        again = again and (out / "config.yaml").exists()
        return [*usual.split(), *self._flags, "-o", str(out), *(["--resume"] if again else [])]

    def ended(self, out: Path) -> bool:
        return False  # a run that has ended resumes to its end

    def content(self, out: Path) -> dict[str, bytes]:
        files = {str(file.relative_to(out)): file for file in out.rglob("*") if file.is_file()}
        found = {}
        for name, file in files.items():
            if name.startswith("tensorboard") or name.endswith(".ckpt"):
                continue  # with times in them; what checkpoints hold shows in encoder, metrics and decisions
            content = file.read_bytes()
            if name == "metrics.csv":
                rows = csv.DictReader(content.decode().splitlines())
                content = json.dumps([{key: row[key] for key in row if key not in CLOCK} for row in rows]).encode()
            if name == "config.yaml":
                content = re.sub(rb"run_dir: .*", b"", content)
            found[name] = content
        return found | {f"there: {name}": b"" for name in files if not name.startswith("tensorboard")}

    def watched(self, out: Path) -> Iterable[Path]:
        return [out / "checkpoints" / "last.ckpt"]

    def parts(self, file: Path, stamp: Stamp) -> Parts:
        return {read_checkpoint(file)["global_step"]: stamp}


class Scan(Task):
    """A scan of several parts, small ones: a kill is worth the same in them, and comes sooner.

    Args:
        folder: for its features.
        name: in the results.
        flags: of the engine.
    """

    part = "parts"

    def __init__(self, folder: Path, name: str = "scan", flags: str = "--threads 1") -> None:
        self.name = name
        self._flags = flags.split()
        work.PART_ROWS = 512  # the commands are forked from this process
        rng = np.random.default_rng(0)
        features = 3 * rng.standard_normal((5, 16))[np.arange(4000) % 5] + rng.standard_normal((4000, 16))
        self._file = folder / "features.parquet"
        pq.write_table(pa.table({"features": list(features.astype(np.float32))}), self._file)

    def command(self, out: Path, again: bool) -> list[str]:
        """The same every time."""
        return ["scan", str(self._file), "--n-classes", "5", *self._flags, "-o", str(out)]

    def ended(self, out: Path) -> bool:
        return (out / "scan.json").exists() and not (out / "parts").exists()

    def content(self, out: Path) -> dict[str, bytes]:
        return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}

    def watched(self, out: Path) -> Iterable[Path]:
        return (out / "parts").glob("scores-*.parquet")

    def parts(self, file: Path, stamp: Stamp) -> Parts:
        return {file.name: stamp}


class Study(Task):
    """The study of the examples, over some seeds."""

    name, part = "study", "runs"

    def command(self, out: Path, again: bool) -> list[str]:
        """The same every time."""
        study = ROOT / "examples" / "own_study.py"
        return [str(study), "--scale", "smoke", "--seeds", "8", "-o", str(out)]

    def call(self, command: list[str]) -> int:
        """Run the study; its exit code."""
        sys.path.append(str(ROOT))  # the lab is part of the checkout, not of what is installed
        from lab.__main__ import main

        return main(command)

    def ended(self, out: Path) -> bool:
        return False  # a finished study makes its table again

    def content(self, out: Path) -> dict[str, bytes]:
        files = {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}
        rows = read(out / "own" / "runs.jsonl")
        for row in rows:
            del row["measures"]["seconds"]
        return files | {"own/runs.jsonl": json.dumps(rows).encode()}

    def watched(self, out: Path) -> Iterable[Path]:
        return [out / "own" / "runs.jsonl"]

    def parts(self, file: Path, stamp: Stamp) -> Parts:
        rows = read(file)
        return {(row["group"], row["arm"], row["seed"]): number for number, row in enumerate(rows)}


class Counter:
    """Looks at a task's finished parts again and again, and counts those that were made a second time."""

    def __init__(self, task: Task, out: Path) -> None:
        self._task, self._out = task, out
        self._stamps: dict[Path, Stamp] = {}
        self._seen: dict[Hashable, set[Hashable]] = {}

    def look(self) -> None:
        """Note what is finished now; a folder may go when everything is done."""
        with suppress(FileNotFoundError):
            for file in self._task.watched(self._out):
                self._look_at(file)

    def _look_at(self, file: Path) -> None:
        found = os.stat(file)
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._stamps.get(file) != stamp:
            for part, made in self._task.parts(file, stamp).items():
                self._seen.setdefault(part, set()).add(made)
            self._stamps[file] = stamp

    @property
    def finished(self) -> int:
        """Parts that were seen to be finished."""
        return len(self._seen)

    @property
    def twice(self) -> int:
        """Parts made again although they were finished, each as often as it was."""
        return sum(len(made) - 1 for made in self._seen.values())
