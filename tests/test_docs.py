"""The README and the documentation tell the truth of today.

Their Python runs as it stands, block by block in one namespace a page; their tables are those of the result files; the
files they name are there.
"""

import re
from pathlib import Path

import pytest
import torch

from lab import figures
from lab import pages as tables
from lab import tables as made
from lab.drawing import alike, kept, shown, svg
from lab.rows import row_of, write
from pairsift.cli.app import load

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
PAGES = [page for page in sorted((ROOT / "docs").rglob("*.md")) if BLOCK.search(page.read_text())]


README = ROOT / "README.md"


def run(page, namespace):
    text = page.read_text()
    for match in BLOCK.finditer(text):
        line = text[: match.start(1)].count("\n")
        exec(compile("\n" * line + match.group(1), str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_of_the_page_runs(page):
    run(page, {})


def prose(text):
    """The text of a page that people read in full: without generated tables, code and comments."""
    return re.sub(r"<!--.*?-->", "", re.sub(r"^```.*?^```", "", tables.MARKED.sub("", text), flags=re.M | re.S))


def words(*texts):
    """How many words texts have; a word holds a letter or a digit."""
    return sum(bool(re.search(r"\w", word)) for text in texts for word in prose(text).split())


def sentences(text):
    """The sentences of a page without headings and rows of tables, links by their words."""
    text = re.sub(r"^(#|\|).*$", "", re.sub(r"\]\([^)]*\)", "]", prose(text)), flags=re.MULTILINE)
    paragraphs = re.split(r"\n\s*\n|^- ", text, flags=re.MULTILINE)
    return [each for paragraph in paragraphs for each in re.split(r"(?<=[.!?:])\s+", paragraph.strip()) if each]


def test_pages_are_short():
    """Generated tables and code blocks do not count as words."""
    counts = {page.name: words(page.read_text()) for page in (ROOT / "docs").glob("*.md")}
    assert sum(words(page.read_text()) for page in (ROOT / "docs").rglob("*.md")) <= 15_000
    assert counts["findings.md"] <= 2_000
    explanations = ("selection.md", "scan-design.md", "semantic-negatives.md", "temporal.md", "class-collapse.md")
    assert [name for name in explanations if counts[name] > 800] == []
    assert words(README.read_text()) <= 700


def test_sentences_of_the_readme_are_short():
    assert [each for each in sentences(README.read_text()) if len(each.split()) > 25] == []


def test_words_and_sentences_are_counted():
    text = "# A b\n\nOne [two](far/away.md), three.\nFour! Five:\n\n- six\n- seven\n\n| x |\n\n```sh\neight\n```\n"
    text += "<!-- table: worth -->\nnine ten\n<!-- end -->\n<!-- value: x -->11<!-- end -->"
    shown = " ".join(prose(text).split())
    assert shown == "# A b One [two](far/away.md), three. Four! Five: - six - seven | x | 11"
    assert words(text) == 11
    assert sentences(text) == ["One [two], three.", "Four!", "Five:", "six", "seven", "11"]


def test_code_of_the_readme_runs_as_pasted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    run(README, names)
    assert torch.isfinite(names["value"])
    assert not names["loss"].treatment.is_neutral
    assert list(tmp_path.iterdir()) == []


COMMAND = re.compile(r"^pairsift ([a-z-]+)(.*)$", re.MULTILINE)
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHOWN = [
    (page.name, name, line.partition("#")[0].split())
    for page in [README, *sorted((ROOT / "docs").rglob("*.md"))]
    for block in SHELL.findall(page.read_text())
    for name, line in COMMAND.findall(block.replace("\\\n", " "))
]


@pytest.mark.parametrize(("page", "name", "words"), SHOWN)
def test_flags_of_commands_on_pages_are_known(page, name, words):
    command = load(name)
    while words and words[0] in getattr(command, "commands", ()):
        command, words = command.commands[words[0]], words[1:]
    known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    assert {word.partition("=")[0] for word in words if word.startswith("-")} <= known


@pytest.mark.parametrize("page", tables.pages(), ids=lambda page: page.stem)
def test_tables_are_those_of_the_result_files(page):
    text = page.read_text()
    assert text == tables.filled(text), f"python -m lab.pages --write makes the tables of {page.name} anew"
    marked, values = (len(pattern.findall(text)) for pattern in (tables.MARKED, tables.VALUE))
    assert (marked, values) == (text.count("<!-- table"), text.count("<!-- value"))
    assert marked + values == text.count("<!-- end")
    assert not re.search(r"^\s*<!-- value", text, re.MULTILINE), "a comment that begins a line ends the paragraph"


@pytest.mark.parametrize(("pattern", "made"), [(tables.MARKED, tables.TABLES), (tables.VALUE, tables.VALUES)])
def test_every_table_and_value_is_on_a_page(pattern, made):
    used = {found[1] for page in tables.pages() for found in pattern.findall(page.read_text())}
    assert used == set(made)


@pytest.mark.parametrize("name", figures.FIGURES)
def test_figures_are_those_of_the_result_files(name):
    said = f"python -m lab.figures --write draws {name}.svg anew"
    assert alike(kept(figures.file_of(name)), shown(figures.FIGURES[name]())), said


def test_every_figure_is_on_a_page():
    used = {name for page in tables.pages() for name in re.findall(r"figures/([\w-]+)\.svg", page.read_text())}
    assert used == set(figures.FIGURES) == {file.stem for file in (ROOT / "docs/figures").iterdir()}


def test_a_figure_that_shows_something_else_is_found():
    found = shown(figures.FIGURES["study-purity"]())
    assert found[0]["y"]
    assert not alike(found, found[:-1])
    for change in ({"name": "other"}, {"y": [each + 0.01 for each in found[0]["y"]]}):
        assert not alike(found, [{**found[0], **change}, *found[1:]])


def test_a_figure_has_the_same_bytes_again():
    figure = figures.FIGURES["study-purity"]()
    assert svg(figure) == svg(figure)
    assert "<dc:date>" not in svg(figure)


def test_a_table_takes_fields_that_are_new_or_missing(tmp_path, monkeypatch):
    rows = [
        {"views": 512, "untreated_ms": 3.44, "untreated_peak_mb": 14.7, "dense_ms": 6, "dense_peak_mb": None},
        {"views": 1024, "untreated_ms": None, "another": 1, "git_commit": "0123456789abcdef", "threads": 1},
    ]
    write(tmp_path / "loss.jsonl", [row_of("loss", row) for row in rows])
    monkeypatch.setattr(made, "BENCHMARKS", tmp_path)
    made.runs.cache_clear()
    page = "<!-- table: loss, all sizes -->\n| stale |\n<!-- end -->"
    assert tables.filled(page).splitlines() == [
        "<!-- table: loss, all sizes -->",
        "",
        "| views | ours untreated | dense `cross_entropy` |",
        "| --- | --- | --- |",
        "| 512 | 3.4 ms, 15 MB | 6.0 ms |",
        "| 1,024 |  |  |",
        "",
        "From `lab/benchmarks/results/loss.jsonl` (1 thread, commit 0123456789).",
        "",
        "<!-- end -->",
    ]
    made.runs.cache_clear()


# A page names files from the root of the checkout, and modules also from that of the package.
FOLDERS = "docs|examples|lab|src|tests|" + "|".join(p.name for p in (ROOT / "src/pairsift").iterdir())
NAMED = re.compile(rf"`((?:{FOLDERS})/[\w./-]+)`")
LINK = re.compile(r"\]\((?!http)([^)#\s]+)")


@pytest.mark.parametrize("page", tables.pages(), ids=lambda page: page.stem)
def test_files_that_a_page_names_are_there(page):
    text = page.read_text()
    missing = [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    missing += [
        name for name in NAMED.findall(text) if not any((ROOT / at / name).exists() for at in ("", "src/pairsift"))
    ]
    assert not missing


def test_named_files_are_found():
    found = [
        name for page in tables.pages() for name in (*NAMED.findall(page.read_text()), *LINK.findall(page.read_text()))
    ]
    assert {"lab/benchmarks/results/loss.jsonl", "pairs/rank_band.py", "docs/architecture.md"} <= set(found)


@pytest.mark.parametrize("page", tables.pages(), ids=lambda page: page.stem)
def test_headings_that_a_page_links_to_are_there(page):
    for link, heading in re.findall(r"\]\((?!http)([^)#\s]*)#([^)\s]+)\)", page.read_text()):
        there = page.parent / link if link else page
        titles = re.findall(r"^#+ (.+)$", there.read_text(), re.MULTILINE)
        assert heading in [re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles]
