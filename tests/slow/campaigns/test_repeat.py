"""The table of determinism of `make campaign`, a part of it."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import warm

from lab.rows import read

PROGRAM = Path(__file__).with_name("repeat.py")
pytest.importorskip("resource", reason="runs are forked, which this system cannot do")


def test_a_command_is_measured(tmp_path):
    file = tmp_path / "campaign.json"
    found = warm.run(PROGRAM, "--only", "text-views", "--output", file, timeout=600)
    assert found.returncode == 0, found.stdout + found.stderr
    (row,) = read(file)
    assert (row["arm"], row["measures"]["again"], row["measures"]["two_threads"]) == ("text-views", 0, 0)


def test_differences_are_seen(monkeypatch):
    monkeypatch.syspath_prepend(str(PROGRAM.parent))
    spec = importlib.util.spec_from_file_location("repeat", PROGRAM)
    repeat = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(repeat)
    x = np.array([3.0, 4.0])
    assert repeat.difference({"x": x, "name": np.array(["a"])}, {"x": x.copy(), "name": np.array(["a"])}) == 0
    assert repeat.difference({"x": x}, {"x": x + np.array([0, 5e-6])}) == pytest.approx(1e-6)
    assert repeat.difference({"x": x}, {"x": np.array([[3.0, 4.0]])}) == np.inf
    assert repeat.difference({"name": np.array(["a"])}, {"name": np.array(["b"])}) == np.inf
    with pytest.raises(RuntimeError, match="different files"):
        repeat.difference({"x": x}, {})
