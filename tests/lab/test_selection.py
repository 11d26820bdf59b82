import json
import subprocess
import sys

import numpy as np
import pytest

from lab import selection, trainings, when
from lab.claims import claimed
from lab.gains import markdown
from pairsift._base.settings import ConfigError


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Run the study on a few digits for two epochs; returns the results by name."""
    early = trainings.Arm({**selection.COMBINED, "affinity_start": 1})
    monkeypatch.setitem(selection.ARMS, "affinity", early)
    monkeypatch.setitem(when.ARMS, "affinity", early)

    def run(*arguments, epochs=2, study=selection):
        options = {"--output": tmp_path / "results", "--runs": tmp_path / "runs", "--per-class": 30, "--epochs": epochs}
        flags = [str(part) for pair in options.items() for part in pair]
        # Not every processor has bf16: some take twenty times as long for it.
        flags += ["--set", "batch_size=100", "precision=fp32"]
        study.main(["digits:train", "digits:test", *flags, "--seeds", "0", *arguments])
        return {file.stem: json.loads(file.read_text()) for file in (tmp_path / "results").glob("*.json")}

    return run


def test_every_arm_is_trained_and_measured_once(study, tmp_path, monkeypatch, capsys):
    guide = tmp_path / "guide.npy"
    pixels = trainings.load_images("digits:train", per_class=30).images[:, 0].reshape(300, -1)
    np.save(guide, pixels.astype(np.float32))
    arms = ["second", "guide", "oracle", "random", "affinity"]
    results = study("--arms", *arms, "--guide", str(guide))
    # The second run's first one is a result of its own.
    assert set(results) == {f"{arm}-t0.5-s0" for arm in (*arms, "plain")}
    for name, result in results.items():
        assert name.startswith(result["arm"])
        assert 20 < result["linear"] <= 100
        assert [row["epoch"] for row in result["epochs"]] == [1, 2]
        assert result["seconds"] > 0
        assert {"torch", "git_commit"} <= result["environment"].keys()
    last = {name.split("-")[0]: result["epochs"][-1] for name, result in results.items()}
    assert last["oracle"]["different"] == 1
    assert last["oracle"]["flagged"] == pytest.approx(0.15, abs=0.01)
    assert last["random"]["flagged"] == pytest.approx(0.15, abs=0.01)
    assert last["guide"]["estimated"] != ""
    monkeypatch.setattr(trainings, "pretrain", None)  # whatever is finished is not trained again
    assert study("--arms", *arms, "--guide", str(guide)) == results
    with pytest.raises(ConfigError, match="was made with epochs=2, and 3 is asked for"):
        study("--arms", "oracle", epochs=3)
    capsys.readouterr()
    selection.main(["--table", str(tmp_path / "results")])
    assert capsys.readouterr().out.count("\n| 0.5 |") == 6


def test_every_arm_of_the_map_is_trained(study, tmp_path):
    pixels = trainings.load_images("digits:train", per_class=30).images[:, 0].reshape(300, -1)
    np.save(tmp_path / "guide.npy", pixels.astype(np.float32))
    arms = ["flags", "flags-100", "flags-missed-50", "judged-0.7", "judged-1", "mates-0.9", "affinity", "guide"]
    losses = ["hard-negatives", "debiased", "cancellation"]
    results = study("--arms", *arms, *losses, "--guide", str(tmp_path / "guide.npy"), study=when)
    assert set(results) == {f"{arm}-t0.5-s0" for arm in (*arms, *losses)}
    different = {name.split("-t0")[0]: result["epochs"][-1]["different"] for name, result in results.items()}
    assert different["flags"] == different["judged-1"] == different["flags-missed-50"] == 1
    assert different["flags-100"] < 0.75  # a tenth of all pairs, beside 15 %
    assert different["flags-100"] < different["judged-0.7"] < 1
    assert all(different[loss] == "" for loss in losses)
    assert len({result["linear"] for result in results.values()}) > 3


def test_a_result_made_before_a_setting_existed_had_its_default(study, tmp_path):
    ((name, result),) = study("--arms", "plain").items()
    del result["config"]["confidence"]
    (tmp_path / "results" / f"{name}.json").write_text(json.dumps(result))
    assert study("--arms", "plain") == {name: result}


def test_a_guide_is_needed_before_anything_is_trained(study, tmp_path):
    with pytest.raises(ConfigError, match="'guide' needs --guide"):
        study("--arms", "plain", "guide")
    assert not (tmp_path / "runs").exists()


def test_a_run_that_another_process_works_on_is_left_to_it(study, tmp_path, capsys):
    (tmp_path / "runs").mkdir()
    code = (
        "import sys; from pathlib import Path; from lab.claims import claimed\n"
        "with claimed(Path(sys.argv[1])) as free: print(free, flush=True); input()"
    )
    path = tmp_path / "runs" / "plain-t0.5-s0"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "True\n"
    assert study("--arms", "plain") == {}
    assert "plain-t0.5-s0: another process works on it" in capsys.readouterr().out
    other.kill()
    other.communicate()
    with claimed(path) as free:
        assert free


def result(arm, seed, linear, estimated=""):
    last = {"flagged": 0.15, "different": 0.9, "estimated": estimated}
    return {"arm": arm, "seed": seed, "temperature": 0.5, "linear": linear, "knn20": linear - 10, "epochs": [last]}


def test_gains_are_paired_by_seed():
    rows = [result("plain", 0, 50), result("plain", 1, 60), result("affinity", 0, 53, 0.8), result("affinity", 1, 62)]
    lines = markdown([*rows, result("affinity", 7, 90)]).splitlines()
    # 3 and 2 points: 2.5 with a t interval of 12.71 standard errors of 0.5; seed 7 has no plain run.
    assert lines[-1] == (
        "| 0.5 | affinity | 3 | 68.33 ± 47.93 | +2.50 ± 6.35 | 58.33 ± 47.93 | +2.50 ± 6.35 | 15.0 | 90.0 | 80.0 |"
    )
    assert lines[-2].startswith("| 0.5 | plain | 2 | 55.00 ± 63.53 |  | 45.00")
    assert markdown([result("plain", 0, 50)]).splitlines()[-1].startswith("| 0.5 | plain | 1 | 50.00 |  |")
