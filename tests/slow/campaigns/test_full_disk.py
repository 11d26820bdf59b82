"""A disk that is full: a line or two, exit code 1, and everything that was finished still there.

A limit on the size of files stands for the full disk: it needs no rights, and writing fails in the same way.
"""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import warm
from mixtures import midpoints
from training_runs import numbers, same, weights

from pairsift import cli
from pairsift.train import Run
from pairsift.train.run import read_checkpoint

pytest.importorskip("resource", reason="sizes of files cannot be limited here")
TRAIN = ["train", "digits:train", "--per-class", "8", "--image-size", "8", "--batch-size", "32", "--epochs", "3"]
TRAIN += ["--device", "cpu", "--threads", "1", "--no-progress"]
# Runs a command after which files may have so many bytes only; train from the end of its first epoch on.
LIMITED = """
import resource, sys
from pairsift import cli
from pairsift.train.trainer import Checkpoints

def limit():
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))

def limited(checkpoints, trainer, module):
    whole(checkpoints, trainer, module)
    limit()

if sys.argv[2] == "later":
    whole, Checkpoints.on_train_epoch_end = Checkpoints.on_train_epoch_end, limited
else:
    limit()
sys.exit(cli.guarded(sys.argv[3:], False))
"""


def limited(size, when, *arguments):
    """The last words of a command that runs into a full disk."""
    found = warm.run("-c", LIMITED, size, when, *arguments, COLUMNS="200")
    assert found.returncode == 1, found.stderr
    assert "Traceback" not in found.stderr
    words = found.stderr[found.stderr.index("error: ") :].strip()
    assert len(words.splitlines()) <= 2, words
    assert "File too large" in words
    return words


def unfinished(folder):
    return [file for file in folder.rglob("*") if file.name.endswith(".tmp")]


def test_training_keeps_its_checkpoint_and_goes_on_to_the_same_end(tmp_path):
    run, whole = tmp_path / "run", tmp_path / "whole"
    words = limited(2000, "later", *TRAIN, "-o", run)
    assert "checkpoints/last.ckpt" in words
    assert words.endswith("make room, then give the command again with --resume")
    assert not unfinished(run)
    assert read_checkpoint(Run(run).last_checkpoint)["global_step"] == 2
    assert cli.guarded([*TRAIN, "--resume", "-o", str(run)], False) == 0
    assert cli.guarded([*TRAIN, "-o", str(whole)], False) == 0
    assert same(weights(run), weights(whole))
    assert numbers(run) == numbers(whole)


def test_a_run_that_could_not_even_begin_leaves_nothing_in_the_way(tmp_path):
    assert "cannot be written" in limited(100, "now", *TRAIN, "-o", tmp_path / "run")
    assert not unfinished(tmp_path)
    assert cli.guarded([*TRAIN, "--epochs", "1", "-o", str(tmp_path / "run")], False) == 0


@pytest.mark.parametrize("size", [200, 4000])
def test_a_scan_goes_on_where_the_disk_was_full(tmp_path, size):
    features, _, _ = midpoints(2000)
    file, out = tmp_path / "features.parquet", tmp_path / "out"
    pq.write_table(pa.table({"features": list(features.astype(np.float32))}), file)
    command = ["scan", file, "--n-classes", "5", "--threads", "1", "-o"]
    words = limited(size, "now", *command, out)
    assert words.endswith("make room, then give the command again")
    assert str(out) in words
    assert not unfinished(out)
    assert not (out / "scan.json").exists()
    for place in (out, tmp_path / "whole"):
        assert cli.guarded([str(each) for each in (*command, place)], False) == 0
    for name in ("scores.parquet", "pairs.parquet", "drop.csv", "scan.json"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_results_that_were_there_stay(tmp_path):
    """A second report into the same place does not cost the first."""
    page = tmp_path / "page.html"
    theory = ["theory", "graph", "--alpha", "0.5", "--beta", "0.1", "--gamma", "0.3", "-o", page]
    assert cli.guarded([str(each) for each in theory], False) == 0
    before = page.read_bytes()
    limited(2000, "now", *theory)
    assert page.read_bytes() == before
    assert os.listdir(tmp_path) == ["page.html"]
