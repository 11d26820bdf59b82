"""Every notebook runs headless, and holds no outputs."""

import json
import os
import re
from pathlib import Path

import pytest

NOTEBOOKS = sorted(Path(__file__).parents[2].joinpath("examples").glob("*.ipynb"))


def test_there_are_notebooks():
    assert {path.stem for path in NOTEBOOKS} == {"adapt", "scan", "train"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_and_holds_no_outputs(path):
    cells = json.loads(path.read_text())["cells"]
    assert path.stat().st_size < 20_000
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.fixture
def executed(tmp_path, monkeypatch):
    """Runs a notebook in an empty folder; gives what it printed, and how many images it showed."""
    nbclient = pytest.importorskip("nbclient", reason="notebooks need nbclient")
    pytest.importorskip("ipykernel", reason="notebooks need ipykernel")
    nbformat = pytest.importorskip("nbformat")

    def run(name):
        (path,) = (each for each in NOTEBOOKS if each.stem == name)
        monkeypatch.setenv(
            "PYTHONPATH", os.pathsep.join(filter(None, [str(path.parents[1] / "src"), os.environ.get("PYTHONPATH")]))
        )
        book = nbformat.read(path, 4)
        nbclient.NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
        outputs = [output for cell in book.cells for output in cell.get("outputs", [])]
        said = "".join(output.get("text", "") for output in outputs if output.get("name") == "stdout")
        return said, sum("image/png" in output.get("data", {}) for output in outputs)

    return run


def test_the_notebook_of_training_shows_what_treating_and_solving_gain(executed):
    said, images = executed("train")
    shares = [float(share) for share in re.findall(r"epoch \d: ([\d.]+)% treated", said)]
    assert shares == pytest.approx([15.1] * len(shares), abs=0.5)
    near = dict(re.findall(r"(\w+): linear probe [\d.]+%, 20-NN ([\d.]+)%", said))
    assert float(near["plain"]) < min(float(near["auto"]), float(near["exact"]))
    assert images == 1


def test_the_notebook_of_the_scan_finds_what_was_mixed(executed):
    said, images = executed("scan")
    assert float(re.search(r"auroc=([\d.]+)", said)[1]) > 0.85
    mixed = [int(share) for share in re.findall(r"(\d+)% of them mixed", said)]
    assert mixed[1] < mixed[0] == 20
    assert images == 1


def test_the_notebook_of_pairs_brings_digits_of_a_kind_together(executed):
    said, images = executed("adapt")
    frozen, adapted = (float(re.search(rf"{name}: ([\d.]+)% of the 100", said)[1]) for name in ("frozen", "adapted"))
    assert adapted > frozen + 10
    assert images == 1
