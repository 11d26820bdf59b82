"""Result files: one JSON line per finished run, in one schema for all studies and benchmarks.

A run has these fields:

- ``study``, ``group``, ``arm``, ``seed``: what was run. Arms of one group are compared with each other.
- ``settings``: what the run was given.
- ``measures``: numbers by name, None where one is not defined, a list for a curve over training.
- ``commit``: of the checkout, with a ``+`` if it had changes; ``versions`` of libraries; ``machine``.
- ``scale`` ("cpu" if absent) and ``version`` of the study (1 if absent).

Files are small because a line leaves out every field that equals the line above. A list of measures holds the values of
the names in the line above.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

import pairsift
from pairsift._base.files import replacing

Row = dict[str, Any]

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "lab" / "results"
# What the first line of a file leaves out.
_FIRST: Row = {
    "study": "", "scale": "cpu", "version": 1, "group": "", "arm": "", "settings": {}, "seed": 0, "commit": None,
    "versions": {}, "machine": {},
}  # fmt: skip
_FACTS = ("python", "torch", "pairsift", "lightning", "numpy", "scipy", "pillow", "scikit-learn", "hypothesis")
_MACHINE = ("machine", "cpus", "threads", "platform", "device")


class ResultsError(ValueError):
    """A result file that cannot be read. The message names the line."""


def encoded(row: Row, above: Row | None = None) -> str:
    """A row as a line of a file, without the fields that equal those of the row above."""
    before = _FIRST | {"measures": {}} if above is None else above
    line = {name: row[name] for name in _FIRST if name in row and row[name] != before.get(name)}
    measures = row["measures"]
    same = list(measures) == list(before["measures"])
    line["measures"] = list(measures.values()) if same else measures
    return json.dumps(line, separators=(",", ":"))


def decoded(text: str, above: Row | None = None) -> Row:
    """The row of a line.

    Raises:
        ValueError: the line is not a run.
    """
    before = _FIRST | {"measures": {}} if above is None else above
    line = json.loads(text)
    if not isinstance(line, dict) or "measures" not in line or not line.keys() <= {*_FIRST, "measures"}:
        raise ValueError("no run of a study")
    measures = line["measures"]
    if isinstance(measures, list):
        measures = dict(zip(before["measures"], measures, strict=True))
    return before | line | {"measures": measures}


def read(file: Path) -> list[Row]:
    """Read the runs of a file. An incomplete last line is left out.

    Raises:
        ResultsError: a line is not a run of a study.
    """
    rows: list[Row] = []
    lines = file.read_text().split("\n")
    for number, text in enumerate(lines, 1):
        if number == len(lines) and not text:
            break
        try:
            rows.append(decoded(text, rows[-1] if rows else None))
        except ValueError:
            if number == len(lines):
                break  # the process was killed while it wrote this
            raise ResultsError(
                f"line {number} of {file} is no run of a study: mend it, or move the file away"
            ) from None
    return rows


def write(file: Path, rows: Iterable[Row]) -> None:
    """Write all rows, completely or not at all."""
    lines, above = [], None
    for row in rows:
        lines.append(encoded(row, above) + "\n")
        above = row
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        temporary.write_text("".join(lines))


def row_of(study: str, record: Mapping[str, Any], **fields: Any) -> Row:
    """Turn a record into a row: numbers become measures, versions and facts of the machine fields, the rest settings.

    Args:
        study: study of the row.
        record: values by name. Names of nested values are joined by "/".
        fields: fields of the row that the record lacks (group, arm, seed, settings).
    """
    flat = dict(_flat(record))
    row: Row = {"study": study, **fields}
    commit, modified = flat.pop("git_commit", None), flat.pop("src_modified", None)
    if commit:
        row["commit"] = commit[:10] + "+" * bool(modified)
    row["versions"] = {name: flat.pop(name) for name in _FACTS if name in flat}
    for name in [name for name in flat if name.startswith(("peers/", "versions/"))]:
        version = flat.pop(name)
        row["versions"] |= {name.partition("/")[2]: version} if version else {}
    row["machine"] = {name: flat.pop(name) for name in _MACHINE if name in flat}
    row.setdefault("seed", flat.pop("seed", 0))
    numbers = {
        name for name, value in flat.items() if all(map(_is_number, value if isinstance(value, list) else [value]))
    }
    row["settings"] = {name: value for name, value in flat.items() if name not in numbers} | row.get("settings", {})
    row["measures"] = {name: value for name, value in flat.items() if name in numbers}
    return _FIRST | row


def _flat(record: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield prefix + name, value


def _is_number(value: Any) -> bool:
    return value is None or isinstance(value, (bool, int, float))


def facts(threads: int = 1, *peers: str) -> Row:
    """The fields commit, versions and machine of a row for runs of this process.

    Args:
        threads: number of threads of a run.
        peers: further distributions whose versions are recorded.
    """
    found: dict[str, str | None] = {
        "python": platform.python_version(), "torch": torch.__version__, "pairsift": pairsift.__version__
    }  # fmt: skip
    found |= {peer: _version(peer) for peer in peers}
    commit = _git("rev-parse", "HEAD")
    # Results are written while a benchmark runs, and are no code.
    code = ("src", "lab", ":!lab/results", ":!lab/benchmarks/results")
    changes = _git("status", "--porcelain", "--untracked-files=no", "--", *code)
    return {
        "commit": None if commit is None else commit[:10] + "+" * bool(changes),
        "versions": {name: version for name, version in found.items() if version},
        "machine": {"machine": platform.machine(), "cpus": os.cpu_count(), "threads": threads},
    }


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    """The output of git in this checkout, or None without git or a checkout."""
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return None if done.returncode else done.stdout.strip()
