"""The scan's page, in a real browser where there is one."""

import csv
import dataclasses
import html
import re
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from mixtures import midpoints
from PIL import Image

import pairsift as ps
from pairsift.scanning.estimates import ClassEstimate

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


def shown_examples(scanned):
    """24 pairs of two, 24 most difficult with 4 neighbours each, 24 least difficult, labels with the nearest of another
    class, copies."""
    issues, copies = scanned.label_issues.to_pandas()[:24], scanned.duplicates.to_pandas()
    assert copies.group.nunique() <= 12  # all groups are shown
    pictures = copies.groupby("group").size().clip(upper=2).sum()
    return 24 * 2 + 24 * 5 + 24 + len(issues) + (issues.nearest_other >= 0).sum() + pictures


def copies_without_picture(scanned):
    """Of a group two pictures and four rows are shown."""
    sizes = scanned.duplicates.to_pandas().groupby("group").size()
    return (sizes.clip(upper=4) - sizes.clip(upper=2)).sum()


@pytest.fixture(params=[1280, 360])
def page(request, browser, page_file):
    """The page at a width; what it asks the network for, and what it complains of, fail the test."""
    opened = browser.new_page(viewport={"width": request.param, "height": 900}, accept_downloads=True)
    complaints = []
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda asked: complaints.append(asked.url) if asked.url.startswith("http") else None)
    opened.goto(page_file.as_uri())
    opened.wait_for_selector("#examples tbody tr")
    yield opened
    assert complaints == []
    opened.close()


def counts(page):
    text = page.locator("#dropped").inner_text()
    return int(re.match(r"([\d,]+) of ", text).group(1).replace(",", ""))


def test_the_slider_says_how_many_and_whose_examples_go(page, scanned):
    listed = scanned.drop(0.08)
    assert counts(page) == len(listed) == 48
    assert page.locator("#at").inner_text() == f"{scanned.scores[listed].min():.3f}"
    lost = {cluster: dropped for cluster, _, dropped, _ in
            (row.split("\t") for row in page.locator("#losses tbody tr").all_inner_texts())}  # fmt: skip
    assert lost == {str(i): str((scanned.clusters[listed] == i).sum()) for i in range(5)}
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
    assert page.locator("#scores line").get_attribute("x1") == "600"
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#at").inner_text() == "0.602"
    slider.fill("0")
    assert counts(page) == N


