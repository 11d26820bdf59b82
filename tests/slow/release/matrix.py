"""The tests that a release must pass, with every supported Python, and with the lowest versions that are declared.

    python tests/slow/release/matrix.py [--pythons 3.10 3.12] [--output FILE]    # make matrix

Each interpreter gets an environment with the wheel, its extras `all` and `text` (or those of `--extras`), and the
versions of constraints.txt. The oldest one also gets, for each extra, the lowest versions that pyproject.toml declares,
except of PyTorch (`--lowest-torch` adds it). An interpreter that is not on this machine is skipped, with the reason.
uv installs from PyPI and from the folders of PIP_FIND_LINKS; without a CPU build of PyTorch there it takes 3 GB.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fresh import CONSTRAINTS, ROOT, Environment, build, clean

sys.path.insert(0, str(ROOT / "tests"))
from environments import requirements
from packaging.requirements import Requirement

SUPPORTED = ("3.10", "3.11", "3.12", "3.13", "3.14")
# The tests that the packages of an extra are enough for.
TESTS = {
    "all": (
        "losses/test_ntxent.py", "losses/test_moco.py", "temporal/test_window.py", "pairs/test_guide.py",
        "theory/test_graph.py", "theory/test_bounds.py", "theory/test_levels.py", "scanning/test_scan.py",
        "scanning/test_config.py", "test_cli.py", "test_treatments.py",
    ),
    "text": ("text/test_semantic.py", "text/test_wordnet.py"),
}  # fmt: skip
# Tests that measure what no version of a dependency changes take most of the time.
LEFT_OUT = "large or first_pairs or clear_classes or cifar"
TOOLS = ("pytest", "hypothesis", "packaging", "pandas", "tomli")
COUNT = re.compile(r"(\d+) (passed|failed|skipped|error)")


def interpreter(version: str) -> Path | None:
    """A Python of this version: on PATH, or one of pyenv's; None where there is none that runs."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    on_path = [Path(folder, f"python{version}") for folder in os.get_exec_path()]
    for python in (*sorted(pyenv.glob(f"{version}.*/bin/python")), *on_path):
        if python.exists():
            done = subprocess.run([python, "-V"], capture_output=True, text=True, check=False)
            if done.returncode == 0 and done.stdout.startswith(f"Python {version}."):
                return python
    return None


def lowest(extra: str, torch: bool) -> list[str]:
    """The lowest versions that pyproject.toml declares for an extra, as constraints; PyTorch if asked for."""
    wanted = {each.name: each for each in (*requirements(), *requirements(extra))}
    return [f"{name}=={bound(each)}" for name, each in wanted.items() if torch or name != "torch"]


def bound(requirement: Requirement) -> str:
    """The lowest version that a requirement allows."""
    (version,) = (each.version for each in requirement.specifier if each.operator in (">=", "=="))
    return version


class Column:
    """An environment of one interpreter, and what the tests said in it."""

    def __init__(self, uv: Path, python: Path, folder: Path) -> None:
        self._uv, self._python = uv, folder / "bin" / "python"
        self._environment = clean() | {"UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", ""), "OMP_NUM_THREADS": "1"}
        subprocess.run([uv, "venv", "--quiet", "--python", python, folder], check=True, env=self._environment)

    def test(self, wheel: Path, extras: list[str], constraints: Path) -> dict[str, Any]:
        """Install and test; counts and seconds, or why it could not be installed."""
        start = time.perf_counter()
        done = self._call(
            self._uv, "pip", "install", "--quiet", "--python", self._python, "--constraint", constraints,
            f"pairsift[{','.join(extras)}] @ {wheel.as_uri()}", *TOOLS,
        )  # fmt: skip
        if done.returncode:
            return {"failed": 1, "reason": f"not installed: {' '.join(done.stderr.split())}"}
        tests = [f"tests/{each}" for extra in extras for each in TESTS[extra]]
        chosen = ("-m", "not slow", "-k", f"not ({LEFT_OUT})")
        done = self._call(self._python, "-m", "pytest", "-p", "no:cacheprovider", *chosen, *tests)
        counts = {what: int(number) for number, what in COUNT.findall((done.stdout.splitlines() or [""])[-1])}
        if done.returncode:
            print(done.stdout[-10_000:], done.stderr[-2000:], file=sys.stderr)
            counts["failed"] = max(1, counts.get("failed", 0) + counts.pop("error", 0))
        facts = "import platform, torch; print(platform.python_version(), torch.__version__)"
        version, torch = self._call(self._python, "-c", facts).stdout.split()
        return {"python": version, "torch": torch} | counts | {"seconds": round(time.perf_counter() - start)}

    def _call(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False)


def columns(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """A row for every interpreter and choice of versions, as soon as it is known."""
    tools = Environment(folder / "uv")
    tools.install("uv")
    _, wheel = build(folder)
    pinned = [line for line in CONSTRAINTS.read_text().splitlines() if line.startswith("torch==")]
    for extra in options.extras:
        low = lowest(extra, options.lowest_torch) + ([] if options.lowest_torch else pinned)
        (folder / f"{extra}.txt").write_text("\n".join(low))
    for version in options.pythons:
        python = interpreter(version)
        if python is None:
            yield {"python": version, "versions": "pinned", "reason": "skipped: no such Python on PATH or in pyenv"}
            continue
        kinds = {"pinned": (options.extras, CONSTRAINTS)}
        if version == SUPPORTED[0]:  # the lowest versions of one extra may not do for another
            kinds |= {f"lowest of {extra}": ([extra], folder / f"{extra}.txt") for extra in options.extras}
        for kind, (extras, constraints) in kinds.items():
            column = Column(tools.path / "bin" / "uv", python, folder / f"{version} {kind}")
            yield {"python": version, "versions": kind} | column.test(wheel, extras, constraints)


def write(output: Path, rows: list[dict[str, Any]]) -> None:
    """Put rows in the place of earlier ones of the same Pythons."""
    sys.path.append(str(ROOT))  # the lab is part of the checkout, not of what is installed
    from lab import rows as files

    found = [files.row_of("matrix", row) for row in rows]
    new = {minor(row) for row in found}
    earlier = files.read(output) if output.exists() else []
    files.write(output, sorted([*(row for row in earlier if minor(row) not in new), *found], key=minor))


def minor(row: dict[str, Any]) -> tuple[int, ...]:
    """The Python of a row without its patch, (3, 12)."""
    return tuple(map(int, row["versions"]["python"].split(".")[:2]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pythons", nargs="+", default=SUPPORTED, metavar="3.x")
    parser.add_argument("--extras", nargs="+", choices=TESTS, default=[*TESTS])
    parser.add_argument("--lowest-torch", action="store_true", help="the lowest PyTorch too")
    parser.add_argument("--output", type=Path, help="lines of results; those of other Pythons stay in it")
    options = parser.parse_args()
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    rows = []
    with tempfile.TemporaryDirectory(prefix="pairsift-matrix-") as folder:
        for row in columns(options, Path(folder)):
            rows.append(row | {"git_commit": commit.stdout.strip()})
            print(json.dumps(rows[-1]), flush=True)
            if options.output is not None:
                write(options.output, rows)
    sys.exit(any(row.get("failed") for row in rows))


if __name__ == "__main__":
    main()
