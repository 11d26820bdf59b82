"""What a release says of itself is one thing everywhere: its version, the Pythons it is for, its extras."""

import re

import yaml
from environments import PROJECT, ROOT, requirements

import pairsift


def words(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_is_said_alike():
    assert re.fullmatch(r"\d+\.\d+\.\d+", pairsift.__version__)
    assert "version" in PROJECT["dynamic"]  # read from the package when it is built
    released = re.findall(r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", words("CHANGELOG.md"), re.MULTILINE)
    assert len(released) == len(re.findall("^## ", words("CHANGELOG.md"), re.MULTILINE))
    assert released[0][0] == pairsift.__version__
    assert [date for _, date in released] == sorted((date for _, date in released), reverse=True)
    citation = yaml.safe_load(words("CITATION.cff"))
    assert (citation["version"], str(citation["date-released"])) == released[0]
    assert citation["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_the_pythons_of_the_matrix_are_the_declared_ones():
    declared = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if ":: Python :: 3." in line]
    tested = re.search(r"SUPPORTED = \((.*?)\)", words("tests/slow/release/matrix.py")).group(1)
    assert re.findall(r"[\d.]+", tested) == declared
    assert PROJECT["requires-python"] == f">={declared[0]}"


def test_every_extra_is_on_the_page():
    page = words("docs/installing.md")
    assert all(f"`{extra}`" in page for extra in PROJECT["optional-dependencies"])


def test_every_requirement_has_a_lowest_version_and_the_matrix_takes_it(monkeypatch):
    """Requirements of users; those of development come from constraints.txt."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "slow" / "release"))
    import matrix

    extras = [extra for extra in PROJECT["optional-dependencies"] if extra not in ("dev", "docs")]
    low = {extra: dict(line.split("==") for line in matrix.lowest(extra, torch=True)) for extra in extras}
    for extra in extras:
        assert set(low[extra]) == {each.name for each in (*requirements(), *requirements(extra))}
    assert (low["train"]["torch"], low["text"]["sentence-transformers"]) == ("2.4", "5.4")
    assert {each.name for each in requirements("all")} < set(low["all"])


def test_the_matrix_runs_tests_that_are_there():
    names = re.findall(r'"([\w/]+\.py)"', words("tests/slow/release/matrix.py"))
    assert len(names) > 10
    assert not [name for name in names if not (ROOT / "tests" / name).exists()]