def test_what_uses_labels_and_what_does_not_is_told_apart(page_file, scanned, tmp_path):
    text = page_file.read_text(encoding="utf-8")
    classes = len(np.unique(scanned.labels))
    assert f"scored without their labels of {classes} classes." in text
    for name, gap in (("by the band", scanned.levels.gap), ("by labels", scanned.labelled_levels.gap)):
        assert re.search(rf"<dt>gamma - beta,? {name}</dt><dd>{re.escape(f'{gap:.3f}')}</dd>", text)
    assert "By the levels of labels:" in text
    assert "The 500 highest scores; scores.parquet" in text
    places = [text.index(each) for each in ("<body>", "close pairs of different clusters</dt>", "Most difficult")]
    assert places == sorted(places)
    ps.scan(midpoints(100)[0]).report(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "scored without labels." in text
    assert "By the levels of the rank band:" in text
    assert "All examples. The last five columns" in text


def test_the_estimate_of_the_classes_is_put_plainly():
    found = ClassEstimate(27, (16, 45), (0.4, 0.1), (0.0, 0.1))
    assert found.words == "about 27 classes (a rough guess: 16 to 45)"
    assert dataclasses.replace(found, whitened=(0.1, 0.0)).words == "about 27 classes"
    features, labels, _ = midpoints(100)
    note = ps.scan(features, labels=labels).notes[0]
    assert note.endswith("; the labels, which it does not use, are of 5 classes; `n_classes` sets the number")


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


def test_colours_and_galleries(page, scanned):
    page.locator("#colour").select_option("cluster")
    assert page.locator("#by-cluster path.points").count() == 5
    assert page.locator("#by-cluster").is_visible()
    assert not page.locator("#by-score").is_visible()
    assert "cluster 4" in page.locator("#by-cluster figcaption").inner_text()
    page.locator("#colour").select_option("score")
    assert page.locator("#by-score").is_visible()
    assert not page.locator("#by-cluster").is_visible()
    pictures = page.locator("img")
    assert pictures.count() == shown_examples(scanned)
    assert page.evaluate("[...document.images].every((image) => image.complete && image.naturalWidth === 8)")


def test_nothing_is_wider_than_the_screen(page):
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    # nor do words of a figure leave the page or shrink with it
    boxes = page.evaluate("""[...document.querySelectorAll('.tick, .title, .level')].filter((each) => each.offsetParent)
        .map((each) => [each.getBoundingClientRect().left, each.getBoundingClientRect().right,
                        parseFloat(getComputedStyle(each).fontSize)])""")
    assert len(boxes) > 30
    width = page.viewport_size["width"]
    assert all(left >= 0 and right <= width and size >= 12 for left, right, size in boxes)


def test_a_pointed_example_says_its_row(page, scanned):
    page.locator("#by-score .plot").scroll_into_view_if_needed()
    x, y, row, score, cluster = page.evaluate("scan.points[scan.points.length - 1]")
    assert score == pytest.approx(scanned.scores.max(), abs=1e-3)
    box = page.locator("#by-score .plot").bounding_box()
    page.mouse.move(box["x"] + x * box["width"] / 1000, box["y"] + y * box["height"] / 1000)
    assert page.locator("#point").inner_text() == f"row {row}, score {score:.3f}, cluster {cluster}"


def test_all_of_it_is_in_reach_of_the_keyboard_and_named(page):
    """Controls and regions that scroll are stopped at in the order of the page; figures and images have words."""
    stops = []
    while len(stops) < 100:
        page.keyboard.press("Tab")
        at = page.evaluate("(({id, tagName, ariaLabel, innerText}) => [tagName, id || ariaLabel || innerText])"
                           "(document.activeElement)")  # fmt: skip
        if at[0] == "BODY":
            break
        stops.append(at[1])
    assert {"row", "score", "cluster"} < set(stops)  # the buttons that sort
    named = ["threshold", "Examples dropped by cluster", "colour", "Shares of links between clusters, in percent",
             "download", "The most difficult examples"]  # fmt: skip
    places = [stops.index(name) for name in named]
    assert places == sorted(places)
    assert page.evaluate(
        "[...document.images].every((image) => /^row \\d+, score [\\d.]+, cluster \\d+$/.test(image.alt))"
    )
    assert page.evaluate(
        "[...document.querySelectorAll('svg')].every((each) => each.getAttribute('aria-label').length > 20)"
    )
    assert page.evaluate("[...document.querySelectorAll('input, select')].every((each) => each.labels.length === 1)")


def contrast(one, other):
    """The contrast of two colours, as WCAG 2 defines it."""

    def light(colour):
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    bright, dark = sorted((light(one), light(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_on_light_and_on_dark_screens(browser, page_file, scheme):
    opened = browser.new_page(color_scheme=scheme)
    opened.goto(page_file.as_uri())
    back = opened.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (contrast(back, "rgb(255, 255, 255)") > 10) == (scheme == "dark")
    for words in ("body", ".numbers dt", ".tick", "th button", "td", "figcaption"):
        assert contrast(back, opened.evaluate(f"getComputedStyle(document.querySelector('{words}')).color")) > 4.5
    for mark, what in (("#histogram path.b", "fill"), ("#histogram path.c", "fill"), ("#by-score path.s4", "stroke")):
        assert contrast(back, opened.evaluate(f"getComputedStyle(document.querySelector('{mark}')).{what}")) > 3
    opened.close()


def test_a_page_of_ten_thousand_rows_is_small_and_opens_at_once(browser, tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(10_000) % 20
    features = rng.normal(size=(20, 32))[labels] + rng.normal(size=(10_000, 32))
    found = ps.scan(features.astype(np.float32), 20)
    noise = rng.integers(0, 256, (1, 96, 96, 3), dtype=np.uint8)  # what compresses least
    found.report(tmp_path / "page.html", np.broadcast_to(noise, (10_000, 96, 96, 3)), labels=labels)
    assert (tmp_path / "page.html").stat().st_size <= 1_500_000

    def seconds():
        opened = browser.new_page()
        opened.goto((tmp_path / "page.html").as_uri())
        opened.wait_for_selector("#examples tbody tr:nth-child(500)")
        taken = opened.evaluate("performance.getEntriesByType('navigation')[0].domComplete") / 1000
        opened.close()
        return taken

    assert min(seconds() for _ in range(3)) < 1


def test_the_nearest_rows_of_a_difficult_one_unfold(page, scanned):
    order = np.argsort(-scanned.scores, kind="stable")
    for place in (0, 23):
        entry = page.locator("li[data-kind=difficult]").nth(place)
        assert not entry.locator("details div").first.is_visible()
        entry.locator("summary").click()
        near = entry.locator("details div").all_inner_texts()
        rows = [int(re.search(r"row (\d+)", each).group(1)) for each in near]
        assert rows == scanned.neighbours[order[place]].tolist()
        assert f"cluster {scanned.clusters[rows[0]]}, row {rows[0]}, label" in near[0]
        assert entry.locator("details img").count() == 4
        entry.locator("summary").click()


def test_a_map_by_tsne_keeps_neighbours_together(tmp_path):
    features, labels, _ = midpoints(120, share=0)
    found = ps.scan(features, 5, map="tsne", threads=1, output=tmp_path / "out")
    assert np.isfinite(found.map).all()
    distances = ((found.map[:, None] - found.map) ** 2).sum(axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(axis=1)] == labels).mean() > 0.95
    again = ps.Scan.load(tmp_path / "out")
    np.testing.assert_array_equal(again.map, found.map)
    again.report(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "120 examples. A map by t-SNE" in text
    assert "first dimension of the map" in text


def test_a_map_by_umap_asks_for_its_package_before_the_scan(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(ps.scanning.ScanError, match="pip install umap-learn, or take map='tsne'"):
        ps.scan(midpoints(60)[0], 5, map="umap")


def test_a_map_has_a_place_for_a_sample_of_a_large_set(monkeypatch):
    monkeypatch.setattr("pairsift.scanning.scanning.MAPPED_ROWS", 50)
    assert np.isfinite(ps.scan(midpoints(120)[0], 5, map="tsne").map[:, 0]).sum() == 50


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
    object.__setattr__(found, "known", pa.table({"path": ["</script><b>&"] * 100}))
    found.report(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "</script><b>" not in text
    assert "\\u003c/script>\\u003cb>&" in text


@pytest.fixture(scope="module")
def hostile_file(tmp_path_factory, scanned):
    file = tmp_path_factory.mktemp("hostile") / "report.html"
    scanned.report(file, np.zeros((N, 4, 4), np.uint8), labels=np.array([HOSTILE] * N))
    return file


def test_a_label_that_is_a_script_is_text_in_the_page(hostile_file, scanned):
    text = hostile_file.read_text(encoding="utf-8")
    assert "<script>document" not in text
    assert text.count(f"label {html.escape(HOSTILE)}") == shown_examples(scanned) + copies_without_picture(scanned)


def test_search_lists_clusters_and_the_plane_filter_what_is_shown_and_saved(page, scanned):
    shown, entries = page.locator("#shown"), page.locator("li[data-kind]").count()
    assert shown.inner_text() == f"{entries} of {entries} entries"
    page.select_option("#kind", "pair")
    assert page.locator("li[data-kind]:visible").count() == 24
    page.select_option("#cluster", "2")
    for clusters in page.locator("li[data-kind]:visible").evaluate_all("all => all.map(each => each.dataset.clusters)"):
        assert "2" in clusters.split()
    page.click("#clear")
    hardest = int(np.nanargmax(scanned.scores))
    page.fill("#search", f"row {hardest},")
    assert f'data-rows="{hardest}"' in page.locator("li[data-kind]:visible").first.evaluate("each => each.outerHTML")
    page.click("#clear")
    plot = page.locator("#by-score .plot")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box["x"] + 1, box["y"] + 1)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 1)
    page.mouse.up()
    with page.expect_download() as download:
        page.evaluate("document.getElementById('export').click()")
    saved = Path(download.value.path()).read_text().split()
    half = np.diff(np.percentile(scanned.plane[:, 0], [0, 100])) * 0.53 + scanned.plane[:, 0].min()
    left = np.flatnonzero(scanned.plane[:, 0] < half)
    assert saved[0] == "row"
    chosen = np.array(saved[1:], int)
    assert 0 < len(chosen) < len(scanned)
    assert np.isin(chosen, left).mean() == 1
    assert f"{len(chosen):,} rows chosen on the plane" in shown.inner_text()


def test_a_label_that_is_a_script_is_shown_and_not_run(browser, hostile_file):
    opened = browser.new_page()
    opened.goto(hostile_file.as_uri())
    opened.wait_for_selector("#examples tbody tr")
    assert opened.title() == "Difficult examples"
    assert HOSTILE in opened.locator(".gallery li").first.inner_text()
    assert opened.locator("#examples tbody td", has_text=HOSTILE).count() == 500
    opened.close()
