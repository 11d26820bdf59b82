"""Results of version 0.2 are converted whole: tests/test_docs.py compares every number of the pages made of them."""

import json

from lab.convert import by_arm, curves, keyed, suite
from lab.rows import read, write

ENVIRONMENT = {"python": "3.11", "torch": "2.13", "machine": "x86_64", "cpus": 2, "threads": 1,
               "git_commit": "0123456789abcdef", "src_modified": False}  # fmt: skip


def test_runs_of_a_study_keep_every_number(tmp_path):
    header = {"study": "mine", "version": 2, "pairsift": "0.1.0", "scale": "gpu", "environment": ENVIRONMENT}
    runs = [
        {"group": "g", "arm": arm, "seed": seed, "setting": {"x": arm}, "measures": {"a": seed / 3, "b": None},
         "seconds": 1.5, "commit": "aaaaaaaaaa"}
        for seed in range(2) for arm in ("one", "two")
    ]  # fmt: skip
    file = tmp_path / "runs.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in (header, *runs)))
    write(tmp_path / "new.jsonl", suite(file))
    rows = read(tmp_path / "new.jsonl")
    assert [(row["arm"], row["seed"]) for row in rows] == [("one", 0), ("one", 1), ("two", 0), ("two", 1)]
    for row in rows:
        assert (row["study"], row["version"], row["scale"], row["group"]) == ("mine", 2, "gpu", "g")
        assert row["settings"] == {"x": row["arm"]}
        assert row["measures"] == {"a": row["seed"] / 3, "b": None, "seconds": 1.5}
        assert (row["commit"], row["versions"]["torch"], row["machine"]["cpus"]) == ("aaaaaaaaaa", "2.13", 2)


def test_objects_with_rows_name_groups_and_arms():
    record = {"set": "s", "environment": ENVIRONMENT,
              "rows": [{"alpha": 0.5, "seed": 3, "error": 7, "kind": "k"}]}  # fmt: skip
    (row,) = keyed("mine", "{set}", "alpha {alpha:g}", ("alpha",))(record)
    assert (row["group"], row["arm"], row["seed"]) == ("s", "alpha 0.5", 3)
    assert (row["settings"], row["measures"]) == ({"kind": "k", "alpha": 0.5}, {"error": 7})


def test_logs_become_curves():
    assert curves([{"loss": 1.23456789, "flagged": ""}, {"loss": 2, "flagged": 0.5}]) == {
        "loss": [1.23457, 2], "flagged": [None, 0.5]
    }  # fmt: skip


def test_rows_of_an_arm_stand_together():
    rows = [{"group": "", "arm": arm, "seed": seed} for seed in range(2) for arm in "ba"]
    assert [(row["arm"], row["seed"]) for row in by_arm(rows)] == [("b", 0), ("b", 1), ("a", 0), ("a", 1)]
