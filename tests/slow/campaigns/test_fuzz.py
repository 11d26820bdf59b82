"""The fuzz campaign of `make campaign`, for some seconds; and that it finds what is wrong."""

from pathlib import Path

import pytest
import warm

from lab.rows import read, row_of, write

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
    write(file, [row_of("kill", {"runs": 3}, arm="what another campaign wrote")])
    found = warm.run(PROGRAM, "--inputs", "200", "--seed", "7", "--output", file, timeout=900)
    assert found.returncode == 0, found.stdout + found.stderr
    other, *rows = read(file)
    assert (other["study"], other["arm"], other["measures"]) == ("kill", "what another campaign wrote", {"runs": 3})
    assert 200 <= sum(row["measures"]["inputs"] for row in rows) < 300
    assert len(rows) > 15
    assert sum(row["measures"].get("result", 0) for row in rows) > 50
    assert sum(row["measures"].get("refused", 0) for row in rows) > 50


@pytest.mark.parametrize("result", ["2.0", "float('x')"])
def test_defects_are_found(result, tmp_path):
    """A share beyond 1, and errors that no one meant: a function that goes wrong ends the campaign with it."""
    file = tmp_path / "campaign.json"
    program = BROKEN.format(result, str(PROGRAM.parent), str(PROGRAM))
    found = warm.run("-c", program, file, timeout=300)
    assert found.returncode == 1, found.stderr
    assert {row["arm"]: row["measures"]["defects"] for row in read(file)} == {"semantic_hits": 1}
