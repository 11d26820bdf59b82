"""Features, labels, paths and images are read as meant, whatever types, layouts and modes their writer took."""

import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import write_parquet
from hypothesis import given, settings
from hypothesis import strategies as st
from slow.campaigns import kinds

from pairsift.data import DataError, load_images, open_features


@given(kinds.layouts(), st.integers(1, 12), st.booleans())
@settings(max_examples=250)
def test_columns_of_any_layout_are_read_or_asked_for(layout, group, in_memory):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = (
            layout.table.replace_schema_metadata(layout.metadata) if in_memory else layout.write(Path(folder), group)
        )
        if layout.named:
            with pytest.raises(DataError, match="`column`") as caught:
                open_features(source)
            assert all(name in str(caught.value) for name in layout.named)
            return
        found = open_features(source)
        read = np.concatenate([block for _, block in found.blocks(5)])
        np.testing.assert_array_equal(read, layout.features)
        rows = np.arange(0, len(read), 2)
        np.testing.assert_array_equal(found.take(rows), layout.features[::2])
        assert found.paths == layout.paths
        assert found.rows.tolist() == (layout.rows or list(range(len(read))))
        if layout.labels is None or not any(layout.labels):
            assert found.labels is None
        else:
            assert [None if code < 0 else found.class_names[code] for code in found.labels] == layout.labels


@given(kinds.pictures())
@settings(max_examples=250)
def test_images_of_any_mode_show_their_pixels(picture):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        (folder / "images" / picture.name).write_bytes(picture.content)
        for source in (folder / "images", write_parquet(folder / "x.parquet", [picture.content])):
            images = load_images(str(source)).images
            assert images.shape == (1, 3, *picture.shown.shape[:2])
            shown = images[0].transpose(1, 2, 0).astype(int)
            assert np.abs(shown - picture.shown).max() <= picture.off


@given(st.sampled_from(("f2", "f4", "f8", "u1", "u2", "i4", "i8")), st.integers(0, 2**32 - 1), st.booleans())
@settings(max_examples=60)
def test_arrays_of_images_show_their_pixels(dtype, seed, last):
    grey = np.random.default_rng(seed).integers(0, 256, (3, 5, 4, 3))
    grey.flat[0], grey.flat[-1] = 0, 255
    tops = {"u1": (255,), "u2": (255, 65535), "i4": (255, 65535), "i8": (255, 65535), "f2": (1, 255)}
    for top in tops.get(dtype, (1, 255, 65535)):
        pixels = (grey / 255 * top).astype(dtype) if dtype.startswith("f") else np.rint(grey / 255 * top).astype(dtype)
        with tempfile.TemporaryDirectory() as folder:
            np.save(Path(folder) / "x.npy", pixels if last else pixels.transpose(0, 3, 1, 2))
            found = load_images(str(Path(folder) / "x.npy")).images
        assert np.abs(found.astype(int) - grey.transpose(0, 3, 1, 2)).max() <= 1
