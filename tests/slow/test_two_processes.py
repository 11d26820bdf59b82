"""Training by several processes from the command line, as a user starts, stops and loses them."""

import csv
import signal
import socket
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
import warm
from safetensors.torch import load_file
from sklearn.datasets import load_digits

COMMAND = ["-m", "pairsift.cli", "train", "digits", "--batch-size", "128", "--threads", "1"]


def start(run, *flags, **environment):
    """The command as a user gives it; a second process is started by Lightning."""
    return warm.Program(*COMMAND, *flags, "-o", run, **environment)


def free_port():
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def ended(program):
    """All that was said in a run that has ended well."""
    code = program.wait()
    assert code == 0, program.stdout + program.stderr
    return program.stdout + program.stderr


class Ranks:
    """Two processes of a run as torchrun starts them, which need not import anything first."""

    def __init__(self, run, *flags):
        told = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0, "TORCHELASTIC_RUN_ID": "x"}
        told |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
        self.members = [
            warm.Program(
                *COMMAND, *flags, "-o", run,
                **{name: str(value) for name, value in (told | {"RANK": rank, "LOCAL_RANK": rank}).items()},
            )
            for rank in range(2)
        ]  # fmt: skip

    def wait(self, timeout=120):
        """Exit codes and all that was said."""
        codes = [each.wait(timeout) for each in self.members]
        return codes, "".join(each.stdout + each.stderr for each in self.members)


def rows(run):
    with Path(run, "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)]


def wait_for(condition, limit=60):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two processes that nothing disturbs."""
    run = tmp_path_factory.mktemp("whole") / "run"
    output = ended(start(run, "--epochs", "4", "--devices", "2", "--treatment", "combined"))
    assert output.count("trained in") == 1  # one process talks
    return run


def test_two_processes_share_every_batch(whole):
    assert [int(row["epoch"]) for row in rows(whole)] == [1, 2, 3, 4]
    assert [int(row["step"]) for row in rows(whole)] == [14, 28, 42, 56]
    # Ranks 40 to 57 of the 255 other views: those of both processes.
    assert {round(float(row["flagged"]), 4) for row in rows(whole)} == {round(18 / 255, 4)}
    losses = [float(row["loss"]) for row in rows(whole)]
    assert losses[-1] < losses[0] - 0.1
    assert all(torch.isfinite(x).all() for x in load_file(whole / "encoder.safetensors").values())


@pytest.mark.parametrize("whom", ["all", "the first", "the second"])
def test_a_stopped_run_resumes_to_the_same_result(whole, whom, tmp_path):
    run = tmp_path / "run"
    if whom == "all":  # Ctrl-C in a terminal
        process = start(run, "--epochs", "4", "--devices", "2", "--treatment", "combined")
        wait_for(lambda: (run / "metrics.csv").exists())
        for each in (psutil.Process(process.pid), *psutil.Process(process.pid).children()):
            each.send_signal(signal.SIGINT)
        assert process.wait() == 130, process.stderr
        output = process.stdout + process.stderr
    else:
        ranks = Ranks(run, "--epochs", "4", "--devices", "2", "--treatment", "combined")
        wait_for(lambda: (run / "metrics.csv").exists())
        ranks.members[whom == "the second"].send_signal(signal.SIGTERM)
        codes, output = ranks.wait()
        assert codes == [130, 130], output
    assert output.count("continue with: pairsift train --resume") == 1
    assert Ranks(run, "--resume").wait()[0] == [0, 0]
    assert rows(run) == rows(whole)
    ours, theirs = load_file(run / "encoder.safetensors"), load_file(whole / "encoder.safetensors")
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("whom", ["first", "second"])
def test_a_killed_process_stops_the_other_with_a_message(whom, tmp_path):
    run = tmp_path / "run"
    ranks = Ranks(run, "--epochs", "400", "--devices", "2", "--treatment", "combined")
    wait_for(lambda: (run / "checkpoints" / "last.ckpt").exists())
    ranks.members[whom == "second"].kill()
    output = ranks.wait(60)[1]
    assert "one of 2 processes ended or lost its connection" in output
    assert "--resume continues" in output
    assert (run / "checkpoints" / "last.ckpt").exists()


def test_a_stalled_process_stops_the_other_within_the_timeout(tmp_path):
    flags = ("--epochs", "4000", "--devices", "2", "--treatment", "combined", "--timeout", "20")
    runs = {whom: Ranks(tmp_path / whom, *flags) for whom in ("first", "second")}  # side by side: they mostly wait
    stalled, others = [], []
    for whom, ranks in runs.items():
        wait_for((tmp_path / whom / "checkpoints" / "last.ckpt").exists, 600)
        first, second = ranks.members
        stalled.append(first if whom == "first" else second)
        others.append(second if whom == "first" else first)
        stalled[-1].send_signal(signal.SIGSTOP)
    try:
        assert [each.wait(300) for each in others] == [1, 1]
    finally:
        for each in stalled:
            each.kill()
    for whom, ranks in runs.items():
        output = ranks.wait()[1]
        assert "or did not answer in 20 s, so all stopped" in output
        assert "--resume continues" in output
        assert (tmp_path / whom / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize("method", ["moco", "spectral"])
def test_other_methods_and_chunks(method, tmp_path):
    flags = ("--epochs", "2", "--devices", "2", "--treatment", "combined", "--method", method)
    flags += ("--mini-batch-size", "40")
    codes, output = Ranks(tmp_path / "run", *flags).wait()
    assert codes == [0, 0], output
    last = rows(tmp_path / "run")[-1]
    assert 0.06 < float(last["flagged"]) < 0.08
    assert 0.7 < float(last["different"]) <= 1
    assert 0.88 < float(last["different_base"]) < 0.91


def test_a_guide_is_shared_by_all_processes(tmp_path):
    guide = tmp_path / "guide.npy"
    np.save(guide, load_digits().data.astype(np.float32))
    flags = ("--epochs", "2", "--devices", "2", "--treatment", "combined", "--select", "affinity")
    codes, output = Ranks(tmp_path / "run", *flags, "--same-class-weight", "1", "--guide", guide).wait()
    assert codes == [0, 0], output
    assert output.count("guide: ") == 1
    for row in rows(tmp_path / "run"):
        assert 0.1 < float(row["flagged"]) < 0.2
        assert 0.8 <= float(row["different"]) <= 1
        assert 0.8 <= float(row["estimated"]) <= 1


def test_processes_of_torchrun(whole, tmp_path):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *COMMAND)
    flags = ("--epochs", "4", "--devices", "2", "--treatment", "combined", "-o", tmp_path / "run")
    ended(warm.Program(*launcher, *flags))
    assert rows(tmp_path / "run") == rows(whole)


def test_two_nodes_of_one_device(tmp_path):
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    nodes = [start(tmp_path / "run", "--epochs", "1", "--nodes", "2", NODE_RANK=rank, **told) for rank in "01"]
    outputs = [ended(node) for node in nodes]
    assert "trained in" in outputs[0]
    assert outputs[1] == ""
    assert len(rows(tmp_path / "run")) == 1
