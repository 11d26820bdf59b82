"""How many files of the package get the rows of an embedding file, from the command to scores.parquet."""

import sys
from pathlib import Path

import numpy as np

import pairsift
from pairsift import scanning
from pairsift.cli.app import guarded

SOURCE, WIDTH, MOST = str(Path(pairsift.__file__).parent), 37, 12
# The levels are a result beside the scores, and checks of arguments are no step.
APART = {"levels_by_ranks", "levels_by_labels"}


def holds_rows(frame):
    """Whether an argument of a call is rows of the features, or an open file of them."""
    code = frame.f_code
    given = (frame.f_locals.get(name) for name in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    return any(
        (hasattr(type(each), "blocks") and hasattr(type(each), "take"))
        or (getattr(each, "ndim", 0) == 2 and each.shape[1] == WIDTH)
        for each in given
    )


def test_an_embedding_file_passes_few_files(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "f.npy", np.eye(WIDTH, dtype=np.float32)[np.arange(300) % 4] + 0.3 * rng.random((300, WIDTH)))
    passed, apart, done = [], 0, tmp_path / "out" / "scores.parquet"
    assert scanning.scan  # a module that is imported while a call is traced would count

    def watch(frame, event, _):
        nonlocal apart
        code = frame.f_code
        if code.co_name in APART:
            apart += {"call": 1, "return": -1}.get(event, 0)
        name = code.co_filename.removeprefix(SOURCE + "/")
        if event != "call" or apart or name == code.co_filename or name.startswith("_base") or name in passed:
            return
        if code.co_name != "<module>" and holds_rows(frame) and not done.exists():
            passed.append(name)

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        assert guarded(["scan", str(tmp_path / "f.npy"), "-o", str(done.parent)], False) == 0
    finally:
        sys.setprofile(before)
    assert done.exists()
    assert {"cli/scan.py", "data/features.py", "scanning/scanning.py", "scanning/reference.py"} <= {*passed}
    assert len(passed) <= MOST, passed
