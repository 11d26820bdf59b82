import html
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pytest

import pairsift
from pairsift.report.drawing import Axis, Drawing, Mark, polyline
from pairsift.report.page import Section, page_template, write_figures, write_page

BAD = "</script><script>alert('ours')</script> & \"more\" <!-- 1 < 2"


class Seen(HTMLParser):
    """What a browser would run, and what it would show."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.shown, self._open = [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self._open = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._open = ""

    def handle_data(self, data):
        if self._open == "script":
            self.scripts[-1] += data
        elif self._open != "style":
            self.shown += data


def figure(text="x"):
    x, y = Axis(0.0, 3.0, text), Axis(0.0, 5.0, text)
    return Drawing(f"figure-{len(text)}", text, x, y, [Mark(polyline(x, y, [1, 2], [3, 4]), "line a", text, text)])


def test_words_are_shown_and_not_run(tmp_path):
    write_figures(
        tmp_path / "page.html", BAD, f"words {BAD}", [Section(f"heading {BAD}", f"section {BAD}", figure(BAD))]
    )
    seen = Seen((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert not [script for script in seen.scripts if script.startswith("alert")]
    for place in ("words", "heading", "section"):
        assert f"{place} {BAD}" in seen.shown


def test_sections_stand_in_order_and_nothing_is_fetched(tmp_path):
    write_figures(tmp_path / "page.html", "title", "words", [Section(name, "", figure()) for name in ("one", "two")])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert re.findall("<h2>(.*?)</h2>", text) == ["one", "two"]
    assert text.count("<svg") == 2
    assert not re.search(r'<(script|link|img)[^>]+(src|href)="?http', text)
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A package with a template of its own."""
    templates = tmp_path / "room_of_a_test" / "templates"
    templates.mkdir(parents=True)
    (tmp_path / "room_of_a_test" / "__init__.py").touch()
    (templates / "own.css").write_text("b > i { color: red }")
    (templates / "own.html").write_text(
        '{% extends "page.html" %}{% from "drawing.html" import drawing %}'
        '{% block style %}{{ file("own.css") }}{% endblock %}'
        "{% block body %}{{ drawing(drawn) }}"
        "{% filter script %}const data = {{ data | json }};{% endfilter %}{% endblock %}"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return page_template("own.html", "room_of_a_test")


def test_rooms_extend_the_page_with_data_that_cannot_end_their_script(tmp_path, room):
    data = {BAD: [1, BAD]}
    write_page(tmp_path / "page.html", room, title="title", words="words", drawn=figure(), data=data)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "</" not in text[text.index("const data = ") : text.index("};</script>")]
    (script,) = (script for script in Seen(text).scripts if script.startswith("const data"))
    assert json.loads(script.removeprefix("const data = ").removesuffix(";")) == data
    assert "b > i { color: red }" in text
    assert 'id="figure-1"' in text


def test_what_a_template_lacks_is_an_error_and_no_page(tmp_path, room):
    with pytest.raises(jinja2.UndefinedError, match="'words' is undefined"):
        write_page(tmp_path / "page.html", room, title="title", drawn=figure(), data={})
    assert not (tmp_path / "page.html").exists()


def test_no_template_writes_a_bare_script_which_the_policy_would_not_run():
    templates = [path for path in Path(pairsift.__file__).parent.rglob("templates/*.html")]
    assert len(templates) >= 4
    for path in templates:
        assert "<script" not in path.read_text(), f"{path}: write scripts by the filter `script`"
        assert not re.search(r"\son\w+=|javascript:", path.read_text()), f"{path}: handlers belong into a script"


def test_text_is_not_made_a_script_by_the_filter(tmp_path, monkeypatch):
    templates = tmp_path / "room_of_scripts" / "templates"
    templates.mkdir(parents=True)
    (tmp_path / "room_of_scripts" / "__init__.py").touch()
    (templates / "own.html").write_text('{% extends "page.html" %}{% block body %}{{ text | script }}{% endblock %}')
    monkeypatch.syspath_prepend(tmp_path)
    room = page_template("own.html", "room_of_scripts")
    write_page(tmp_path / "page.html", room, title="title", words="words", text=BAD)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"<script>{html.escape(BAD, quote=False)}".split("'")[0] in text
    assert not [script for script in Seen(text).scripts if script.startswith("alert")]


def test_content_that_names_the_place_of_the_policy_is_left_alone(tmp_path):
    words = "the-content-security-policy"
    write_figures(tmp_path / "page.html", words, words, [])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count(words) == 3
    assert text.index("script-src 'none';") < text.index(words)
