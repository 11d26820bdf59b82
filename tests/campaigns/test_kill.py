"""The campaign of `make campaign`, for some seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="runs are forked, which this system cannot do")
def test_killed_runs_end_as_if_nothing_had_happened(tmp_path):
    # Where everything takes longer, no moment of some seconds may fall into a run.
    kills = 0
    for minutes in ("0.1", "1"):
        file = tmp_path / f"campaign-{minutes}.json"
        command = [sys.executable, Path(__file__).with_name("kill.py"), "--minutes", minutes, "--output", file]
        found = subprocess.run(command, capture_output=True, text=True, timeout=600)
        assert found.returncode == 0, found.stdout + found.stderr
        campaigns = json.loads(file.read_text())["kill"]["campaigns"]
        assert [each["task"] for each in campaigns] == ["train", "scan"]
        for each in campaigns:
            assert each["outcomes"] == {"same": each["runs"]}
        kills += sum(each["kills"] for each in campaigns)
        if kills:
            break
    assert kills > 0
