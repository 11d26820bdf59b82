"""The soak of `make campaign`, for some seconds; and that it sees what grows."""

import gc
import importlib.util
import mmap
from pathlib import Path

import pytest
import warm

from lab.rows import read

pytest.importorskip("resource", reason="open files cannot be counted here")
PROGRAM = Path(__file__).with_name("soak.py")


def soak_of(program):
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("soak", program)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_steps_and_scans_leave_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    file = tmp_path / "campaign.json"
    found = warm.run(PROGRAM, "--steps", "900", "--scans", "5", "--output", file, timeout=900)
    assert file.exists(), found.stdout + found.stderr
    steps, scans = (row["measures"] for row in read(file))
    assert (steps["calls"], scans["calls"]) == (900, 5)
    assert steps["flat"]
    # Memory of five scans is still that of the first ones: only the long form can tell.
    assert scans["grown_objects"] <= soak_of(PROGRAM).MOST_OBJECTS
    assert scans["grown_files"] == 0


def test_what_grows_is_seen(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    soak, kept = soak_of(PROGRAM), []

    def grow(i):
        kept.append(mmap.mmap(-1, 10**6))  # memory that was given back before is not taken again
        kept[-1].write(b"x" * 10**6)

    grows = {
        "mb": grow, "objects": lambda i: kept.extend([] for _ in range(50)),
        "files": lambda i: kept.append((tmp_path / "x").open("w")),
    }  # fmt: skip
    gc.freeze()  # what other tests left is not looked at
    for name, work in grows.items():
        row = soak.soak(name, work, 50)
        assert not row["flat"], name
        assert row[f"grown_{name}"] > 0
    for file in kept:
        if hasattr(file, "close"):
            file.close()
    assert soak.soak("nothing", lambda i: None, 50)["grown_files"] == 0
    gc.unfreeze()
