"""Measures the time of a fresh Python to import parts of pairsift and to answer on the command line.

    python -m lab.benchmarks.startup [--runs 9] [--starts "import pairsift"]
        [--output lab/benchmarks/results/startup.jsonl]

One JSON line per start: the median milliseconds of fresh processes that run in turn, after one of each that fills the
file cache. Every figure includes the start of Python. The line of the losses adds their time beyond `import torch`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.benchmarks._common import emit, environment, median_ms

COMMAND = "import sys; from pairsift.cli import main; sys.argv[1:] = {}; main()"
STARTS = {
    "python alone": "pass",
    "import pairsift": "import pairsift",
    "pairsift --version": COMMAND.format(["--version"]),
    "pairsift --help": COMMAND.format(["--help"]),
    "import torch": "import torch",
    "pairsift.losses": "import pairsift; pairsift.losses",
    "pairsift.scan": "import pairsift; pairsift.scan",
    "pairsift.pretrain": "import pairsift; pairsift.pretrain",
}
TARGETS_MS = {"import pairsift": 300, "pairsift --version": 500, "pairsift --help": 500}
BEYOND_TORCH_MS = 300  # of the losses


def starter(code: str) -> Callable[[], Any]:
    """A function that runs the code in a fresh process.

    Raises:
        CalledProcessError: the code failed.
    """
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}
    return lambda: subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL, env=one_thread)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=STARTS)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    times = median_ms({name: starter(code) for name, code in STARTS.items() if name in options.starts}, options.runs)
    rows: list[dict[str, Any]] = []
    for name, ms in times.items():
        row = {"benchmark": "startup", "start": name, "ms": round(ms, 1), "runs": options.runs}
        if name in TARGETS_MS:
            row["targets_met"] = {"ms": ms < TARGETS_MS[name]}
        if name == "pairsift.losses" and "import torch" in times:
            row["beyond_torch_ms"] = round(ms - times["import torch"], 1)
            row["targets_met"] = {"beyond_torch_ms": row["beyond_torch_ms"] < BEYOND_TORCH_MS}
        rows.append(row | environment(1))
        emit(rows, options.output)


if __name__ == "__main__":
    main()
