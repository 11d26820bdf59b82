"""The Python in the README and the documentation runs as it stands, block by block in one namespace a page."""

import re
from pathlib import Path

import pytest
import torch

from pairsift.data import load_images
from pairsift.train import ImageEncoder, Projector, build_encoder, embed

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


@pytest.fixture
def readers_own():
    """What a reader of the README brings: an encoder, its projector, two views of a batch, images, their features."""
    torch.manual_seed(0)
    encoder, images = ImageEncoder(build_encoder("resnet-small")), load_images("digits:train", per_class=30)
    view0, view1 = torch.rand(2, 32, 3, 16, 16)
    return {
        "encoder": encoder, "projector": Projector(128, 64, 32), "view0": view0, "view1": view1,
        "images": images.images, "features": embed(encoder, images),
    }  # fmt: skip


def test_code_of_the_readme_runs(readers_own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    encoder = readers_own["encoder"]
    run(README, readers_own)
    assert all(torch.isfinite(p.grad).all() for p in encoder.parameters())  # the first block trains
    assert {"found", "report.html"} <= {file.name for file in tmp_path.iterdir()}  # the second one saves what it found
