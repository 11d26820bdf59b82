"""Environments that hold some of the installed packages only: those of an extra of pairsift, and what they need."""

import json
import subprocess
import tempfile
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

try:
    import tomllib
except ModuleNotFoundError:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]


def requirements(extra=None):
    """What pyproject.toml asks for, the requirements of an extra's own extras among them."""
    for line in PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]:
        requirement = Requirement(line)
        if requirement.name == "pairsift":
            for inner in requirement.extras:
                yield from requirements(inner)
        else:
            yield requirement


def installed(wanted):
    """The distributions that requirements name and those that they need in turn, as far as they are installed."""
    found, queue = {}, list(wanted)
    while queue:
        requirement = queue.pop()
        key = (requirement.name.lower().replace("_", "-"), frozenset(requirement.extras))
        if key in found:
            continue
        try:
            found[key] = distribution(requirement.name)
        except PackageNotFoundError:
            continue
        for line in found[key].requires or ():
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in ("", *requirement.extras)):
                queue.append(needed)
    return found.values()


# What a Python does that has imported what programs need: it forks for each, with a folder for what they say.
FORKS = """
import json, os, runpy, sys
programs, folder = json.loads(sys.argv[1]), sys.argv[2]
for i, (kind, code, *rest) in enumerate(programs):
    child = os.fork()
    if child == 0:
        for stream, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(os.path.join(folder, f"{name}{i}"), os.O_WRONLY | os.O_CREAT), stream)
        sys.argv = [kind if kind == "-c" else code, *rest]
        exec(compile(code, "<string>", "exec")) if kind == "-c" else runpy.run_module(code, run_name="__main__")
        sys.exit()
    # At once: what is left in the buffer would be said by the next fork, too.
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Environment:
    """A virtual environment with links to packages that are installed, and to pairsift's source.

    Args:
        path: a folder to make.
        extra: whose packages it holds beside those that pairsift always needs; None holds these alone.
    """

    def __init__(self, path, extra=None):
        venv.create(path, symlinks=True)
        self.python = path / "bin" / "python"
        site = next((path / "lib").glob("python3.*")) / "site-packages"
        (site / "pairsift").symlink_to(ROOT / "src" / "pairsift")
        for each in installed([*requirements(), *(requirements(extra) if extra else ())]):
            for top in {file.parts[0] for file in each.files} - {"..", "__pycache__"}:
                if not (site / top).exists() and not top.endswith(".pth"):
                    (site / top).symlink_to(each.locate_file(top))

    def run(self, *arguments, cwd=None):
        """A command of its Python, without the variables that would show it other packages."""
        command = [self.python, "-I", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=cwd)

    def runs(self, *programs, imports, cwd=None):
        """Programs one after the other in forks of one that has imported modules, which takes longer than most do."""
        with tempfile.TemporaryDirectory() as folder:
            given = json.dumps([list(map(str, program)) for program in programs])
            done = self.run("-c", f"import {imports}\n{FORKS}", given, folder, cwd=cwd)
            assert done.returncode == 0, done.stderr
            return [
                subprocess.CompletedProcess(
                    program, int(code), *(Path(folder, f"{name}{i}").read_text() for name in ("stdout", "stderr"))
                )
                for i, (program, code) in enumerate(zip(programs, done.stdout.split(), strict=True))
            ]

    def pairsift(self, *arguments, cwd=None):
        """A command line."""
        return self.run("-m", "pairsift", *arguments, cwd=cwd)

    def pairsifts(self, *commands, imports, cwd=None):
        """Command lines, see `runs`."""
        return self.runs(*(("-m", "pairsift", *each) for each in commands), imports=imports, cwd=cwd)
