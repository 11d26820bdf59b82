"""The soak of `make campaign`, for some seconds; and that it sees what grows."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("resource", reason="open files cannot be counted here")
PROGRAM = Path(__file__).with_name("soak.py")


def test_steps_and_scans_leave_nothing_behind(tmp_path):
    file = tmp_path / "campaign.json"
    command = [sys.executable, PROGRAM, "--steps", "1800", "--scans", "5", "--output", file]
    found = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
    steps, scans = json.loads(file.read_text())["soak"]["rows"]
    assert (steps["calls"], scans["calls"]) == (1800, 5)
    assert steps["flat"]
    assert scans["flat"]


def test_what_grows_is_seen(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    spec = importlib.util.spec_from_file_location("soak", PROGRAM)
    soak = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(soak)
    kept = []
    grows = {
        "mb": lambda i: kept.append(bytearray(b"x" * 10**6)), "objects": lambda i: kept.extend([] for _ in range(50)),
        "files": lambda i: kept.append((tmp_path / "x").open("w")),
    }  # fmt: skip
    for name, work in grows.items():
        row = soak.soak(name, work, 50)
        assert not row["flat"], name
        assert row[f"grown_{name}"] > 0
    for file in kept:
        if hasattr(file, "close"):
            file.close()
    assert soak.soak("nothing", lambda i: None, 50)["grown_files"] == 0
