"""How long a fresh Python takes to import pairsift and to answer on the command line, beside the imports it saves.

    python -m lab.benchmarks.startup [--runs 9] [--starts "import pairsift"]
        [--output lab/benchmarks/results/startup.jsonl]

One JSON line per start: median milliseconds of as many fresh processes, run in turn, after one of each that fills the
file cache; those of an empty start are part of every figure. The command line is started as the installed script does.
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


def starter(code: str) -> Callable[[], Any]:
    """What runs the code in a fresh process.

    Raises:
        CalledProcessError: it failed.
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
        rows.append(row | environment(1))
        emit(rows, options.output)


if __name__ == "__main__":
    main()
