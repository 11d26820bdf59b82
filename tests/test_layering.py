"""Imports go one way, by the contracts in pyproject.toml, and load no more than what is asked for."""

import re
import subprocess
import sys

import pytest
from environments import ROOT, SETTINGS

PACKAGE = ROOT / "src" / "pairsift"


def python(code):
    """What a fresh Python prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_the_contracts_hold():
    pytest.importorskip("importlinter", reason="import-linter is not installed")
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()", "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 kept, 0 broken" in done.stdout


def test_the_architecture_page_draws_the_layers_of_the_contract():
    """The page draws the lowest layer first."""
    (layers,) = (each["layers"] for each in SETTINGS["tool"]["importlinter"]["contracts"] if each["id"] == "layers")
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = re.findall(r"^(\w+)  +\S", re.search(r"```text\n(.*?)```", page, re.DOTALL).group(1), re.MULTILINE)
    assert [name.strip("()") for name in reversed(layers)] == drawn


def test_the_losses_load_no_compiler_and_no_kernels():
    """Either takes longer than all of the losses."""
    code = "import sys, pairsift.losses as l, torch; l.NTXentLoss()(*torch.eye(2, 300)[:, None].expand(2, 300, 300));"
    assert python(f"{code} print([m for m in ('torch._dynamo', 'triton') if m in sys.modules])") == "[]\n"


def test_the_loss_alone_imports_no_training_framework():
    heavy = ("lightning", "sklearn", "typer", "kornia", "torchvision", "timm", "faiss")
    code = f"import sys, pairsift; pairsift.losses.NTXentLoss(); print([m for m in {heavy} if m in sys.modules])"
    assert python(code) == "[]\n"


@pytest.mark.parametrize(
    "code",
    [
        "import pairsift",
        "import sys; from pairsift.cli.app import guarded; guarded(['--help'], False)",
        "import sys; from pairsift.cli.app import guarded; guarded(['--version'], False)",
    ],
)
def test_the_package_and_the_list_of_commands_do_without_torch(code):
    heavy = "import sys; print({'torch', 'numpy', 'lightning', 'sklearn'} & set(sys.modules))"
    assert python(f"{code}; {heavy}").endswith("set()\n")


def test_the_package_is_a_command():
    done = subprocess.run([sys.executable, "-m", "pairsift", "--help"], capture_output=True, text=True, check=True)
    assert "scan" in done.stdout


def test_no_addresses_in_the_source():
    for path in PACKAGE.rglob("*.py"):
        assert not re.search(r"https?://(?!arxiv\.org)", path.read_text()), path
