"""kill -9 at random moments of `pairsift train` and `pairsift scan`, then the same command again, until it ends.

Each run must end with what an uninterrupted one leaves, byte for byte, and without a temporary file:

    python tests/campaigns/kill.py --minutes 8 --output benchmarks/results/campaign.json

metrics.csv is compared without the columns of seconds, checkpoints by name only, TensorBoard files not. Every
kill comes at a moment drawn from a seed, uniformly over the time that an uninterrupted run takes; a command that was
resumed is killed again, up to twice. Train goes on with --resume, a scan with the same command until it has ended.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import shutil
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from results import OUTPUT, merge

from pairsift import cli
from pairsift.train.run import versions

MOST_KILLS_OF_A_RUN = 3
# With the run's own evidence: a bank, an affinity and decisions are in its checkpoints.
TRAIN = (
    "train digits:train --per-class 12 --image-size 8 --batch-size 40 --epochs 6 --treatment auto --affinity-start 2 "
    "--refit-every 2 --checkpoint-every 3 --save-features --mix 0.2 --device cpu --threads 1 --no-progress -o"
)
CLOCK = ("images_per_second", "seconds")


class Train:
    """Training that writes every kind of file a run can."""

    name = "train"

    def command(self, out: Path, again: bool) -> list[str]:
        """The command; --resume where a run has begun."""
        return [*TRAIN.split(), str(out), *(["--resume"] if again and (out / "config.yaml").exists() else [])]

    def ended(self, out: Path) -> bool:
        """Never known: a run that has ended resumes to its end."""
        return False

    def left(self, out: Path) -> dict[str, bytes]:
        """What the run left, by file, without times and paths."""
        files = {str(file.relative_to(out)): file for file in out.rglob("*") if file.is_file()}
        found = {}
        for name, file in files.items():
            if name.startswith("tensorboard") or name.endswith(".ckpt"):
                continue  # with times in them; what checkpoints hold shows in encoder, metrics and decisions
            content = file.read_bytes()
            if name == "metrics.csv":
                rows = csv.DictReader(content.decode().splitlines())
                content = json.dumps([{key: row[key] for key in row if key not in CLOCK} for row in rows]).encode()
            if name == "config.yaml":
                content = re.sub(rb"run_dir: .*", b"", content)
            found[name] = content
        return found | {f"there: {name}": b"" for name in files if not name.startswith("tensorboard")}


class Scan:
    """A scan of two parts."""

    name = "scan"

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        features = 3 * rng.standard_normal((5, 16))[np.arange(20_000) % 5] + rng.standard_normal((20_000, 16))
        self._file = folder / "features.parquet"
        pq.write_table(pa.table({"features": list(features.astype(np.float32))}), self._file)

    def command(self, out: Path, again: bool) -> list[str]:
        """The command, the same every time."""
        return ["scan", str(self._file), "--n-classes", "5", "--threads", "1", "-o", str(out)]

    def ended(self, out: Path) -> bool:
        """Whether the scan has ended, which its folder then refuses to do again."""
        return (out / "scan.json").exists() and not (out / "parts").exists()

    def left(self, out: Path) -> dict[str, bytes]:
        """What the scan left, by file."""
        return {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}


def started(command: list[str]) -> int:
    """The process of a command, forked: what it imports is there already."""
    child = os.fork()
    if child:
        return child
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    os._exit(cli.guarded(command, False))


def ended(process: int, after: float | None) -> int | None:
    """The exit code of a process; None where it was killed, which happens after so many seconds."""
    end = None if after is None else time.monotonic() + after
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if end is not None and time.monotonic() >= end:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            return None
        time.sleep(0.001)


def killed_and_resumed(task: Train | Scan, out: Path, seconds: float, rng: random.Random) -> tuple[int, int | None]:
    """How often a run was killed before it ended, and its exit code."""
    kills, most = 0, rng.randint(1, MOST_KILLS_OF_A_RUN)
    while True:
        after = rng.uniform(0, seconds) if kills < most else None
        code = ended(started(task.command(out, again=kills > 0)), after)
        if code is not None:
            return kills, code
        kills += 1
        if task.ended(out):  # killed between its last word and its end
            return kills, 0


def campaign(task: Train | Scan, folder: Path, minutes: float, seed: int) -> dict[str, object]:
    """Kill and resume runs of a task for so many minutes; what came of it."""
    start, rng = time.monotonic(), random.Random(seed)
    for i in range(2):  # the first one also fills caches
        began = time.monotonic()
        if ended(started(task.command(folder / f"whole-{i}", False)), None) != 0:
            raise RuntimeError(f"the uninterrupted {task.name} failed")
    seconds = time.monotonic() - began
    whole = task.left(folder / "whole-1")
    if task.left(folder / "whole-0") != whole:
        raise RuntimeError(f"two uninterrupted runs of {task.name} differ: nothing can be compared")
    outcomes: Counter[str] = Counter()
    runs = kills = 0
    while not runs or time.monotonic() - start < 60 * minutes:
        out = folder / "run"
        shutil.rmtree(out, ignore_errors=True)
        more, code = killed_and_resumed(task, out, seconds, rng)
        runs, kills = runs + 1, kills + more
        left = task.left(out)
        temporary = [name for name in left if name.endswith(".tmp")]
        outcome = "same"
        if code != 0:
            outcome = f"exit code {code}"
        elif temporary:
            outcome = "a temporary file is left"
        elif left != whole:
            names = sorted(name for name in left.keys() | whole.keys() if left.get(name) != whole.get(name))
            outcome = f"other {', '.join(names)}"
        outcomes[outcome] += 1
        if outcome != "same":
            print(f"{task.name}, run {runs}: {outcome}", flush=True)
    command = " ".join(task.command(Path("RUN"), False)).replace(str(folder.parent), "FOLDER")
    return {
        "task": task.name, "command": command, "seed": seed, "kills_of_a_run": f"1 to {MOST_KILLS_OF_A_RUN}",
        "seconds_uninterrupted": round(seconds, 2), "runs": runs, "kills": kills, "outcomes": dict(outcomes),
    }  # fmt: skip


def main() -> None:
    """Run both campaigns and write what came of them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=8, help="for both tasks together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for task, share in ((Train(), 0.4), (Scan(folder), 0.6)):
            (folder / task.name).mkdir()
            results.append(campaign(task, folder / task.name, share * options.minutes, options.seed))
            print(json.dumps(results[-1]), flush=True)
    merge(options.output, "kill", {"environment": versions(options.seed), "campaigns": results})
    if any(set(result["outcomes"]) != {"same"} for result in results):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
