import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image


def encode(pixels, kind="PNG"):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def write_parquet(path, encoded, **columns):
    image = pa.array([{"bytes": data, "path": f"{i}.png"} for i, data in enumerate(encoded)])
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
