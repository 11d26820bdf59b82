"""Data flows one way: nothing imports what stands above it."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pairsift

ROOT = Path(pairsift.__file__).parent
PAGE = ROOT.parents[1] / "docs" / "architecture.md"
# The first block of the architecture page: a layer a line, what it is for behind its name.
ORDER = re.findall(r"^(\w+)  +\S", re.search(r"```text\n(.*?)```", PAGE.read_text(), re.DOTALL).group(1), re.MULTILINE)
MODULES = [path for path in sorted(ROOT.rglob("*.py")) if path not in (ROOT / "__init__.py", ROOT / "__main__.py")]


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


def test_every_part_has_its_place_on_the_page():
    parts = {path.relative_to(ROOT).parts[0].removesuffix(".py") for path in MODULES}
    assert parts == set(ORDER)
    assert len(ORDER) == len(set(ORDER)) > 10


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_imports_upward(path):
    own = path.relative_to(ROOT).parts[0].removesuffix(".py")
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "pairsift" and len(parts) > 1:
            assert layer(parts[1]) <= layer(own), f"{own} imports {name}"


NAMES = {
    ".".join(("pairsift", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in MODULES
}


def at_run_time(node):
    """A module's statements, those of its functions too, without the names that only type checkers import."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from at_run_time(child)


def needed(path):
    """The modules of the package that a module imports; `from pairsift.a import b` needs a.b where that is one."""
    for node in at_run_time(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in NAMES)
        elif isinstance(node, ast.ImportFrom):
            inner = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (each if each in NAMES else node.module for each in inner)


def circular(needs):
    """What is left of a graph when everything is taken out that needs nothing that is left."""
    while free := {name for name, others in needs.items() if not others & needs.keys()}:
        needs = {name: others for name, others in needs.items() if name not in free}
    return needs


def test_no_module_needs_itself_through_others():
    needs = {name: {each for each in needed(path) if each in NAMES} for name, path in NAMES.items()}
    assert len(needs) > 100
    assert "pairsift.losses.engine.comparison" in needs["pairsift.losses.engine"]
    assert not circular(needs)


def test_circles_are_found():
    assert set(circular({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()})) == {"a", "b", "c"}


def test_the_loss_alone_imports_no_training_framework():
    heavy = ("lightning", "sklearn", "typer", "plotly", "kornia", "torchvision", "timm", "faiss")
    code = f"import sys, pairsift; pairsift.losses.NTXentLoss(); print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_no_addresses_in_the_source():
    for path in MODULES:
        assert not re.search(r"https?://(?!arxiv\.org)", path.read_text()), path
