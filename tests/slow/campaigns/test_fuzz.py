"""The fuzz campaign of `make campaign`, for some seconds; and that it finds what is wrong."""

import json
from pathlib import Path

import pytest
import warm

pytest.importorskip("resource", reason="memory cannot be limited here")
PROGRAM = Path(__file__).with_name("fuzz.py")
BROKEN = """
import runpy, sys
import pairsift, pairsift.evaluate
pairsift.evaluate.semantic_hits = lambda *_: {}
sys.argv = ["fuzz.py", "--inputs", "30", "--only", "semantic_hits", "--output", sys.argv[1]]
sys.path.insert(0, {!r})
runpy.run_path({!r}, run_name="__main__")
"""


def test_a_few_inputs_of_every_target(tmp_path):
    file = tmp_path / "campaign.json"
    file.write_text('{"kill": "what another campaign wrote"}')
    found = warm.run(PROGRAM, "--inputs", "200", "--seed", "7", "--output", file, timeout=900)
    assert found.returncode == 0, found.stdout + found.stderr
    results = json.loads(file.read_text())
    assert results["kill"] == "what another campaign wrote"
    assert 200 <= results["fuzz"]["inputs"] < 300
    assert len(results["fuzz"]["targets"]) > 15
    assert sum(row.get("result", 0) for row in results["fuzz"]["targets"]) > 50
    assert sum(row.get("refused", 0) for row in results["fuzz"]["targets"]) > 50


@pytest.mark.parametrize("result", ["2.0", "float('x')"])
def test_defects_are_found(result, tmp_path):
    """A share beyond 1, and errors that no one meant: a function that goes wrong ends the campaign with it."""
    file = tmp_path / "campaign.json"
    program = BROKEN.format(result, str(PROGRAM.parent), str(PROGRAM))
    found = warm.run("-c", program, file, timeout=300)
    assert found.returncode == 1, found.stderr
    assert json.loads(file.read_text())["fuzz"]["defects"] == ["semantic_hits"]
