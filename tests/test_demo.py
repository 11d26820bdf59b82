import json
import math
import os
import re

import numpy as np
import pytest
from scipy import stats

from pairsift.data import load_images
from pairsift.demo import METHODS, Difference, difference, one_thread_each, run_demo, summary, table
from pairsift.evaluate import detection
from pairsift.scanning import Scan


def rows(**values):
    return [
        {"method": name, "seed": seed, "knn": value, "linear": value, "seconds": 9.0}
        for name, each in values.items()
        for seed, value in enumerate(each)
    ]


def report(plain, auto):
    content = rows(plain=plain, band=plain, exact=plain, auto=auto)
    differences = {
        name: {m: difference(content, name, m) for m in ("knn", "linear")} for name in ("band", "auto", "exact")
    }
    return {"rows": content, "differences": differences, "found": {"auroc": 0.9, "mixed": 20, "shown": 24}}


def test_the_interval_is_that_of_the_paired_t_test():
    plain, treated = [90.0, 91.5, 89.2, 90.7], [91.1, 91.9, 90.9, 91.0]
    mean, half = difference(rows(plain=plain, auto=treated), "auto", "linear")
    interval = stats.ttest_rel(treated, plain).confidence_interval(0.95)
    assert mean == pytest.approx(np.mean(np.subtract(treated, plain)))
    assert (mean - half, mean + half) == pytest.approx((interval.low, interval.high))


@pytest.mark.parametrize(
    ("plain", "auto", "line"),
    [
        ([90, 90, 90.1], [92, 92, 92.2], "auto: gains 2.0 ± 0.1 points of 20-NN over 3 seeds."),
        ([90, 90, 90.1], [88, 88, 88.2], "auto: loses 2.0 ± 0.1 points of 20-NN over 3 seeds."),
        ([90, 93, 88], [91, 90, 91], "auto: no clear difference in 20-NN (+0.3 ± 7.6 points over 3 seeds)."),
        ([90], [95], "auto: +5.0 points of 20-NN. One seed cannot tell a gain from chance."),
    ],
)
def test_the_summary_says_what_the_table_shows(plain, auto, line):
    assert line in summary(report(plain, auto))


def test_the_table_holds_means_and_gains():
    *_, auto, _exact = table(report([90, 90, 90.1], [92, 92, 92.2]))
    assert auto == ["auto", "92.1", "+2.0 ± 0.1", "92.1", "+2.0 ± 0.1", "9"]
    assert str(Difference(1.25, math.nan)) == "+1.2"


def test_one_run_of_everything(tmp_path):
    said = []
    sizes = {"per_class": 30, "image_size": 8, "batch_size": 64}
    result = run_demo(tmp_path, seeds=1, epochs=1, say=said.append, processes=1, **sizes)
    assert [row["method"] for row in result["rows"]] == list(METHODS)
    assert all(10 < row["linear"] <= 100 for row in result["rows"])
    assert all((tmp_path / f"{name}-seed0" / "encoder.safetensors").exists() for name in METHODS)
    found = Scan.load(tmp_path / "auto-seed0" / "scan")
    positions = load_images("digits:train", per_class=30).rows  # a scan counts positions, mixed.csv rows of the source
    mixed = np.isin(positions, np.loadtxt(tmp_path / "auto-seed0" / "mixed.csv", skiprows=1))
    assert mixed.sum() == 60
    assert result["found"]["auroc"] == pytest.approx(detection(found.scores, mixed).auroc)
    assert result["found"]["mixed"] == mixed[np.argsort(-found.scores, kind="stable")[:24]].sum()
    assert json.loads((tmp_path / "demo.json").read_text())["rows"] == result["rows"]
    assert [re.sub(r"\d+ s$", "", line) for line in said] == [
        f"{i} of 4: {title}, seed 0: " for i, (title, _) in enumerate(METHODS.values(), 1)
    ]
    page = (tmp_path / "demo.html").read_text()
    assert page.count("data:image/png") == 24 + 2 * min(12, found.pairs.num_rows)
    assert page.count('class="mixed"') == result["found"]["mixed"]
    assert 'href="auto-seed0/scan/report.html"' in page
    assert (tmp_path / "auto-seed0" / "scan" / "report.html").stat().st_size > 5e4


@pytest.mark.parametrize("before", [None, "7"])
def test_processes_of_the_demo_have_one_thread_each(monkeypatch, before):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if before is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", before)
    with one_thread_each():
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert os.environ.get("OMP_NUM_THREADS") == before
