"""Links that leave docs/ work on the site as they do in a checkout.

Every file of the repository that a page links to comes along: code as a page that shows it, a notebook as its text and
cells, Markdown as a page of the site, anything else as it is.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)#\s]+)")
CODE = {".py": "python", ".sh": "sh", ".toml": "toml", ".yaml": "yaml", ".yml": "yaml"}
CHANGES = "CHANGELOG.md"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the history of changes, where there is one, at the end of the navigation."""
    if config.nav and Path(config.docs_dir).parent.joinpath(CHANGES).exists():
        config.nav.append({"Changes": CHANGES.lower()})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files that pages link to, those that these link to, and the history of changes."""
    docs = Path(config.docs_dir)
    waiting = [(docs / file.src_uri, file.content_string) for file in files.documentation_pages()]
    waiting.append((docs.parent / "mkdocs.yml", f"[changes]({CHANGES})"))
    while waiting:
        origin, text = waiting.pop()
        for target in filter(None, (outside(origin, link, docs) for link in LINK.findall(text))):
            uri = address(target, docs)
            if files.get_file_from_path(uri):
                continue
            if uri.endswith(".md"):
                waiting.append((target, target.read_text(encoding="utf-8")))
                made = File.generated(config, uri, content=shown(target, docs), inclusion=InclusionLevel.NOT_IN_NAV)
            else:
                made = File.generated(config, uri, abs_src_path=str(target))
            files.append(made)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point the links of a page that leave docs/ to what came along; files that came along are done in `shown`."""
    docs, here = Path(config.docs_dir), page.file.src_uri
    return markdown if page.file.generated_by else rewritten(markdown, docs / here, here, docs)


def outside(origin: Path, link: str, docs: Path) -> Path | None:
    """The file that a link in `origin` names, where there is one and docs/ does not hold it."""
    target = Path(os.path.normpath(origin.parent / link))
    return target if target.is_file() and not target.is_relative_to(docs) else None


def address(target: Path, docs: Path) -> str:
    """Where a file of the repository lies among the sources of the site."""
    name = target.relative_to(docs if target.is_relative_to(docs) else docs.parent).as_posix()
    if name.endswith(".md"):
        return name if target.is_relative_to(docs) else name.lower()  # README.md would be the start page
    return name + ".md" if target.suffix in (*CODE, ".ipynb") else name


def rewritten(text: str, origin: Path, here: str, docs: Path) -> str:
    """The text of `origin`, shown at `here`, with links that hold there."""

    def link(found: re.Match[str]) -> str:
        target = Path(os.path.normpath(origin.parent / found[1]))
        return os.path.relpath(address(target, docs), os.path.dirname(here)) if target.is_file() else found[1]

    return LINK.sub(link, text)


def shown(target: Path, docs: Path) -> str:
    """A file of the repository as a page."""
    text, name = target.read_text(encoding="utf-8"), target.relative_to(docs.parent).as_posix()
    if target.suffix in CODE:
        return f"# `{name}`\n\n{fenced(text, CODE[target.suffix])}"
    if target.suffix == ".ipynb":
        cells = [(cell["cell_type"], "".join(cell["source"])) for cell in json.loads(text)["cells"]]
        text = "\n\n".join(source if kind == "markdown" else fenced(source, "python") for kind, source in cells)
    return rewritten(text, target, address(target, docs), docs)


def fenced(code: str, language: str) -> str:
    """A block of code, which may hold blocks of its own."""
    return f"````{language}\n{code.rstrip()}\n````\n"
