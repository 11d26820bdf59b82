import io
import multiprocessing

import numpy as np
import pytest
from conftest import encode, write_parquet
from PIL import Image
from torch.utils.data import DataLoader

from pairsift.data import DataError, load_images, subset, without_rows


def jpeg(seed, size=32):
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def corrupt(tmp_path):
    """Rows 2 (header) and 5 (cut in the middle) cannot be decoded."""
    encoded = [jpeg(i) for i in range(8)]
    encoded[2] = b"not an image"
    encoded[5] = encoded[5][: len(encoded[5]) * 3 // 4]
    return write_parquet(tmp_path / "c.parquet", encoded, label=[0, 1] * 4)


def test_corrupt_images_are_named_by_row(corrupt):
    with pytest.raises(DataError, match=r"row 2 cannot be decoded .*`skip_corrupt=True`"):
        load_images(corrupt)
    with pytest.raises(DataError, match=r"row 2 cannot be decoded"):
        load_images(corrupt, image_size=16)


@pytest.mark.parametrize("image_size", [None, 16])
def test_corrupt_images_can_be_left_out(corrupt, image_size):
    images = load_images(corrupt, skip_corrupt=True, image_size=image_size)
    assert images.corrupt == (2, 5)
    assert images.rows.tolist() == [0, 1, 3, 4, 6, 7]
    assert images.labels.tolist() == [0, 1, 1, 0, 0, 1]
    assert images.images.shape == (6, 3, image_size or 32, image_size or 32)


def test_nothing_but_corrupt_images_is_refused(tmp_path):
    path = write_parquet(tmp_path / "c.parquet", [b"a", b"b"])
    with pytest.raises(DataError, match="none of its 2 images can be decoded"):
        load_images(path, skip_corrupt=True)


def test_mixed_sizes_are_refused_and_resized_on_request(tmp_path, pixels):
    encoded = [encode(p) for p in pixels]
    encoded[7] = encode(pixels[7, :4])
    path = write_parquet(tmp_path / "m.parquet", encoded)
    with pytest.raises(DataError, match=r"2 sizes: row 0 is 6 x 8, row 7 is 4 x 8 .*`image_size`"):
        load_images(path)
    assert load_images(path, image_size=5).images.shape == (12, 3, 5, 5)


def test_images_too_large_for_memory_are_decoded_on_demand(parquet, pixels):
    held, lazy = load_images(parquet), load_images(parquet, memory=0)
    assert "in memory" in held.where
    assert "decoded batch by batch" in lazy.where
    assert not isinstance(lazy.images, np.ndarray)
    assert lazy.images.shape == held.images.shape
    rows = np.array([5, 0, 11])
    np.testing.assert_array_equal(lazy.images[rows], held.images[rows])
    resized = load_images(parquet, memory=0, image_size=4).images[rows]
    np.testing.assert_array_equal(resized, load_images(parquet, image_size=4).images[rows])


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_of_a_loader_read_images_that_are_decoded_on_demand(parquet, start):
    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {start}")
    images = load_images(parquet, memory=0).images
    whole = images[np.arange(12)]  # this process has decoding threads now
    loader = DataLoader(
        images, batch_size=None, sampler=range(12), num_workers=1, multiprocessing_context=start, timeout=60
    )
    np.testing.assert_array_equal(np.concatenate([each.numpy() for each in loader]), whole)


def test_lazy_corruption_is_found_before_anything_starts(corrupt):
    with pytest.raises(DataError, match="row 2 cannot be decoded"):
        load_images(corrupt, memory=0)
    lazy = load_images(corrupt, memory=0, skip_corrupt=True)
    assert lazy.corrupt == (2, 5)
    assert lazy.images[np.arange(6)].shape == (6, 3, 32, 32)


def test_first_images_of_each_class(parquet):
    images = load_images(parquet, per_class=2)
    assert images.rows.tolist() == [0, 1, 2, 3, 4, 5]
    assert images.labels.tolist() == [0, 1, 2, 0, 1, 2]
    with pytest.raises(DataError, match="`per_class` needs labels"):
        load_images(parquet, per_class=2, label_column="none")


def test_subset_keeps_everything_aligned(parquet, pixels):
    images = subset(load_images(parquet), np.array([7, 2]))
    np.testing.assert_array_equal(images.images, pixels.transpose(0, 3, 1, 2)[[7, 2]])
    assert images.labels.tolist() == [1, 2]
    assert images.paths == ["7.png", "2.png"]
    assert images.rows.tolist() == [7, 2]


@pytest.mark.parametrize("memory", [1.0, 0.0])
def test_a_drop_list_leaves_out_its_rows(parquet, tmp_path, memory, pixels):
    images = load_images(parquet, memory=memory, per_class=3)
    file = tmp_path / "drop.csv"
    file.write_text("row,path,score\n4,4.png,0.99\n0,0.png,0.98\n")
    kept = without_rows(images, file)
    assert kept.rows.tolist() == [1, 2, 3, 5, 6, 7, 8]
    assert kept.labels.tolist() == [1, 2, 0, 2, 0, 1, 2]
    assert kept.paths == [f"{row}.png" for row in kept.rows]
    np.testing.assert_array_equal(kept.images[np.array([3, 0])], pixels[[5, 1]].transpose(0, 3, 1, 2))
    assert kept.images.shape == (7, 3, 6, 8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("row\n99\n", "drops row 99, which is not among the 12 images"),
        ("id\n1\n", "a CSV with whole numbers in a column 'row'"),
        ("row\nx\n", "a CSV with whole numbers in a column 'row'"),
        ("", "a CSV with whole numbers in a column 'row'"),
        ("row\n" + "\n".join(map(str, range(12))), "drops all 12 images"),
    ],
)
def test_what_is_no_drop_list_is_refused(parquet, tmp_path, text, message):
    (tmp_path / "drop.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        without_rows(load_images(parquet), tmp_path / "drop.csv")
    with pytest.raises(DataError, match="is not a drop list"):
        without_rows(load_images(parquet), tmp_path / "missing.csv")


def test_cifar10_as_published(cifar10):
    images = load_images(str(cifar10 / "test.parquet"))
    assert images.images.shape == (10_000, 3, 32, 32)
    assert images.where.startswith("10,000 images of 3 x 32 x 32 in memory, 31 MB")
    assert np.bincount(images.labels).tolist() == [1000] * 10
    # The published means of the training split are 0.491, 0.482, 0.447.
    np.testing.assert_allclose(images.images.mean(axis=(0, 2, 3)) / 255, [0.494, 0.485, 0.450], atol=0.005)
    some = load_images(str(cifar10 / "train.parquet"), per_class=10, memory=0)
    assert "batch by batch" in some.where
    assert np.bincount(some.labels).tolist() == [10] * 10
    assert some.images[np.arange(3)].shape == (3, 3, 32, 32)
