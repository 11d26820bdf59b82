"""The campaign of `make campaign`, for a kill of each kind."""

import json
import os
from pathlib import Path

import pytest
import warm

TASKS = {"train-moco": "train, MoCo", "study-saving": "study, at saving"}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked, which this system cannot do")
def test_killed_runs_end_as_if_nothing_had_happened(tmp_path):
    file = tmp_path / "campaign.json"
    program = Path(__file__).with_name("kill.py")
    found = warm.run(program, "--kills", "1", "--output", file, "--tasks", *TASKS, timeout=600)
    assert found.returncode == 0, found.stdout + found.stderr
    campaigns = json.loads(file.read_text())["kill"]["campaigns"]
    assert [each["task"] for each in campaigns] == list(TASKS.values())
    for each in campaigns:
        assert each["kills"] >= 1
        assert each["outcomes"] == {"same": each["runs"]}
        assert each["parts"] > each["made_twice"] == 0
