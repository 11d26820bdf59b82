"""Distributions built from the checkout, and virtual environments that start empty and see nothing of it."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
CONSTRAINTS = ROOT / "constraints.txt"


class Environment:
    """A virtual environment with nothing but pip.

    Args:
        path: a folder to make.
    """

    def __init__(self, path: Path) -> None:
        venv.create(path, with_pip=True, symlinks=True)
        self.path = path

    def install(self, *what: str | Path) -> None:
        """Install with the versions of constraints.txt."""
        self.run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-c", CONSTRAINTS, *what)

    def run(self, *arguments: str | Path, succeeds: bool = True) -> str:
        """What a command of this Python prints; see `script`."""
        return self.script("python", *arguments, succeeds=succeeds)

    def script(self, name: str, *arguments: str | Path, succeeds: bool = True) -> str:
        """What a script that is installed here prints, run beside the environment; its errors, where it is to fail.

        Raises:
            SystemExit: it failed, or did not; what it said is printed.
        """
        command = [str(each) for each in (self.path / "bin" / name, *arguments)]
        done = subprocess.run(command, cwd=self.path.parent, env=clean(), capture_output=True, text=True, check=False)
        if (done.returncode == 0) is not succeeds:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout if succeeds else done.stderr


def clean() -> dict[str, str]:
    """The variables of this process but those that show a Python other packages."""
    return {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    }


def build(folder: Path) -> tuple[Path, Path]:
    """The source distribution, and the wheel that is made from it: (sdist, wheel), below `folder`."""
    tools = Environment(folder / "tools")
    tools.install("build")
    tools.run("-m", "build", "--outdir", folder / "dist", ROOT)
    return next((folder / "dist").glob("*.tar.gz")), next((folder / "dist").glob("*.whl"))
