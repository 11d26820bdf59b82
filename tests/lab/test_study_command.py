"""`python -m lab`: every study of the suite at smoke scale, what is kept, and what is refused."""

import io
import signal
import sys
import time
from pathlib import Path

import pytest
import warm

import lab.__main__ as program
from lab import Arm, Study, StudyError, registry
from lab.comparison import compared
from lab.ledger import Ledger, read_runs
from lab.outcome import page, table_of

OWN = """
from pathlib import Path
from lab import Arm, Study

def run(setting, seed, scale):
    with open(Path(__file__).with_name("calls"), "a") as file:
        file.write(f"{setting['bonus']} {seed}\\n")
    return {"accuracy": 90 + setting["bonus"] + seed, "held": 80 - setting["bonus"], "scale": len(scale)}

STUDY = Study(
    "mine", "Does a bonus help?", [Arm("plain", {"bonus": 0}, paper="88.26"), Arm("treated", {"bonus": 2})], run,
    {"accuracy": "accuracy %", "held": "held out %"}, seconds=2,
)
"""


@pytest.fixture
def command(monkeypatch):
    """Run `python -m lab`; returns exit code, what it printed and what it said on stderr."""

    def run(*arguments, width=200):
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr(program.console, "_width", width)
        monkeypatch.setattr(program.notes, "_width", width)
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        code = program.main([*map(str, arguments)])
        return code, out.getvalue(), err.getvalue()

    return run


@pytest.fixture
def own(tmp_path):
    """A study of a user, in a file."""
    file = tmp_path / "mine.py"
    file.write_text(OWN)
    return file


def calls(own):
    file = own.with_name("calls")
    return file.read_text().splitlines() if file.exists() else []


FILES = {"runs.jsonl", "table.md", "figure.svg"}
# Studies of real data at every scale.
NEED_DATA = {
    "adapt", "cifar10-objectives", "collapse", "drop", "encoders", "fine-tuning", "retrieval", "retrieval-tuned",
    "retrieval-tuning", "semantic-negatives", "sentences", "temporal",
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """The folder of all smoke runs: studies with runs in common make them once, as those of a user do."""
    return tmp_path_factory.mktemp("smoke")


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names())
def test_every_study_runs_at_smoke_scale_without_data(name, shared, command, monkeypatch):
    monkeypatch.delenv("PAIRSIFT_DATA", raising=False)
    monkeypatch.chdir(shared)
    code, _, err = command(name, "--scale", "smoke", "--seeds", 1, "-o", shared)
    if name in NEED_DATA:
        assert code == 1
        assert "PAIRSIFT_DATA is not set" in err
        return
    assert code == 0, err
    folder, study = shared / name, registry.find_study(name)
    assert {"runs.jsonl", "table.md"} <= {file.name for file in folder.iterdir()} <= FILES
    rows = read_runs(folder / "runs.jsonl")
    assert all(row["measures"].keys() >= study.measures.keys() for row in rows)
    text = (folder / "table.md").read_text()
    assert study.question in text
    assert text.count(" | 1 | ") > 0 or "Spearman" in text
    assert study.question in (folder / "table.md").read_text()


def test_the_list_tells_what_each_answers_and_costs(command):
    code, out, _ = command("--list")
    assert code == 0
    for name in registry.names():
        assert name in out
    assert len(registry.names()) >= 14
    for word in ("Table 9", "Figure 5", "1300"):
        assert word in out


@pytest.mark.parametrize("width", [60, 80])
def test_names_of_the_list_stay_whole_on_narrow_terminals(command, width):
    _, out, _ = command("--list", width=width)
    assert all(f" {name} " in out for name in registry.names())


