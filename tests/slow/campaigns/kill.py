"""kill -9 at random moments of the commands, then the same command again, until it ends.

Each run must end with what an uninterrupted one leaves, byte for byte, without a temporary file, and without having
made a part again that was finished (an epoch, a part of a scan, a run of a study):

    python tests/slow/campaigns/kill.py --kills 50 --output lab/benchmarks/results/campaign.jsonl

metrics.csv and runs.jsonl are compared without their seconds, checkpoints by name only, TensorBoard files not. Every
kill comes at a moment drawn from a seed: uniformly over the time that an uninterrupted run takes, or, *at saving*,
between the writing, the syncing and the renaming of a file; what was written and not synced is then cut at random half
of the time, as a power cut leaves it. A command that was resumed is killed again, up to twice. Of two processes one or
both are killed, and the other has to end by itself.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import stat
import tempfile
import time
from collections import Counter as Tally
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from kill_tasks import Counter, Scan, Study, Task, Train
from results import OUTPUT, ROOT, merge

from pairsift.train.run import versions

MOST_KILLS_OF_A_RUN = 3
# So long may processes take to end when another one was killed, at the start of a slow machine perhaps.
PATIENCE = 300
LONGEST_RUN = 600


class Saving:
    """In a process of its own: counts the moments around the saving of files, and kills the process at one of them.

    Args:
        at: the moment, from 1 on; None only counts.
        seed: of what is cut off.
    """

    def __init__(self, at: int | None, seed: int) -> None:
        self.moments = 0
        self._at, self._rng = at, random.Random(seed)
        self._sync, self._replace = os.fsync, os.replace
        os.fsync, os.replace = self._watched_sync, self._watched_replace  # type: ignore[assignment]

    def _watched_sync(self, descriptor: int) -> None:
        self._moment(lambda: self._lose(descriptor))
        self._sync(descriptor)

    def _watched_replace(self, source: Any, target: Any) -> None:
        self._moment()
        self._replace(source, target)
        self._moment()

    def _moment(self, before: Callable[[], None] = lambda: None) -> None:
        self.moments += 1
        if self.moments == self._at:
            before()
            os.kill(os.getpid(), signal.SIGKILL)

    def _lose(self, descriptor: int) -> None:
        """Cut the last line, or a file that is not in its place yet, as if the disk had not got to it."""
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode) and self._rng.random() < 0.5:
            name = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
            whole = name.read_bytes()
            kept = 0 if name.suffix == ".tmp" else whole.rstrip(b"\n").rfind(b"\n") + 1
            os.ftruncate(descriptor, self._rng.randint(kept, len(whole)))


class Process:
    """A command under way, in one process or several, which are forked: what they import is there already.

    Args:
        task, out, again: see `Task.command`.
        saving: kills it at a moment of saving; None leaves that to `kill`.
        seed: of what is lost at that moment.
    """

    def __init__(self, task: Task, out: Path, again: bool, saving: int | None = None, seed: int = 0) -> None:
        self._moments = out.with_name("moments")
        command, port = task.command(out, again), free_port()
        self._processes = []
        for rank in range(task.processes):
            told = ranked(rank, task.processes, port) if task.processes > 1 else {}
            self._processes.append(psutil.Process(self._forked(task, command, told, saving, seed)))

    def _forked(self, task: Task, command: list[str], told: dict[str, str], saving: int | None, seed: int) -> int:
        child = os.fork()
        if child:
            return child
        os.environ.update(told)
        moments = Saving(saving, seed)
        with open(os.devnull, "w") as nowhere:
            for stream in (1, 2):
                os.dup2(nowhere.fileno(), stream)
        code = task.call(command)
        self._moments.write_text(str(moments.moments))
        os._exit(code)

    def wait(self, counter: Counter, seconds: float = LONGEST_RUN) -> int | None:
        """The first exit code that is not 0, negative after a signal; None where not all ended in time."""
        end = time.monotonic() + seconds
        codes: dict[psutil.Process, int] = {}
        while time.monotonic() < end:
            counter.look()
            for each in self._processes:
                with suppress(psutil.TimeoutExpired):
                    codes[each] = each.wait(timeout=0)
            if len(codes) == len(self._processes):
                counter.look()
                return next((code for code in codes.values() if code), 0)
            time.sleep(0.001)
        return None

    def kill(self, rng: random.Random) -> bool:
        """Kill it, or some of several processes; whether all ended."""
        for each in rng.choice([self._processes[:1], self._processes[1:] or self._processes, self._processes]):
            with suppress(psutil.NoSuchProcess):
                each.kill()
        _, left = psutil.wait_procs(self._processes, PATIENCE)
        for each in left:
            each.kill()
        return not left

    def saved(self) -> int:
        """The moments of saving of a run that ended."""
        return int(self._moments.read_text())


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def ranked(rank: int, processes: int, port: int) -> dict[str, str]:
    """What torchrun tells a process."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "LOCAL_WORLD_SIZE": processes}
    words = {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_RUN_ID": "kill"}
    return words | {name: str(number) for name, number in (numbers | {"GROUP_RANK": 0, "MASTER_PORT": port}).items()}


class Campaign:
    """Runs of a task, killed and resumed.

    Args:
        task: what is run.
        folder: for its runs.
        seed: of the moments.
        at_saving: kill around the saving of files.
    """

    def __init__(self, task: Task, folder: Path, seed: int, at_saving: bool) -> None:
        self._task, self._folder, self._at_saving = task, folder, at_saving
        self._rng, self._seed = random.Random(seed), seed
        wholes = []
        for i in range(2):  # the first one also fills caches
            began = time.monotonic()
            out = folder / f"whole-{i}"
            process = Process(task, out, False)
            if process.wait(Counter(task, out)) != 0:
                raise RuntimeError(f"the uninterrupted {task.name} failed")
            wholes.append(task.content(out))
        self._seconds = time.monotonic() - began
        self._moments = process.saved() if at_saving else 0
        if wholes[0] != wholes[1]:
            names = sorted(name for name in wholes[0] if wholes[0][name] != wholes[1].get(name))
            raise RuntimeError(f"two uninterrupted runs of {task.name} differ in {names}: nothing can be compared")
        self._whole = wholes[1]

    def run(self, kills: int, minutes: float) -> dict[str, Any]:
        """Kill so many times, or for so long, whichever comes first; what came of it."""
        start = time.monotonic()
        outcomes: Tally[str] = Tally()
        runs = killed = twice = parts = 0
        while not runs or (killed < kills and time.monotonic() - start < 60 * minutes):
            out = self._folder / "run"
            shutil.rmtree(out, ignore_errors=True)
            counter = Counter(self._task, out)
            more, outcome = self._run(out, counter)
            runs, killed, twice, parts = runs + 1, killed + more, twice + counter.twice, parts + counter.finished
            outcome = outcome or self._compared(out)
            outcomes[outcome] += 1
            if outcome != "same":
                print(f"{self._task.name}, run {runs}: {outcome}", flush=True)
        name = f"{self._task.name}, at saving" if self._at_saving else self._task.name
        command = " ".join(self._task.command(Path("RUN"), False))
        for folder, word in ((self._folder.parent, "FOLDER"), (ROOT, ".")):
            command = command.replace(str(folder), word)
        return {
            "what": name, "command": command, "seed": self._seed, "kills_of_a_run": f"1 to {MOST_KILLS_OF_A_RUN}",
            "seconds_uninterrupted": round(self._seconds, 2), "runs": runs, "kills": killed,
            "outcomes": dict(outcomes), "part": self._task.part, "parts": parts, "made_twice": twice,
        }  # fmt: skip

    def _run(self, out: Path, counter: Counter) -> tuple[int, str]:
        """How often a run was killed before it ended, and what was wrong with it, "" if nothing."""
        kills, most = 0, self._rng.randint(1, MOST_KILLS_OF_A_RUN)
        while True:
            last = kills == most
            at = None if last or not self._at_saving else self._rng.randint(1, self._moments)
            process = Process(self._task, out, kills > 0, at, self._rng.randrange(2**32))
            within = LONGEST_RUN if last or self._at_saving else self._rng.uniform(0, self._seconds)
            code = process.wait(counter, within)
            if code == 0:
                return kills, ""
            if code is None:
                if not process.kill(self._rng):
                    return kills, f"not all processes ended in {PATIENCE} s"
                if last or self._at_saving:
                    return kills, f"did not end in {LONGEST_RUN} s"
            elif at is None or code != -signal.SIGKILL:
                return kills, f"exit code {code}"
            counter.look()
            kills += 1
            if self._task.ended(out):  # killed between its last word and its end
                return kills, ""

    def _compared(self, out: Path) -> str:
        """In what a run differs from an uninterrupted one."""
        left = self._task.content(out)
        if any(name.endswith(".tmp") for name in left):
            return "a temporary file is left"
        names = sorted(name for name in left.keys() | self._whole.keys() if left.get(name) != self._whole.get(name))
        return f"other {', '.join(names)}" if names else "same"


def tasks(folder: Path) -> dict[str, Callable[[], tuple[Task, bool]]]:
    """All tasks by name, with whether they are killed at saving."""
    auto = "--treatment auto --affinity-start 2 --refit-every 2 --epochs 6"
    moco = "--method moco --queue-size 80 --treatment combined --epochs 6"
    return {
        "train": lambda: (Train("train, SimCLR", auto), False),
        "train-moco": lambda: (Train("train, MoCo", moco), False),
        "train-spectral": lambda: (Train("train, spectral", "--method spectral --treatment margin --epochs 6"), False),
        "train-two": lambda: (
            Train("train, two processes", "--devices 2 --treatment combined --epochs 15 --timeout 40", processes=2),
            False,
        ),
        "scan": lambda: (Scan(folder), False),
        "scan-ray": lambda: (Scan(folder, "scan on Ray", "--engine ray"), False),
        "study": lambda: (Study(), False),
        "train-saving": lambda: (Train("train, SimCLR", auto), True),
        "scan-saving": lambda: (Scan(folder), True),
        "study-saving": lambda: (Study(), True),
    }


def main() -> None:
    """Run the campaigns and write what came of them; those of other tasks stay in the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    known = tasks(Path())
    parser.add_argument("--tasks", nargs="+", choices=known, default=list(known))
    parser.add_argument("--kills", type=int, default=50, help="of each task")
    parser.add_argument("--minutes", type=float, default=30, help="for each task, at most")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    # Ray lets its workers step back behind everything else, and a busy machine would not let them end.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (its own name)
    failed = False
    with tempfile.TemporaryDirectory() as name:
        for each in options.tasks:
            folder = Path(name, each)
            folder.mkdir()
            task, at_saving = tasks(folder.parent)[each]()
            found = Campaign(task, folder, options.seed, at_saving).run(options.kills, options.minutes)
            print(json.dumps(found), flush=True)
            failed |= set(found["outcomes"]) != {"same"} or found["made_twice"] > 0
            merge(options.output, "kill", [found], versions(options.seed), whole=False)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
