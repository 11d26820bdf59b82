"""Result files hold every field in few bytes; studies say what data they lack before they start."""

import math

import pytest

from lab.rows import ResultsError, facts, read, row_of, write
from lab.running import plan
from lab.study import StudyError
from pairsift.evaluate import t_interval


def test_the_interval_of_a_single_value_is_not_defined():
    mean, half = t_interval([3.0])
    assert mean == 3
    assert math.isnan(half)


def test_rows_are_short_lines_that_hold_everything(tmp_path):
    facts = {"python": "3.12", "torch": "2.9", "threads": 2, "git_commit": "0123456789abc", "src_modified": True}
    rows = [
        row_of("study", {"x": 1, "curve": [3, None], "kind": "a", **facts, "seed": seed}, group="g", arm=arm)
        for arm in ("b", "c")
        for seed in (0, 1)
    ]
    file = tmp_path / "new" / "runs.jsonl"
    write(file, rows)
    assert read(file) == rows
    assert rows[0]["commit"] == "0123456789+"
    assert (rows[1]["versions"], rows[1]["machine"]) == ({"python": "3.12", "torch": "2.9"}, {"threads": 2})
    assert (rows[3]["settings"], rows[3]["measures"]) == ({"kind": "a"}, {"x": 1, "curve": [3, None]})
    assert file.read_text().splitlines()[1:] == [
        '{"seed":1,"measures":[1,[3,null]]}', '{"arm":"c","seed":0,"measures":[1,[3,null]]}',
        '{"seed":1,"measures":[1,[3,null]]}',
    ]  # fmt: skip


def test_a_half_written_last_line_is_left_out_and_others_are_refused(tmp_path):
    file = tmp_path / "runs.jsonl"
    write(file, [row_of("study", {"x": seed, "seed": seed}) for seed in range(3)])
    whole = file.read_text()
    file.write_text(whole[:-4])
    assert [row["seed"] for row in read(file)] == [0, 1]
    for broken in ("{not json}", "[1]", '{"measures": [1, 2]}', '{"measures": {}, "other": 1}'):
        file.write_text(whole + broken + "\n" + "{}\n")
        with pytest.raises(ResultsError, match=r"line 4 of .*runs\.jsonl is no run of a study"):
            read(file)


def test_facts_name_the_checkout_or_nothing():
    found = facts(3)
    assert found["machine"]["threads"] == 3
    assert found["commit"] is None or len(found["commit"].removesuffix("+")) == 10
    assert found["versions"]["torch"]


@pytest.mark.parametrize("name", ["drop", "encoders", "cifar10-objectives", "temporal", "retrieval"])
def test_studies_without_data_are_refused_before_they_start(name, tmp_path, monkeypatch):
    monkeypatch.delenv("PAIRSIFT_DATA", raising=False)
    with pytest.raises(StudyError, match="PAIRSIFT_DATA is not set: it names the folder of the real data"):
        plan(name, "cpu", 1, tmp_path)
    monkeypatch.setenv("PAIRSIFT_DATA", str(tmp_path))
    with pytest.raises(StudyError, match="holds no folder"):
        plan(name, "cpu", 1, tmp_path)
    assert not list(tmp_path.iterdir())