def test_a_finished_run_is_never_repeated(own, tmp_path, command):
    code, out, err = command(own, "--seeds", 2, "-o", tmp_path / "out")
    assert code == 0
    assert "4 runs to do, 0 there already; about 8 s (2.0 s a run" in err
    assert calls(own) == ["0 0", "2 0", "0 1", "2 1"]
    assert "+2.00" in out
    assert "88.26" in out
    (tmp_path / "out" / "mine" / ".table.md.17.tmp").write_text("what a killed process left")
    code, _, err = command(own, "--seeds", 3, "-o", tmp_path / "out")
    assert code == 0
    assert {"runs.jsonl", "table.md", "figure.svg"} == {each.name for each in (tmp_path / "out" / "mine").iterdir()}
    assert "2 runs to do, 4 there already" in err
    assert calls(own)[4:] == ["0 2", "2 2"]


def test_a_torn_line_is_made_again(own, tmp_path, command):
    command(own, "--seeds", 2, "-o", tmp_path)
    file = tmp_path / "mine" / "runs.jsonl"
    whole = file.read_text()
    file.write_text(whole[:-30])
    code, _, err = command(own, "--seeds", 2, "-o", tmp_path)
    assert code == 0
    assert "1 runs to do, 3 there already" in err
    assert calls(own)[4:] == ["2 1"]
    again = read_runs(file)
    file.write_text(whole)
    made = read_runs(file)
    for row in (*made, *again):
        row["measures"].pop("seconds")
    assert made == again
    lines = whole.splitlines(keepends=True)
    file.write_text("".join([lines[0], lines[1].replace("{", "", 1), *lines[2:]]))
    code, _, err = command(own, "--seeds", 2, "-o", tmp_path)
    assert code == 1
    assert "line 2 of" in err


@pytest.mark.parametrize(
    "flags", [("--jobs", 2), pytest.param(("--jobs", 2, "--engine", "ray"), marks=pytest.mark.slow)]
)
def test_runs_of_several_processes_are_those_of_one(own, tmp_path, command, flags):
    if "ray" in flags:
        pytest.importorskip("ray", reason="Ray is not installed: pip install 'pairsift[distributed]'")
    command(own, "--seeds", 3, "-o", tmp_path / "one")
    code, _, err = command(own, "--seeds", 3, "-o", tmp_path / "two", *flags)
    assert code == 0, err
    one, two = (read_runs(tmp_path / name / "mine" / "runs.jsonl") for name in ("one", "two"))
    for row in (*one, *two):
        row["measures"].pop("seconds")
    key = lambda row: (row["arm"], row["seed"], sorted(row["measures"].items()))  # noqa: E731
    assert sorted(map(key, one)) == sorted(map(key, two))
    tables = [(tmp_path / name / "mine" / "table.md").read_text() for name in ("one", "two")]
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_a_run_that_fails_on_ray_is_named_and_others_are_kept(own, tmp_path, command):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'pairsift[distributed]'")
    own.write_text(OWN.replace('"scale": len(scale)}', '"scale": 1 / (1 - seed)}'))
    code, _, err = command(own, "--seeds", 2, "-o", tmp_path, "--engine", "ray")
    assert code == 1
    assert "the run 'plain' with seed 1 failed: ZeroDivisionError" in err
    assert "Traceback" not in err
    assert len(read_runs(tmp_path / "mine" / "runs.jsonl")) == 2


def test_what_does_not_belong_together_is_refused(own, tmp_path, command):
    assert command(own, "--seeds", 1, "-o", tmp_path)[0] == 0

    def refused(*arguments):
        code, out, err = command(*arguments)
        assert (code, out) == (1, "")
        return err.replace("\n", " ")

    assert "was made with scale 'cpu', and this is scale 'smoke'" in refused(own, "--scale", "smoke", "-o", tmp_path)
    own.write_text(OWN.replace('"treated", {"bonus": 2}', '"treated", {"bonus": 3}'))
    assert "holds 'treated' with bonus=2, and 3 is asked for: choose another --output" in refused(own, "-o", tmp_path)
    own.write_text(OWN.replace("seconds=2", "version=2"))
    assert "was made with version 1, and this is version 2" in refused(own, "-o", tmp_path)
    assert calls(own) == ["0 0", "2 0"]


