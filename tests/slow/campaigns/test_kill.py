"""The campaign of `make campaign`, for a kill of each kind."""

import os
from pathlib import Path

import pytest
import warm

from lab.rows import read

TASKS = {"train-moco": "train, MoCo", "study-saving": "study, at saving"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked, which this system cannot do")
def test_killed_runs_end_as_if_nothing_had_happened(tmp_path):
    file = tmp_path / "campaign.json"
    program = Path(__file__).with_name("kill.py")
    found = warm.run(program, "--kills", "1", "--output", file, "--tasks", *TASKS, timeout=600)
    assert found.returncode == 0, found.stdout + found.stderr
    campaigns = read(file)
    assert [each["arm"] for each in campaigns] == list(TASKS.values())
    for each in campaigns:
        found = each["measures"]
        assert found["kills"] >= 1
        assert {name: value for name, value in found.items() if name.startswith("outcomes/")} == {
            "outcomes/same": found["runs"]
        }
        assert found["parts"] > found["made_twice"] == 0
