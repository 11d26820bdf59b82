"""Where studies read and write: the folder of real data, and results with what they depend on."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from pairsift._base.files import replacing

RESULTS = Path("lab/results")


def data_folder() -> Path:
    """The folder that PAIRSIFT_DATA names; ends the program with a message where it names none."""
    if "PAIRSIFT_DATA" not in os.environ:
        sys.exit("PAIRSIFT_DATA is not set: it names the folder of the real data")
    return Path(os.environ["PAIRSIFT_DATA"])


def environment(threads: int) -> dict[str, Any]:
    """What the figures depend on."""
    commit, changes = (
        _git("rev-parse", "HEAD"),
        _git("status", "--porcelain", "--untracked-files=no", "--", "src", "lab"),
    )
    return {
        "python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine(),
        "cpus": os.cpu_count(), "threads": threads,
        "git_commit": commit, "src_modified": None if changes is None else bool(changes),
    }  # fmt: skip


def emit(rows: list[dict[str, Any]], output: Path | None) -> None:
    """Print the newest row; write all of them to `output`, one JSON line each, whole or not at all."""
    print(json.dumps(rows[-1]), flush=True)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        with replacing(output) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _git(*arguments: str) -> str | None:
    """What git says about the checkout this file is tracked in, None outside one or without git."""
    file = Path(__file__).resolve()
    try:
        # An installed copy may lie inside some other checkout, of which it is no part.
        for command in (["ls-files", "--error-unmatch", str(file)], arguments):
            done = subprocess.run(["git", *command], cwd=file.parents[1], capture_output=True, text=True, check=False)
            if done.returncode:
                return None
    except OSError:
        return None
    return done.stdout.strip()
