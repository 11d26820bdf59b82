"""Self-contained HTML pages from Jinja templates: whatever a template is given is escaped, and nothing is fetched.

Every page carries a content security policy: browsers run the scripts that the template wrote, known by their hashes,
and no other, and open no connection.

Templates extend `page.html`. Apart from what Jinja has, they use:

- ``{% filter script %} ... {% endfilter %}``: a script, which a bare script element would not be allowed to be;
- ``data | json``: a value in a script;
- ``file("page.css")``: a style or script in the folder of the templates, unchanged.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template, pass_context
from jinja2.runtime import Context
from markupsafe import Markup, escape

from pairsift._base.files import replacing
from pairsift.report.drawing import Drawing

_OWN = "pairsift.report"
# Styles are inside the page, and pictures are data URLs.
_POLICY = (
    "default-src 'none'; script-src {}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)
_PLACE = "the-content-security-policy"


class Section(NamedTuple):
    """A figure under a heading, with a paragraph that says what it shows."""

    heading: str
    words: str
    figure: Drawing


def page_template(name: str, package: str = _OWN) -> Template:
    """A template from the folder `templates` of a package, which may extend those here."""
    loader = ChoiceLoader([PackageLoader(package), PackageLoader(_OWN)])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"json": _json, "script": _script}
    environment.globals["file"] = lambda file: Markup(loader.get_source(environment, file)[0])
    return environment.get_template(name)


def write_page(path: Path, template: Template, **content: Any) -> None:
    """Write the page whole or not at all.

    Args:
        path: file to write.
        template: as from `page_template`.
        content: what the template names; `page.html` itself needs `title` and `words`, heading and first paragraph.

    Raises:
        jinja2.UndefinedError: the template names something else.
        OSError: the file cannot be written.
    """
    hashes: list[str] = []
    text = template.render(content, policy=_PLACE, script_hashes=hashes)
    # The head, and its policy, come before the scripts and before all content: the first place is the policy's.
    text = text.replace(_PLACE, _POLICY.format(" ".join(dict.fromkeys(hashes)) or "'none'"), 1)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_figures(path: Path, title: str, words: str, sections: Sequence[Section]) -> None:
    """Write a page of figures, one a section, in order.

    Raises:
        OSError: the file cannot be written.
    """
    write_page(path, page_template("figures.html"), title=title, words=words, sections=sections)


@pass_context
def _script(context: Context, text: str) -> Markup:
    """A script element that the policy knows; text that no template wrote is escaped, so that it is no script."""
    text = escape(text)
    digest = hashlib.sha256(text.encode()).digest()
    context["script_hashes"].append(f"'sha256-{base64.b64encode(digest).decode()}'")
    return Markup(f"<script>{text}</script>")


def _json(data: Any) -> Markup:
    # Text may hold anything, also what would end the script element or open a comment in it.
    return Markup(json.dumps(data, separators=(",", ":")).replace("<", "\\u003c"))
