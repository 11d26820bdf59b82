import io
import os
import shutil
import signal
from pathlib import Path

import hypothesis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

# Ray lets its workers step back behind everything else: two processes of tests would leave them nothing.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 (its own name)
# A shell makes its background jobs ignore Ctrl-C, and tests send it to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)
# Property tests draw the same examples in every run: a check that falls is then always a change of the code. Campaigns
# (tests/slow/campaigns) draw new ones.
hypothesis.settings.register_profile("same draws", derandomize=True, deadline=None)
hypothesis.settings.load_profile("same draws")
# Folders whose tests take longest, most of it waiting for processes.
LONG = ("slow", "distributed", "lab", "scanning", "train")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Mark tests as slow by folder and by browser; long files first, so that no worker is left alone with one."""
    here = Path(__file__).parent
    folders = {item.path: item.path.relative_to(here).parts[0] for item in items}
    for item in items:
        if folders[item.path] == "slow" or "browser" in item.fixturenames:
            item.add_marker(pytest.mark.slow)
    places = {folder: place for place, folder in enumerate(LONG)}
    # Files next to this one start commands, each of which imports everything.
    items.sort(key=lambda item: places.get(folders[item.path], len(LONG) + (item.path.parent != here)))


def encode(pixels, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def write_parquet(path, encoded, **columns):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    image = pa.array([{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(encoded)], kind)
    pq.write_table(pa.table({"image": image} | {name: pa.array(values) for name, values in columns.items()}), path)
    return str(path)


@pytest.fixture
def pixels():
    """(12, 6, 8, 3) uint8 images."""
    return np.random.default_rng(0).integers(0, 256, (12, 6, 8, 3), dtype=np.uint8)


@pytest.fixture
def parquet(tmp_path, pixels):
    """A parquet file of these images with labels 0, 1, 2, 0, 1, 2, ..."""
    return write_parquet(tmp_path / "images.parquet", map(encode, pixels), label=[i % 3 for i in range(12)])


@pytest.fixture
def cifar10():
    """Folder of CIFAR-10 as parquet, below the folder that PAIRSIFT_DATA names."""
    root = os.environ.get("PAIRSIFT_DATA")
    if root is None:
        pytest.skip("PAIRSIFT_DATA is not set: it names the folder of the real data")
    folders = [folder for folder in (Path(root, "cifar10"), Path(root, "data", "cifar10")) if folder.is_dir()]
    if not folders:
        pytest.skip(f"PAIRSIFT_DATA={root} holds no folder cifar10")
    return folders[0]


@pytest.fixture(scope="module")
def browser():
    """A real browser, where there is one."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no chromium on the path")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()
