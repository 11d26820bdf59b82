"""The site shows everything: public names in the reference, pages in the navigation, examples; links hold."""

import html
import importlib
import inspect
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

import pairsift

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SETTINGS = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
ROOMS = ["pairs", "treatments", *(name for name in pairsift.__all__ if inspect.ismodule(getattr(pairsift, name)))]
SHOWN = {
    room: re.findall(rf"^::: pairsift\.{room}\.([\w.]+)$", page.read_text(), re.MULTILINE)
    for room in ROOMS
    if (page := DOCS / "reference" / f"{room}.md").exists()
}

# What public losses inherit from and take, and what is no name of their subpackage.
BEHIND = {"losses": ("treated.TreatedLoss", "treated.TemperedLoss", "treated.PairedLoss", "treated.Options")}


def own(module):
    """The public names of a module without `__all__`: what it defines."""
    return [
        name
        for name, thing in vars(module).items()
        if not name.startswith("_") and getattr(thing, "__module__", None) == module.__name__
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_the_reference_has_every_public_name_of_a_room(room):
    module = importlib.import_module(f"pairsift.{room}")
    names = getattr(module, "__all__", None) or own(module)
    assert len(names) >= 2
    assert not set(names) - set(SHOWN[room])
    assert len(SHOWN[room]) == len(set(SHOWN[room]))
    others = re.findall(r"`(\w+\.\w+)`", module.__doc__) if room == "integrations" else BEHIND.get(room, ())
    assert set(SHOWN[room]) == {*names, *others}


def test_the_reference_has_every_name_at_the_top():
    shown = [getattr(importlib.import_module(f"pairsift.{room}"), name, None) for room in SHOWN for name in SHOWN[room]]
    said = (DOCS / "reference/index.md").read_text()
    for name in pairsift.__all__:
        thing = getattr(pairsift, name)
        if not (inspect.ismodule(thing) or name == "__version__"):
            assert any(thing is each for each in shown), name
            assert f"`ps.{name}`" in said


def test_public_names_are_found():
    module = types.ModuleType("module")
    exec("import math\nclass Public: pass\nclass _Private: pass\ndef public(): pass", vars(module))
    assert own(module) == ["Public", "public"]
    assert set(SHOWN) == set(ROOMS)
    assert {"theory", "losses", "evaluate"} <= set(ROOMS)


def entries(nav):
    """Every page of a navigation."""
    if isinstance(nav, str):
        return [nav]
    return [page for part in (nav.values() if isinstance(nav, dict) else nav) for page in entries(part)]


def test_every_page_is_in_the_navigation_once():
    pages = sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))
    assert sorted(entries(SETTINGS["nav"])) == pages


def test_the_page_of_examples_has_them_all():
    there = {path.name for path in (ROOT / "examples").iterdir() if path.suffix in (".py", ".ipynb")}
    assert set(re.findall(r"\]\(\.\./examples/([\w.]+)\)", (DOCS / "examples.md").read_text())) == there


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site; a warning of any kind ends the build."""
    for name in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(name, reason="the site needs pip install 'pairsift[docs]'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    settings = os.environ | {"NO_MKDOCS_2_WARNING": "1"}  # an advertisement for another program
    built = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=settings, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "WARNING" not in built.stderr
    return {str(page.relative_to(folder)): page.read_text() for page in folder.rglob("*.html")} | {"": str(folder)}


def test_every_public_name_has_its_place_on_the_site(site):
    anchors = {anchor for page in site.values() for anchor in re.findall(r'<h\d id="(pairsift\.[\w.]+)"', page)}
    assert {f"pairsift.{room}.{name}" for room, names in SHOWN.items() for name in names} <= anchors
    for room in ("theory.bounds", "theory.edits", "theory.population", "losses.baselines"):
        module = importlib.import_module(f"pairsift.{room}")
        names = getattr(module, "__all__", None) or [name for name in own(module) if "Array" not in name]
        assert {f"pairsift.{room}.{name}" for name in names} <= anchors


def test_links_of_the_site_lead_somewhere_and_nothing_is_fetched(site):
    folder, count = Path(site[""]), 0
    for name, page in site.items():
        if not name or name == "404.html":  # which is served at any depth
            continue
        fetched = re.findall(r'<(?:script|link|img)\b[^>]*(?:src|href)="?([^"\s>]+)', page)
        assert not [each for each in fetched if each.startswith(("http", "//"))]
        for link in (
            html.unescape(unquote(each)) for each in [*fetched, *re.findall(r'<a\b[^>]*href="([^"]+)"', page)]
        ):
            if not re.match(r"\w+:", link):
                path, _, anchor = link.partition("#")
                target = (folder / name).parent / path if path else folder / name
                assert target.exists(), f"{name} links to {link}"
                assert not anchor or target.suffix != ".html" or f'id="{anchor}"' in target.read_text(), (name, link)
                count += 1
    assert count > 1000


def test_the_history_of_changes_is_on_the_site_where_there_is_one(site):
    assert ("changelog.html" in site) == (ROOT / "CHANGELOG.md").exists()
    assert ('href="changelog.html"' in site["index.html"]) == (ROOT / "CHANGELOG.md").exists()


@pytest.mark.parametrize("name", ["examples/lightly_loop.py", "examples/scan.ipynb", "src/pairsift/pairs/kernels.py"])
def test_files_outside_the_documentation_come_along(site, name):
    page = site[f"{name}.html"]
    assert "<code>" in page
    assert "pairsift" in page


def test_a_link_that_leaves_the_documentation_is_found_and_rewritten(tmp_path, monkeypatch):
    pytest.importorskip("mkdocs", reason="the site needs pip install 'pairsift[docs]'")
    monkeypatch.syspath_prepend(DOCS / "_build")
    links = importlib.import_module("links")
    docs, code = tmp_path / "docs", tmp_path / "examples/a.py"
    for file in (docs / "page.md", docs / "deep/page.md", code, tmp_path / "README.md", tmp_path / "data.json"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x = 1")
    text = "[a](../../examples/a.py#L1) [b](../page.md) [c](https://d.org/e.md) [f](#g) [h](no.md) [i](../../data.json)"
    assert links.rewritten(text, docs / "deep/page.md", "deep/page.md", docs) == (
        "[a](../examples/a.py.md#L1) [b](../page.md) [c](https://d.org/e.md) [f](#g) [h](no.md) [i](../data.json)"
    )
    assert links.outside(docs / "page.md", "../examples/a.py", docs) == code
    assert links.outside(docs / "page.md", "deep/page.md", docs) is None
    assert links.address(tmp_path / "README.md", docs) == "readme.md"
    assert links.shown(code, docs) == "# `examples/a.py`\n\n````python\nx = 1\n````\n"
    assert links.rewritten("[d](docs/page.md)", tmp_path / "README.md", "readme.md", docs) == "[d](page.md)"


def test_docstrings_are_read_as_they_are_meant(monkeypatch):
    pytest.importorskip("griffe", reason="the site needs pip install 'pairsift[docs]'")
    monkeypatch.syspath_prepend(DOCS / "_build")
    words = "Loss.\n\nArgs:\n    z0, z1: (N, d)\n        rows.\n    h: (N, D).\n\nExample:\n    >>> 1, 2\n    (1, 2)"
    assert importlib.import_module("docstrings").plain(words) == (
        "Loss.\n\nArgs:\n    z0: (N, d)\n        rows.\n    z1: (N, d)\n        rows.\n    h: (N, D).\n\n"
        "Examples:\n    >>> 1, 2\n    (1, 2)"
    )
