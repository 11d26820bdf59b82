"""Plans the runs of a study, and makes them one by one, in several processes, or by Ray."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from threadpoolctl import threadpool_limits

from lab.executors import by_processes, by_ray, one_by_one
from lab.ledger import Ledger
from lab.locks import claimed
from lab.registry import find_study, names
from lab.rows import facts
from lab.study import Arm, Row, Scale, Study, StudyError
from pairsift._base.files import remove_unfinished

SMOKE_SEEDS = 2
Task = tuple[Arm, int]
Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class Plan:
    """The runs of a study that exist, and those that are to be made.

    Attributes:
        spec: name or file of the study.
        study, scale, arms: the study at a scale.
        folder: folder of the results.
        ledger: finished runs.
        todo: arms and seeds of the runs to make.
        taken: equal runs of other studies, which are copied.
    """

    spec: str
    study: Study
    scale: Scale
    arms: list[Arm]
    folder: Path
    ledger: Ledger
    todo: list[Task]
    taken: list[Row]

    @property
    def seconds(self) -> float | None:
        """Seconds of a run: the median of the finished ones, or the study's estimate at cpu scale."""
        known: list[float] = [row["measures"]["seconds"] for row in self.ledger.rows]
        if known:
            return statistics.median(known)
        return self.study.seconds if self.scale == "cpu" else None


def plan(spec: str, scale: Scale, seeds: int | None, output: Path) -> Plan:
    """Plan a study. Nothing is run or written.

    Args:
        spec: name or file of the study.
        scale: scale of the runs.
        seeds: number of seeds; None takes the study's own number.
        output: folder that holds the folder of the study.

    Raises:
        StudyError: an unknown study, seeds < 1, missing data, or existing results of other arms.
    """
    study = find_study(spec)
    count = (SMOKE_SEEDS if scale == "smoke" else study.seeds) if seeds is None else seeds
    if count < 1:
        raise StudyError(f"--seeds must be at least 1, got {count}")
    arms = study.of_scale(scale)
    folder = output / study.name
    ledger = Ledger(folder / "runs.jsonl", study, scale)
    ledger.check(arms)
    done = {(row["group"], row["arm"], row["seed"]) for row in ledger.rows}
    todo = [(arm, seed) for seed in range(count) for arm in arms if (arm.group, arm.name, seed) not in done]
    if study.ready is not None and todo:
        study.ready(arms, scale)
    shared = same_runs(study, scale, output)
    taken = [
        {**row, "group": arm.group, "arm": arm.name}
        for arm, seed in todo
        if (row := shared.get(_key(arm.setting, seed))) is not None
    ]
    made = {(row["group"], row["arm"], row["seed"]) for row in taken}
    todo = [(arm, seed) for arm, seed in todo if (arm.group, arm.name, seed) not in made]
    return Plan(spec, study, scale, arms, folder, ledger, todo, taken)


def same_runs(study: Study, scale: Scale, output: Path) -> dict[str, Row]:
    """Runs of other studies with the same function `run`, by setting and seed."""
    found: dict[str, Row] = {}
    for name in names():
        file = output / name / "runs.jsonl"
        if name == study.name or not file.is_file():
            continue
        other = find_study(name)
        if other.run is not study.run or other.version != study.version:
            continue
        with suppress(StudyError):  # of another scale or version
            rows = Ledger(file, other, scale).rows
            found |= {
                _key(row["settings"], row["seed"]): row for row in rows if row["measures"].keys() >= {*study.measures}
            }
    return found


def _key(setting: Mapping[str, Any], seed: int) -> str:
    return json.dumps([setting, seed], sort_keys=True)


def carry_out(
    made: Plan, jobs: int, progress: Callable[[int], None], engine: Engine = "local", address: str | None = None
) -> None:
    """Make the planned runs, and write every run to the ledger when it is finished.

    Args:
        made: result of `plan`.
        jobs: runs at a time. Several runs take a process each.
        progress: called with the number of finished runs, from 0 on.
        engine: "local" for processes of this machine, or "ray".
        address: address of a Ray cluster; see `by_ray`.

    Raises:
        StudyError: jobs < 1, an address without Ray, a folder that cannot be written or that another process uses, or a
            run that fails or returns bad measures. Finished runs are kept.
    """
    if jobs < 1:
        raise StudyError(f"--jobs must be at least 1, got {jobs}")
    if address is not None and engine != "ray":
        raise StudyError(f"--address is of a Ray cluster, got {address!r} with the engine {engine!r}: add --engine ray")
    with ExitStack() as stack:
        try:
            made.folder.mkdir(parents=True, exist_ok=True)
            free = stack.enter_context(claimed(made.folder))
            if free:
                remove_unfinished(made.folder)
                made.ledger.open()
        except OSError as error:
            raise StudyError(f"{made.folder} cannot be written ({error.strerror}): choose another --output") from error
        if not free:
            raise StudyError(f"another process works in {made.folder}: wait for it, or choose another --output")
        made_now = facts()
        for row in made.taken:
            made.ledger.add(row)
        progress(0)
        with closing(_finished(made, jobs, engine, address)) as finished:
            for number, row in enumerate(finished, 1):
                made.ledger.add({**row, **made_now})
                progress(number)


def _finished(made: Plan, jobs: int, engine: Engine, address: str | None) -> Generator[Row, None, None]:
    if engine == "local" and (jobs == 1 or len(made.todo) < 2):
        return one_by_one(_run, [(made.study, made.scale, arm, seed) for arm, seed in made.todo])
    # Functions of a user's file cannot be pickled, so other processes look the study up.
    spec = str(Path(made.spec).absolute()) if made.spec.endswith(".py") else made.spec
    calls = [(spec, made.scale, arm, seed) for arm, seed in made.todo]
    return by_processes(_run_found, calls, jobs) if engine == "local" else by_ray(_run_found, calls, jobs, address)


def _run_found(spec: str, scale: Scale, arm: Arm, seed: int) -> Row:
    """Make a run in another process."""
    return _run(find_study(spec), scale, arm, seed)


def _run(study: Study, scale: Scale, arm: Arm, seed: int) -> Row:
    start = time.perf_counter()
    try:
        with _one_thread():
            measures = study.run(dict(arm.setting), seed, scale)
    except Exception as error:
        raise StudyError(f"{_words(arm, seed)} failed: {type(error).__name__}: {error}") from error
    seconds = round(time.perf_counter() - start, 2)
    kept = {name: _number(name, value, arm, seed) for name, value in dict(measures).items()}
    missing = [name for name in study.measures if name not in kept]
    if missing:
        raise StudyError(f"{_words(arm, seed)} gave no {missing[0]!r}, which is among the study's measures")
    return {
        "group": arm.group, "arm": arm.name, "seed": seed, "settings": json.loads(json.dumps(dict(arm.setting))),
        "measures": kept | {"seconds": seconds},
    }  # fmt: skip


def _number(name: str, value: Any, arm: Arm, seed: int) -> Any:
    if value is None:
        return None
    if isinstance(value, list):
        return [_number(name, each, arm, seed) for each in value]
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise StudyError(f"{_words(arm, seed)} gave {name}={value!r}: a measure is a finite number, or None")
    return float(f"{number:.6g}")


def _words(arm: Arm, seed: int) -> str:
    return f"the run {arm.name!r}{f' of {arm.group}' if arm.group else ''} with seed {seed}"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread inside the block, so that a result does not depend on the number of jobs."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        torch.set_num_threads(before)
