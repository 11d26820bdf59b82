"""Shared code of the benchmarks: interleaved timing, peak memory, other libraries, and rows of results."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import json
import multiprocessing
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from lab.rows import facts, row_of, write

_LIGHTLY = ("lightly", "lightly.loss", "lightly.utils", "lightly.models", "lightly.models.modules")


def environment(threads: int) -> dict[str, Any]:
    """Versions, machine and commit as a flat record."""
    found = facts(threads)
    commit = found["commit"] or ""
    git = {"git_commit": commit.removesuffix("+") or None, "src_modified": commit.endswith("+")}
    return found["versions"] | found["machine"] | git


def emit(rows: list[dict[str, Any]], output: Path | None) -> None:
    """Print the newest record, and write all records to `output` as rows, completely or not at all."""
    print(json.dumps(rows[-1]), flush=True)
    if output is not None:
        write(output, [row_of(row["benchmark"], {k: v for k, v in row.items() if k != "benchmark"}) for row in rows])


def median_ms(contenders: dict[str, Callable[[], Any]], runs: int) -> dict[str, float]:
    """Median milliseconds of each contender, run in turn (A B C A B C ...) after one warm-up of each."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for run in range(runs + 1):
        for name, work in contenders.items():
            start = time.perf_counter()
            work()
            if run:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values) for name, values in times.items()}


def in_process(work: Callable[..., Any], *arguments: Any, limit: float = 600) -> Any:
    """The result of `work(*arguments)` in a fresh process, or None with the reason on stderr."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(theirs, work, arguments))
    process.start()
    theirs.close()
    try:
        if ours.poll(limit):
            return ours.recv()
        print(f"{work.__name__}{arguments}: stopped after {limit:g} s", file=sys.stderr)
    except EOFError:
        print(f"{work.__name__}{arguments}: died without a result (out of memory?)", file=sys.stderr)
    finally:
        process.kill()
        process.join()
    return None


def peak_growth_mb(work: Callable[[], Any]) -> float:
    """MB by which two calls raise the peak memory of this process. Call it in a fresh process, after imports."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work()
    work()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def lightly_ntxent() -> Any:
    """lightly's NTXentLoss, loaded without torchvision, or None if lightly is not installed."""
    spec = importlib.util.find_spec("lightly")
    if spec is None or not spec.submodule_search_locations:
        print("lightly is not installed: its fields are null", file=sys.stderr)
        return None
    root = Path(spec.submodule_search_locations[0])
    stubs = {name: ModuleType(name) for name in (*_LIGHTLY, "torchvision", "torchvision.ops")}
    for name in _LIGHTLY:
        stubs[name].__path__ = [str(root.joinpath(*name.split(".")[1:]))]
    stubs["torchvision.ops"].StochasticDepth = object  # type: ignore[attr-defined]
    sys.modules.update(stubs)
    try:
        return importlib.import_module("lightly.loss.ntx_ent_loss").NTXentLoss
    except ImportError as error:
        print(f"lightly cannot be imported, its fields are null: {error}", file=sys.stderr)
        return None
    finally:
        del sys.modules["torchvision"], sys.modules["torchvision.ops"]


def ratio(a: float | None, b: float | None) -> float | None:
    """a / b with three digits, or None if one is missing."""
    return round(a / b, 3) if a and b else None


def versions(*packages: str) -> dict[str, Any]:
    """Versions of other libraries, with None for those that are not installed."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return {"peers": found}


def _send(pipe: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        pipe.send(work(*arguments))
    except Exception as error:
        print(f"{work.__name__}{arguments}: {type(error).__name__}: {error}", file=sys.stderr)
        pipe.send(None)