def test_bad_input_is_a_line(own, tmp_path, command, monkeypatch):
    def refused(*arguments, code=1):
        found, out, err = command(*arguments)
        assert (found, out) == (code, "")
        assert "Traceback" not in err
        return err.replace("\n", " ")

    assert "there is no study 'sigma-roh': did you mean 'sigma-rho'" in refused("sigma-roh", "-o", tmp_path)
    assert "there are adapt, band" in refused("zzz", "-o", tmp_path)
    assert "there is no file" in refused(tmp_path / "none.py")
    assert "--seeds must be at least 1, got 0" in refused(own, "--seeds", 0, "-o", tmp_path)
    assert "--jobs must be at least 1, got 0" in refused(own, "--jobs", 0, "-o", tmp_path)
    assert "--address is of a Ray cluster, got 'auto'" in refused(own, "--address", "auto", "-o", tmp_path)
    assert "name a study" in refused(code=2)
    (tmp_path / "file").write_text("")
    assert "cannot be written (Not a directory): choose another --output" in refused(own, "-o", tmp_path / "file")
    monkeypatch.delenv("PAIRSIFT_DATA", raising=False)
    said = refused("band", "-o", tmp_path / "no")
    for word in ("PAIRSIFT_DATA is not set", "a folder pendigits", "--scale smoke needs no data"):
        assert word in said
    monkeypatch.setenv("PAIRSIFT_DATA", str(tmp_path))
    assert "there is no" in refused("combined", "-o", tmp_path / "no")
    assert not (tmp_path / "no").exists()
    (tmp_path / "two.py").write_text(OWN + "\nOTHER = STUDY.__class__(**vars(STUDY) | {'name': 'other'})")
    assert "has 2 objects" in refused(tmp_path / "two.py", "-o", tmp_path)
    assert calls(own) == []


def test_a_run_that_fails_is_named_and_others_are_kept(own, tmp_path, command):
    own.write_text(OWN.replace('"scale": len(scale)}', '"scale": 1 / (1 - seed)}'))
    code, _, err = command(own, "--seeds", 2, "-o", tmp_path)
    assert code == 1
    assert "the run 'plain' with seed 1 failed: ZeroDivisionError" in err
    assert len(read_runs(tmp_path / "mine" / "runs.jsonl")) == 2
    own.write_text(OWN.replace('"held": 80 - setting["bonus"]', '"held": float("nan")'))
    assert "held=nan: a measure is a finite number, or None" in command(own, "-o", tmp_path / "b")[2].replace("\n", " ")


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_finished(own, tmp_path):
    own.write_text(OWN.replace("    return {", "    import time; time.sleep(0.2 if seed < 1 else 60)\n    return {"))
    file = tmp_path / "out" / "mine" / "runs.jsonl"
    for jobs in ("1", "2"):
        process = warm.Program("-m", "lab", own, "--seeds", 9, "-o", tmp_path / "out", "--jobs", jobs)
        known = len(calls(own))
        for _ in range(1200):
            if file.exists() and len(file.read_text().splitlines()) >= 2 and len(calls(own)) > max(2, known):
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130, process.stderr
        said = process.stderr
        assert "stopped: 2 finished runs are kept in" in said.replace("\n", " ")
        assert "Traceback" not in said
        assert len(read_runs(file)) == 2


def test_two_commands_do_not_share_a_folder(own, tmp_path, command):
    from lab.locks import claimed

    (tmp_path / "mine").mkdir()
    with claimed(tmp_path / "mine"):
        code, _, err = command(own, "-o", tmp_path)
    assert code == 1
    assert "another process works in" in err


