"""Pages in a real browser: their own scripts run under their policy, and nobody else's do."""

import re

import numpy as np
import pyarrow as pa
import pytest
from mixtures import midpoints

import pairsift as ps
from pairsift.report.drawing import Axis, Drawing, Mark, polyline
from pairsift.report.page import Section, write_figures
from pairsift.theory import SimilarityGraph
from pairsift.theory.page import theory_page

HOSTILE = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title='taken'\">"


def scan_report(path):
    features, labels, _ = midpoints(200)
    found = ps.scan(features, 5, labels=labels, threads=1)
    object.__setattr__(found, "known", pa.table({"path": [HOSTILE] * 200}))
    found.report(path, np.zeros((200, 4, 4), np.uint8), labels=np.array([HOSTILE] * 200))


def figure(text):
    x, y = Axis(0.0, 3.0, text), Axis(0.0, 5.0, text)
    return Drawing(f"figure-{len(text)}", text, x, y, [Mark(polyline(x, y, [1, 2], [3, 4]), "line a", text, text)])


def hostile_figures(path):
    write_figures(path, HOSTILE, HOSTILE, [Section(HOSTILE, HOSTILE, figure(HOSTILE))])


PAGES = {
    "scan": scan_report,
    "theory": lambda path: theory_page(path, SimilarityGraph(40, 3, 8, 0.5, 0.1, 0.3), 0.05, 4),
    "hostile": hostile_figures,
}


@pytest.fixture(scope="module", params=PAGES)
def file(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("pages") / f"{request.param}.html"
    PAGES[request.param](path)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """The page of one figure: the policy is the same in all."""
    path = tmp_path_factory.mktemp("plain") / "page.html"
    write_figures(path, "title", "words", [Section("heading", "words", figure("x"))])
    return path


@pytest.fixture
def opened(browser):
    """Open a page file; what it complains of and asks the network for are in `.complaints`."""
    page = browser.new_page()
    page.complaints = []
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda asked: page.complaints.append(asked.url) if asked.url.startswith("http") else None)

    def opening(path):
        page.goto(path.as_uri())
        return page

    yield opening
    page.close()


def test_figures_are_drawn_and_what_is_hostile_is_text(opened, file):
    page = opened(file)
    assert page.locator("svg path").count() >= (2 if file.stem == "hostile" else 10)
    assert page.title() != "taken"
    assert page.evaluate("[...document.images].every((image) => !image.src.endsWith('/x'))")
    assert page.complaints == []
    if file.stem in ("scan", "hostile"):
        assert "document.title = 'taken'" in page.locator("body").inner_text()


@pytest.mark.parametrize(
    ("attack", "blocked"),
    [
        ("<script>document.title = 'taken'</script>", "script-src"),
        ("<img src=x onerror=\"document.title='taken'\">", "img-src|script-src"),
        ("<p onclick=\"document.title='taken'\">x</p><script>document.querySelector('p').click()</script>", "script"),
        ('<script src="http://127.0.0.1:9/a.js"></script>', "script-src"),
        ('<img src="http://127.0.0.1:9/a.png">', "img-src"),
        ('<link rel="stylesheet" href="http://127.0.0.1:9/a.css">', "style-src"),
        ('<iframe src="http://127.0.0.1:9/"></iframe>', "default-src|frame-src"),
        ('<base href="http://127.0.0.1:9/">', "base-uri"),
    ],
)
def test_what_somebody_writes_into_a_page_does_nothing(opened, tmp_path, attack, blocked, plain):
    """As though escaping had failed: the policy stands behind it."""
    text = plain.read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(text.replace("</h1>", f"</h1>{attack}", 1), encoding="utf-8")
    page = opened(tmp_path / "page.html")
    assert page.title() != "taken"
    refusals = [line for line in page.complaints if "Content Security Policy" in line]
    assert refusals
    assert any(re.search(blocked, line) for line in refusals)
    assert page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'blocked')") == "blocked"


def test_the_policy_names_each_script_of_the_page_once(file):
    text = file.read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text).group(1)
    hashes = re.findall("'sha256-[^']*'", policy)
    assert len(hashes) == len(set(hashes)) == len(re.findall("<script>", text))
    assert "unsafe-inline" not in re.search("script-src[^;]*", policy).group(0)
    assert "unsafe-eval" not in policy
    assert "default-src 'none'" in policy
