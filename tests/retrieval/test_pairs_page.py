"""The page of inspected pairs, in a real browser where there is one."""

import html
import re
import shutil

import numpy as np
import pyarrow as pa
import pytest

from pairsift.retrieval import inspect_pairs

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
HOSTILE = "<script>document.title = 1</script>"
TOPICS = [f"topic{i}x" for i in range(20)]


@pytest.fixture
def data():
    """Six questions a topic, one of them a script, the next row's answer its negative; a row twice, one wrong pair."""
    anchors = [f"{topic} question {i}" for topic in TOPICS for i in range(6)]
    positives = [f"{topic} answer {i}" for topic in TOPICS for i in range(6)]
    anchors[3] += HOSTILE
    anchors.append(anchors[3])
    positives.append(positives[3])
    positives[9] = f"{TOPICS[8]} answer"
    negatives = positives[1:] + positives[:1]
    negatives[-1] = negatives[3]
    return pa.table({"anchor": anchors, "positive": positives, "negative": negatives})


@pytest.fixture
def page_file(data, words, tmp_path):
    found = inspect_pairs(data, encoder=words(*TOPICS, "question"), floor=0.4, margin=0.1, cap=0.04)
    assert {gallery.heading for gallery in found.galleries} == {
        "Likely false negatives", "Mined negatives that look like positives", "Positives that may be wrong",
        "Duplicate rows", "Near-duplicate anchors", "Near-duplicate positives", "Anchors that repeat",
        "Positives that repeat",
    }  # fmt: skip
    near = next(gallery for gallery in found.galleries if gallery.heading == "Near-duplicate anchors")
    assert all(re.match(r"by guide, 0\.|by guide, 1\.|by spelling; guide ", pair[1].figure) for pair in near.examples)
    found.report(tmp_path / "report.html")
    return tmp_path / "report.html"


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if not CHROMIUM:
        pytest.skip("no chromium on the path")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def test_a_text_that_is_a_script_is_text_in_the_page(page_file):
    text = page_file.read_text(encoding="utf-8")
    assert "<script>document" not in text
    assert html.escape(HOSTILE) in text
    assert not re.search(r"<(?:script|link|img)[^>]+(?:src|href)=\"http", text)


def test_the_page_is_small_and_says_what_to_do(words, tmp_path):
    long = "and so on " * 60
    anchors = [f"{topic} question {i} {long}" for topic in TOPICS for i in range(25)]
    positives = [f"{topic} answer {i} {long}" for topic in TOPICS for i in range(25)]
    positives[40:80] = ["no topic"] * 40
    rows = {"anchor": anchors * 2, "positive": positives * 2, "negative": (positives[1:] + positives[:1]) * 2}
    found = inspect_pairs(pa.table(rows), encoder=words(*TOPICS, "question"), floor=0.4, margin=0.1, cap=0.04)
    found.report(tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(text.encode()) < 500_000
    assert len([each for each in found.galleries if len(each.examples) == 30]) >= 5
    assert "30 of 500 are shown" in text
    assert "They stay; --wrong-positives drop leaves them out." in text
    assert "`" not in re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_in_a_browser(browser, page_file, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    complaints = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda asked: complaints.append(asked.url) if asked.url.startswith("http") else None)
    page.goto(page_file.as_uri())
    page.wait_for_selector("#similarities svg")
    assert page.locator("#batches svg").count() == 1
    assert page.title() == "Pairs to train a retriever on"
    assert page.locator(".cell .text", has_text=HOSTILE).count() > 0
    assert page.locator("#expected tbody tr").count() == 3
    if width < 600:  # the table scrolls, and a shadow shows it
        table = page.locator(".wide:has(#expected)")
        assert table.evaluate("each => each.scrollWidth > each.clientWidth")
        assert "linear-gradient" in table.evaluate("each => getComputedStyle(each).backgroundImage")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    everything = page.locator(".gallery li:visible").count()
    page.select_option("#kind", label="Duplicate rows (1)")
    assert page.locator(".gallery:visible").count() == page.locator(".gallery li:visible").count() == 1
    assert page.locator(".gallery:visible").inner_text().count("as row 3") == 1
    page.select_option("#kind", "")
    page.select_option("#reason", "duplicate")
    assert 0 < page.locator(".gallery li:visible").count() < everything
    assert all(
        "|duplicate|" in each.get_attribute("data-reasons") for each in page.locator(".gallery li:visible").all()
    )
    page.select_option("#reason", "")
    assert page.locator("#lengths tbody tr").count() == 2
    page.fill("#search", "topic8x")
    assert 0 < page.locator(".gallery li:visible").count() < everything
    assert page.locator("#shown").inner_text() == f"{page.locator('.gallery li:visible').count()} examples"
    page.fill("#search", "")
    assert page.locator(".gallery li:visible").count() == everything
    assert complaints == []
    page.close()


def test_embeddings_have_no_texts_to_show(tmp_path):
    rng = np.random.default_rng(0)
    features = rng.standard_normal((20, 16)).repeat(3, axis=0) + 0.1 * rng.standard_normal((60, 16))
    table = pa.table(
        {
            "anchor": list(features),
            "positive": list(features[::-1].copy()[np.arange(60) // 3 * -3 + 57 + np.arange(60) % 3]),
        }
    )
    found = inspect_pairs(table, floor=0.5, examples=4)
    assert len(found.galleries[0].examples) == 4
    found.report(tmp_path / "page.html")
    assert "an embedding" in (tmp_path / "page.html").read_text()
    assert inspect_pairs(table, floor=0.5, examples=0).galleries == []