def rows_of(**values):
    return [
        {"group": "", "arm": arm, "seed": seed, "settings": {}, "measures": {"a": a, "t": t, "seconds": 1.0}}
        for arm, pairs in values.items()
        for seed, (a, t) in enumerate(pairs)
    ]


def study_of(arms, **more):
    return Study("s", "q?", arms, lambda *_: {}, {"a": "A", "t": "T"}, tuned_on="t", **more)


def test_candidates_are_chosen_by_what_the_test_does_not_see():
    arms = [Arm("plain", baseline=""), Arm("x1", of="x"), Arm("x2", of="x")]
    rows = rows_of(plain=[(50, 0), (60, 0)], x1=[(90, 1), (90, 1)], x2=[(53, 2), (62, 2)])
    chosen = {line.title: line for line in compared(study_of(arms), arms, rows)}
    assert set(chosen) == {"plain", "x: x2"}
    assert chosen["x: x2"].differences["a"] == [3, 2]
    lower = {line.title for line in compared(study_of(arms, lower_is_better=True), arms, rows)}
    assert lower == {"plain", "x: x1"}
    partial = {line.title for line in compared(study_of(arms), arms, rows[:-1])}  # x2 has one of two runs
    assert partial == {"plain", "x: x1"}
    # 3 and 2 points: 2.5 with a t interval of 12.71 standard errors of 0.5, which holds 0.
    assert "| no difference (+2.50 ± 6.35) |" in table_of(study_of(arms), arms, rows)
    assert "no difference" in page(study_of(arms), arms, rows, "cpu")


def test_a_method_may_be_the_baseline():
    arms = [Arm("p1", of="plain", baseline=""), Arm("p2", of="plain", baseline=""), Arm("x")]
    rows = rows_of(p1=[(50, 2), (51, 2)], p2=[(70, 1), (70, 1)], x=[(52, 0), (53, 0)])
    lines = {line.title: line for line in compared(study_of(arms), arms, rows)}
    assert lines["x"].differences["a"] == [2, 2]
    assert "+2.00 ± 0.00" in table_of(study_of(arms), arms, rows)


def test_studies_that_make_no_sense_are_refused():
    with pytest.raises(StudyError, match="two arms 'plain'"):
        study_of([Arm("plain"), Arm("plain")]).of_scale("cpu")
    with pytest.raises(StudyError, match="its group has no such arm"):
        study_of([Arm("x")]).of_scale("cpu")
    with pytest.raises(StudyError, match="names no measures"):
        Study("s", "q?", [], lambda *_: {}, {})
    with pytest.raises(StudyError, match="none of its measures"):
        Study("s", "q?", [], lambda *_: {}, {"a": "A"}, tuned_on="b")
    with pytest.raises(StudyError, match="no arms"):
        study_of([]).of_scale("cpu")


def test_lines_of_something_else_are_refused(tmp_path):
    study = study_of([Arm("plain", baseline="")])
    (tmp_path / "runs.jsonl").write_text('{"a": 1}\n{"b": 2}\n')
    with pytest.raises(StudyError, match=r"line 1 of .*runs\.jsonl is no run of a study"):
        Ledger(tmp_path / "runs.jsonl", study, "cpu")


COMMITTED = sorted(Path(__file__).parents[2].glob("lab/results/*/table.md"))


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: file.parent.name)
def test_committed_tables_follow_from_committed_runs(file):
    study, rows = registry.find_study(file.parent.name), read_runs(file.with_name("runs.jsonl"))
    arms = study.of_scale("cpu")
    assert page(study, arms, rows, "cpu") == file.read_text()
    ledger = Ledger(file.with_name("runs.jsonl"), study, "cpu")
    ledger.check(arms)
    assert rows


def test_the_study_of_the_example_runs(tmp_path, command):
    example = Path(__file__).parents[2] / "examples" / "own_study.py"
    code, out, err = command(example, "--scale", "smoke", "-o", tmp_path)
    assert code == 0, err
    assert out.count("| tau 0.") == 4
