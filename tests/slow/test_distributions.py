"""The source distribution and the wheel, built as they would be released, hold all of the package and nothing else.

`make release-check` also installs them in empty environments, which takes minutes.
"""

import email
import shutil
import subprocess
import sys
import zipfile

import pytest
from environments import PROJECT, ROOT

import pairsift

BUILD = "from setuptools import build_meta; print(build_meta.build_sdist('.')); print(build_meta.build_wheel('.'))"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """(source distribution, wheel), made in a copy, since setuptools writes next to the sources."""
    pytest.importorskip("setuptools", minversion="77", reason="building needs setuptools 77")
    folder = tmp_path_factory.mktemp("built")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    done = subprocess.run([sys.executable, "-c", BUILD], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.tar.gz")), next(folder.glob("*.whl"))


def test_both_hold_the_package_and_nothing_else(built, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "slow" / "release"))
    import check

    check.check_contents(*built)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_file_that_is_left_out_is_found(built, monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "slow" / "release"))
    import check

    sdist, wheel = built
    with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(tmp_path / wheel.name, "w") as part:
        for name in whole.namelist():
            if name != "pairsift/py.typed":
                part.writestr(name, whole.read(name))
    with pytest.raises(SystemExit, match=r"lacks \['pairsift/py\.typed'\]"):
        check.check_contents(sdist, tmp_path / wheel.name)


def test_the_metadata_are_those_of_the_project(built):
    with zipfile.ZipFile(built[1]) as wheel:
        (name,) = (each for each in wheel.namelist() if each.endswith(".dist-info/METADATA"))
        said = email.message_from_bytes(wheel.read(name))
    assert (said["Name"], said["Version"]) == ("pairsift", pairsift.__version__)
    assert set(said.get_all("Provides-Extra")) == set(PROJECT["optional-dependencies"])
    assert said.get_all("Classifier") == PROJECT["classifiers"]
