"""Stateful target of the fuzz campaign: a folder of a scan that is begun, stopped, damaged, continued and read."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import broken
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fuzz_api import expect
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from judge import Judge

import pairsift as ps
from pairsift.scanning import work
from pairsift.scanning.result import FILES


class Stopped(BaseException):
    """What stops a scan as a kill would: nothing of the library waits for it."""


class Folder(RuleBasedStateMachine):
    """Whatever happened to a folder, a scan into it ends as one into an empty folder, or is refused in words.

    Damage to what a finished scan left, or to a part file, is refused where it is read.
    """

    judge: Judge
    parts = 32  # rows of a part: a scan of the shelf's features has several
    whole: dict[str, bytes] | None = None

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="pairsift-fuzz-"))
        self.out = self.place / "out"
        self.rows = work.PART_ROWS
        work.PART_ROWS = self.parts

    @initialize()
    def features(self) -> None:
        """Features, and what a scan of them leaves when nothing happens."""
        rng = np.random.default_rng(0)
        x = (3 * rng.standard_normal((3, 6))[np.arange(150) % 3] + rng.standard_normal((150, 6))).astype(np.float32)
        pq.write_table(pa.table({"features": list(x)}), self.place / "features.parquet")
        if type(self).whole is None:
            self.scan(self.place / "whole", None, False, 3)
            type(self).whole = left(self.place / "whole")

    def scan(self, out: Path, stop: int | None, overwrite: bool, n_classes: int) -> Any:
        """A scan that is stopped before so many parts are counted."""
        counted = 0

        def progress(done: int, n: int) -> None:
            nonlocal counted
            counted += 1
            if counted == stop:
                raise Stopped

        # The name of the features is among the settings, so that it must be the same in every folder.
        features = ps.data.open_features(self.place / "features.parquet")
        features.name = "features"
        return ps.scan(features, n_classes, threads=1, output=out, overwrite=overwrite, progress=progress)

    @rule(stop=st.none() | st.integers(1, 5), overwrite=st.booleans(), n_classes=st.sampled_from((3, 3, 3, 4)))
    def scans(self, stop: int | None, overwrite: bool, n_classes: int) -> None:
        """A scan, perhaps of other settings, perhaps stopped."""

        def check(found: Any) -> None:
            if n_classes == 3:
                expect(left(self.out) == self.whole, "a scan that differs from an undisturbed one")

        try:
            self.judge.call(lambda: self.scan(self.out, stop, overwrite, n_classes), check)
        except Stopped:
            self.judge.outcomes["stopped"] += 1

    @rule()
    def loads(self) -> None:
        """The scan in the folder."""
        self.judge.call(lambda: ps.Scan.load(self.out), lambda found: expect(len(found) == 150, "number of rows"))

    @rule(how=broken.damages(), which=st.integers(0, 20))
    def damages(self, how: Any, which: int) -> None:
        """Damage to one of the files there."""
        files = sorted(file for file in self.out.rglob("*") if file.is_file())
        # What is in a folder that holds a finished scan is replaced whole; JSON without a checksum is left alone.
        files = [file for file in files if file.suffix == ".parquet"]
        if files and how[0] not in ("folder", "other"):
            broken.damage(files[which % len(files)], how, self.place / "features.parquet")

    @rule(which=st.sampled_from((*FILES, "parts")))
    def removes(self, which: str) -> None:
        """A file, or all parts."""
        if which == "parts":
            shutil.rmtree(self.out / which, ignore_errors=True)
        elif (self.out / which).is_file():
            (self.out / which).unlink()

    @invariant()
    def nothing_temporary(self) -> None:
        """A stopped scan cleans up after itself: only a killed process leaves temporary files."""
        expect(not list(self.place.rglob("*.tmp")), "a temporary file is left")

    def teardown(self) -> None:
        """Remove the folder."""
        work.PART_ROWS = self.rows
        shutil.rmtree(self.place)


def left(folder: Path) -> dict[str, bytes]:
    """What is in the folder of a scan."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
