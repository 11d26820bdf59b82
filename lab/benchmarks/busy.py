"""Measures training alone and as two processes on the same cores, with OpenMP's default waiting and with ours.

    python -m lab.benchmarks.busy [--runs 5] [--epochs 2] [--output lab/benchmarks/results/busy.jsonl]

One JSON line per way to run: the median images a second of a process that trains plain SimCLR on 16-pixel digits, and
its CPU seconds. Every process has as many threads as there are cores, except on the line of one thread. Ways run in
turn. The waiting matters only where PyTorch uses GNU's OpenMP, as on Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.benchmarks._common import emit, environment
from pairsift.cli import SPIN_COUNT

CODE = """
import json, sys, tempfile, time
from pairsift.data import load_images
from pairsift.train import TrainConfig, pretrain
epochs, threads = map(int, sys.argv[1:])
with tempfile.TemporaryDirectory() as folder:
    config = TrainConfig.build(dict(
        data="digits:train", image_size=16, batch_size=256, lr=0.5, temperature=0.2, treatment="none",
        epochs=epochs, threads=threads, progress=False, overwrite=True, run_dir=folder))
    wall, cpu = time.perf_counter(), time.process_time()
    pretrain(config)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
print(json.dumps([epochs * len(load_images("digits:train")) / wall, cpu]))
"""
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
# Processes at a time, threads of each, and how often waiting threads look; None leaves OpenMP's default.
WAYS = {
    "alone, default": (1, CORES, None),
    "alone, ours": (1, CORES, SPIN_COUNT),
    "two, default": (2, CORES, None),
    "two, ours": (2, CORES, SPIN_COUNT),
    "two, one thread each": (2, 1, None),
}


def train(processes: int, threads: int, spin: str | None, epochs: int) -> list[list[float]]:
    """Images a second and CPU seconds of processes that train at the same time.

    Raises:
        CalledProcessError: a process failed.
    """
    env = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "GOMP_SPINCOUNT")}
    if spin is not None:
        env["GOMP_SPINCOUNT"] = spin
    command = [sys.executable, "-W", "ignore", "-c", CODE, str(epochs), str(threads)]
    started = [
        subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(processes)
    ]
    found = []
    for process in started:
        text, _ = process.communicate()
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command)
        found.append(json.loads(text.splitlines()[-1]))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for _ in range(options.runs):
        for way, (processes, threads, spin) in WAYS.items():
            found[way] += train(processes, threads, spin, options.epochs)
    rows: list[dict[str, Any]] = []
    for way, (processes, threads, _) in WAYS.items():
        rates, cpu = (statistics.median(values) for values in zip(*found[way], strict=True))
        rows.append({
            "benchmark": "busy", "way": way, "processes": processes, "images_per_second": round(rates),
            "cpu_s": round(cpu, 1), "runs": options.runs, **environment(threads),
        })  # fmt: skip
        emit(rows, options.output)


if __name__ == "__main__":
    main()
