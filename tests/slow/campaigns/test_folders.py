"""A folder that vanishes or is only read, a clock that jumps, a worker that dies: a line or two, nothing lost."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import warm
from mixtures import midpoints
from training_runs import numbers, same, weights

from pairsift import cli

TRAIN = ["train", "digits:train", "--per-class", "8", "--image-size", "8", "--batch-size", "32", "--epochs", "3"]
TRAIN += ["--device", "cpu", "--threads", "1", "--no-progress"]
# Runs a command whose folder is gone when its first epoch, or its first part, has ended.
VANISHING = """
import shutil, sys
from pairsift import cli
from pairsift.scanning import work
from pairsift.train.trainer import Checkpoints

def then_gone(whole):
    def call(*arguments):
        found = whole(*arguments)
        shutil.rmtree(sys.argv[1])
        return found
    return call

work.PART_ROWS = 100
work.Task.run = then_gone(work.Task.run)
Checkpoints.on_train_epoch_end = then_gone(Checkpoints.on_train_epoch_end)
sys.exit(cli.guarded(sys.argv[2:], False))
"""


def features_file(path, n=300):
    pq.write_table(pa.table({"features": pa.array(list(midpoints(n)[0].astype(np.float32)))}), path)
    return path


@pytest.mark.parametrize("command", ["train", "scan"])
def test_a_folder_that_vanishes(tmp_path, command):
    out = tmp_path / "out"
    scan = ["scan", features_file(tmp_path / "x.parquet"), "--n-classes", "5", "--threads", "1"]
    words = [str(each) for each in (TRAIN if command == "train" else scan)]
    found = warm.run("-c", VANISHING, out, *words, "-o", out, COLUMNS="200")
    assert found.returncode == 1, found.stderr
    assert "Traceback" not in found.stderr
    said = found.stderr[found.stderr.index("error: ") :].strip()
    assert len(said.splitlines()) <= 2, said
    assert "No such file or directory" in said
    assert "--debug" not in said
    assert str(out) in said


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
@pytest.mark.parametrize("command", ["train", "scan", "pairs", "text-views", "theory"])
def test_a_folder_that_is_only_read(tmp_path, command, capsys):
    (tmp_path / "x.txt").write_text("a good day\n")
    pq.write_table(pa.table({"anchor": ["a", "b"], "positive": ["c", "d"]}), tmp_path / "pairs.parquet")
    place = tmp_path / "closed"
    place.mkdir(mode=0o500)
    words = {
        "train": [*TRAIN, "-o", place / "run"],
        "scan": ["scan", features_file(tmp_path / "x.parquet"), "-o", place / "out"],
        "pairs": ["pairs", tmp_path / "pairs.parquet", "-o", place / "out"],
        "text-views": ["text-views", tmp_path / "x.txt", "-o", place / "x.parquet"],
        "theory": ["theory", "graph", "--alpha", "0.5", "--beta", "0.1", "--gamma", "0.3", "-o", place / "x.html"],
    }[command]
    assert cli.guarded([str(each) for each in words], False) == 1
    said = capsys.readouterr().err
    assert "ermission denied" in said
    assert len(said[said.index("error: ") :].strip().splitlines()) <= 2
    assert not list(place.iterdir())


def test_a_clock_that_jumps_changes_nothing(tmp_path, monkeypatch):
    real, calls = time.time, iter(range(10**9))
    for name in ("steady", "jumping"):
        if name == "jumping":
            monkeypatch.setattr(time, "time", lambda: real() + 1e7 * (-1) ** next(calls))
        assert cli.guarded([*TRAIN, "-o", str(tmp_path / name)], False) == 0
        scan = ["scan", str(features_file(tmp_path / "x.parquet")), "--n-classes", "5", "--threads", "1", "-o"]
        assert cli.guarded([*scan, str(tmp_path / f"{name}-scan")], False) == 0
    assert same(weights(tmp_path / "jumping"), weights(tmp_path / "steady"))
    assert numbers(tmp_path / "jumping") == numbers(tmp_path / "steady")
    for file in (tmp_path / "steady-scan").iterdir():
        assert (tmp_path / "jumping-scan" / file.name).read_bytes() == file.read_bytes()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="processes are killed by signals")
def test_a_worker_of_ray_that_dies_is_replaced(tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'pairsift[distributed]'")
    file, out = features_file(tmp_path / "x.parquet"), tmp_path / "out"
    scan = ["scan", str(file), "--n-classes", "5", "-o", str(out), "--engine", "ray"]
    process = subprocess.Popen([sys.executable, "-m", "pairsift", *scan], stdout=subprocess.DEVNULL)
    killed = set()
    try:
        while process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                # A worker that scores: Ray itself does not live on without its agents.
                if "".join(child.cmdline()[:1]).startswith("ray::Map") and not killed:
                    killed.add(child.pid)
                    child.kill()
            time.sleep(0.01)
    except psutil.NoSuchProcess:
        pass
    assert process.wait() == 0
    assert killed
    assert (out / "report.html").exists()
