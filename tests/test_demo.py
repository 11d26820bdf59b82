import json
import math

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from pairsift.cli.demo_runs import COLUMNS, paired_difference, run_demo, table, verdict
from pairsift.data import load_images
from pairsift.evaluate import detection
from pairsift.scanning import Scan


def rows(plain, treated):
    return [
        {"treatment": name, "seed": seed, **dict.fromkeys(COLUMNS, value), "different": 86.0, "different_base": 90.0}
        for name, values in (("none", plain), ("combined", treated))
        for seed, value in enumerate(values)
    ]


def report(plain, treated):
    content = rows(plain, treated)
    return {"rows": content, "differences": {name: paired_difference(content, name) for name in COLUMNS}}


def test_the_interval_is_that_of_the_paired_t_test():
    plain, treated = [90.0, 91.5, 89.2, 90.7], [91.1, 91.9, 90.9, 91.0]
    mean, half = paired_difference(rows(plain, treated), "linear")
    interval = stats.ttest_rel(treated, plain).confidence_interval(0.95)
    assert mean == pytest.approx(np.mean(np.subtract(treated, plain)))
    assert (mean - half, mean + half) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize(
    ("plain", "treated", "says"),
    [
        ([90, 90, 90.1], [92, 92, 92.2], "the treatment gains 2.03"),
        ([90, 90, 90.1], [88, 88, 88.2], "the treatment loses 1.97"),
        ([90, 93, 88], [91, 90, 91], "no difference beyond seed noise"),
        ([90], [95], "+5.00 from one seed says nothing about seed noise"),
    ],
)
def test_the_verdict_is_what_the_table_shows(plain, treated, says):
    words = verdict(report(plain, treated))
    assert says in words
    assert "86.0 % are of different classes, of all pairs 90.0 %" in words
    assert "no better than chance" in words


def test_one_run_of_everything(tmp_path):
    said = []
    result = run_demo(
        tmp_path, seeds=1, epochs=1, say=said.append, per_class=30, image_size=8, batch_size=64, progress=False
    )
    assert [row["treatment"] for row in result["rows"]] == ["none", "combined"]
    for row in result["rows"]:
        assert 10 < row["linear"] <= 100
        assert 0 <= row["different"] <= 100
        run = tmp_path / f"{row['treatment']}-seed0"
        assert (run / "encoder.safetensors").exists()
        found = Scan.load(run / "scan")
        rows = load_images("digits:train", per_class=30).rows  # a scan counts positions, mixed.csv rows of the source
        mixed = np.isin(rows, np.loadtxt(run / "mixed.csv", skiprows=1))
        assert mixed.sum() == 60
        assert row["auroc"] == pytest.approx(100 * detection(found.scores, mixed).auroc)
        assert (run / "scan" / "report.html").stat().st_size > 5e4
    assert all(math.isnan(half) for _, half in result["differences"].values())
    assert json.loads((tmp_path / "demo.json").read_text())["rows"] == result["rows"]
    assert said == [f"seed 0, treatment {name} -> {tmp_path}/{name}-seed0" for name in ("none", "combined")]
    console = Console(width=100, record=True)
    console.print(table(result))
    text = console.export_text()
    assert "plain SimCLR" in text
    assert f"{result['rows'][0]['linear']:.2f}" in text
