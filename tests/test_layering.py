"""Data flows one way: nothing imports what stands above it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pairsift

ROOT = Path(pairsift.__file__).parent
ORDER = (
    "files",
    "settings",
    "kernels",
    "pairs",
    "treatments",
    "losses",
    "integrations",
    "report",
    "theory",
    "data",
    "affinity",
    "curate",
    "train",
    "evaluate",
    "studies",
    "cli",
)
MODULES = [path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"]


def layer(name):
    return ORDER.index(name)


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module
            if node.module == "pairsift":
                yield from (f"pairsift.{alias.name}" for alias in node.names)


def test_every_part_has_its_place():
    parts = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in MODULES}
    assert parts <= set(ORDER)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_imports_upward(path):
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "pairsift" and len(parts) > 1:
            assert layer(parts[1]) <= layer(own), f"{own} imports {name}"


@pytest.mark.parametrize("part", ["cli", "curate", "data"])
def test_nothing_inside_a_part_imports_in_a_circle(part):
    needs = {}
    for path in sorted((ROOT / part).glob("*.py")):
        name = f"pairsift.{part}.{path.stem}".removesuffix(".__init__")
        needs[name] = {each for each in imports(path) if each.startswith(f"pairsift.{part}.")}
    assert len(needs) > 5
    while free := {name for name, needed in needs.items() if not needed & needs.keys()}:
        needs = {name: needed for name, needed in needs.items() if name not in free}
    assert not needs


def test_the_loss_alone_imports_no_training_framework():
    heavy = ("lightning", "sklearn", "typer", "plotly", "kornia", "torchvision", "timm", "faiss")
    code = f"import sys, pairsift; pairsift.losses.NTXentLoss(); print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_no_addresses_in_the_source():
    for path in MODULES:
        assert not re.search(r"https?://(?!arxiv\.org)", path.read_text()), path
