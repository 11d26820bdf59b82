"""The scan's page, in a real browser where there is one."""

import csv
import dataclasses
import html
import re

import numpy as np
import pyarrow as pa
import pytest
from mixtures import midpoints
from PIL import Image

import pairsift as ps

N = 600
HOSTILE = "<script>document.title = 1</script>"


@pytest.fixture(scope="module")
def scanned():
    features, labels, _ = midpoints(N)
    return ps.scan(features, 5, labels=labels)


@pytest.fixture(scope="module")
def page_file(tmp_path_factory, scanned):
    images = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
    file = tmp_path_factory.mktemp("page") / "report.html"
    scanned.report(file, images)
    return file


@pytest.fixture(params=[1280, 390])
def page(request, browser, page_file):
    """The page at a width; what it asks the network for, and what it complains of, fail the test."""
    opened = browser.new_page(viewport={"width": request.param, "height": 900}, accept_downloads=True)
    complaints = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda asked: complaints.append(asked.url) if asked.url.startswith("http") else None)
    opened.goto(page_file.as_uri())
    opened.wait_for_selector("#bridges .plot-container")
    yield opened
    assert complaints == []
    opened.close()


def counts(page):
    text = page.locator("#dropped").inner_text()
    return int(re.match(r"([\d,]+) of ", text).group(1).replace(",", ""))


def test_the_slider_says_how_many_and_whose_examples_go(page, scanned):
    assert counts(page) == (scanned.scores >= float(page.locator("#at").inner_text())).sum()
    slider = page.locator("#threshold")
    slider.fill("300")
    assert counts(page) == (scanned.scores >= 0.6).sum()
    rows = page.locator("#losses tbody tr").all_inner_texts()
    assert len(rows) == 5
    for row in rows:
        cluster, examples, dropped, share = row.split("\t")
        inside = scanned.clusters == int(cluster)
        assert int(examples) == inside.sum()
        assert int(dropped) == (scanned.scores[inside] >= 0.6).sum()
        assert share == f"{100 * int(dropped) / int(examples):.1f} %"
    assert page.evaluate("document.getElementById('scores').layout.shapes[0].x0") == 0.6
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#at").inner_text() == "0.602"
    slider.fill("0")
    assert counts(page) == N


def test_the_table_sorts_and_downloads(page, scanned):
    def column(i):
        return [float(text) for text in page.locator(f"#examples tbody tr td:nth-child({i})").all_inner_texts()]

    assert column(2) == sorted(column(2), reverse=True)
    head = page.locator("#examples thead th")
    assert head.nth(1).get_attribute("aria-sort") == "descending"
    head.nth(0).locator("button").press("Enter")
    assert column(1) == sorted(column(1), reverse=True)
    head.nth(0).locator("button").click()
    assert column(1) == sorted(column(1))
    assert head.nth(0).get_attribute("aria-sort") == "ascending"
    with page.expect_download() as waiting:
        page.locator("#download").click()
    with open(waiting.value.path(), newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 500
    assert [int(row["row"]) for row in rows] == column(1)
    assert float(rows[0]["score"]) == pytest.approx(scanned.scores[int(rows[0]["row"])], abs=1e-4)


def test_colours_and_galleries(page):
    page.locator("#colour").select_option("cluster")
    assert len(set(page.evaluate("document.getElementById('plane').data[0].marker.color"))) == 5
    page.locator("#colour").select_option("score")
    assert page.evaluate("typeof document.getElementById('plane').data[0].marker.color[0]") == "number"
    pictures = page.locator("img")
    assert pictures.count() == 24 * 2 + 24 + 24
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth === 8)")


def test_nothing_is_wider_than_the_screen(page):
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_an_image_set_shows_what_its_array_shows(tmp_path, page_file, scanned):
    images = np.random.default_rng(0).integers(0, 256, (N, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    scanned.report(tmp_path / "set.html", ps.data.load_images(str(tmp_path / "images.npz")))
    assert re.findall('data:image/[^"]*', (tmp_path / "set.html").read_text()) == re.findall(
        'data:image/[^"]*', page_file.read_text()
    )


def test_images_by_path_follow_the_rows(tmp_path, scanned):
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(N):
        Image.new("RGB", (4, 6), (i % 256, i // 256, 0)).save(folder / f"{i:04d}.png")
    (folder / "0000.png").write_bytes(b"damaged")
    scanned.report(tmp_path / "page.html", folder)
    assert (tmp_path / "page.html").read_text().count("data:image/png") >= 95
    (folder / "0599.png").unlink()
    with pytest.raises(ValueError, match="599 images, the scan 600 rows"):
        scanned.report(tmp_path / "page.html", folder)
    with pytest.raises(ValueError, match="got 3 images"):
        scanned.report(tmp_path / "page.html", np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(ValueError, match="got 3 labels"):
        scanned.report(tmp_path / "page.html", labels=[1, 2, 3])


def test_pairs_are_shown_with_their_probability_where_it_is_known(tmp_path, page_file, scanned):
    first = scanned.pairs.slice(0, 1).to_pylist()[0]
    text = page_file.read_text(encoding="utf-8")
    assert f"different classes <b>{first['probability']:.0%}</b>" in text
    assert "the most probably of different classes first" in text
    unknown = pa.array(np.full(len(scanned.pairs), np.nan, np.float32))
    at = scanned.pairs.column_names.index("probability")
    plain = dataclasses.replace(scanned, pairs=scanned.pairs.set_column(at, "probability", unknown))
    plain.report(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "different classes <b>" not in text
    assert "Neighbours in different clusters, by cosine after centring." in text


def test_text_from_files_cannot_end_the_script(tmp_path):
    features, labels, _ = midpoints(100)
    found = ps.scan(features, 5, labels=labels)
    object.__setattr__(found, "paths", ["</script><b>&"] * 100)
    found.report(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "</script><b>" not in text
    assert "\\u003c/script>\\u003cb>&" in text


@pytest.fixture(scope="module")
def hostile_file(tmp_path_factory, scanned):
    file = tmp_path_factory.mktemp("hostile") / "report.html"
    scanned.report(file, np.zeros((N, 4, 4), np.uint8), labels=np.array([HOSTILE] * N))
    return file


def test_a_label_that_is_a_script_is_text_in_the_page(hostile_file):
    text = hostile_file.read_text(encoding="utf-8")
    assert "<script>document" not in text
    # 24 pairs of two, 24 most and 24 least difficult examples
    assert text.count(f"label {html.escape(HOSTILE)}") == 24 * 2 + 24 + 24


def test_a_label_that_is_a_script_is_shown_and_not_run(browser, hostile_file):
    opened = browser.new_page()
    opened.goto(hostile_file.as_uri())
    opened.wait_for_selector("#bridges .plot-container")
    assert opened.title() == "Difficult examples"
    assert HOSTILE in opened.locator(".gallery li").first.inner_text()
    assert opened.locator("#examples tbody td", has_text=HOSTILE).count() == 500
    opened.close()
