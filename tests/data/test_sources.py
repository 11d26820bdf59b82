import io
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import encode, write_parquet
from PIL import Image

from pairsift.data import ArraySource, DataError, load_images, open_source


def test_parquet_holds_images_labels_and_paths(parquet, pixels):
    images = load_images(parquet)
    np.testing.assert_array_equal(images.images, pixels.transpose(0, 3, 1, 2))
    assert images.labels.tolist() == [0, 1, 2] * 4
    assert images.paths[3] == "3.png"
    assert images.rows.tolist() == list(range(12))
    assert images.n_classes == 3


def test_parquet_of_plain_bytes_and_named_classes(tmp_path, pixels):
    table = pa.table({"img": pa.array([encode(p) for p in pixels]), "kind": ["cat", "ant"] * 6})
    pq.write_table(table, tmp_path / "a.parquet")
    images = load_images(str(tmp_path / "a.parquet"), label_column="kind")
    assert images.labels.tolist() == [1, 0] * 6
    assert images.class_names == ["ant", "cat"]
    assert load_images(str(tmp_path / "a.parquet")).labels is None


def test_shards_are_read_in_order(tmp_path, pixels):
    for shard in range(3):
        write_parquet(
            tmp_path / f"s-{shard}.parquet", map(encode, pixels[4 * shard : 4 * shard + 4]), label=[shard] * 4
        )
    images = load_images(str(tmp_path))
    np.testing.assert_array_equal(images.images, pixels.transpose(0, 3, 1, 2))
    assert images.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    write_parquet(tmp_path / "s-3.parquet", map(encode, pixels[:2]), label=["a", "b"])
    with pytest.raises(DataError, match="other columns or types"):
        load_images(str(tmp_path))


def test_folders_take_their_subfolders_as_classes(tmp_path, pixels):
    for i, image in enumerate(pixels):
        folder = tmp_path / ("dog", "cat")[i % 2]
        folder.mkdir(exist_ok=True)
        Image.fromarray(image).save(folder / f"{i:02d}.png")
    (tmp_path / "notes.txt").write_text("not an image")
    images = load_images(str(tmp_path))
    assert images.class_names == ["cat", "dog"]
    assert images.labels.tolist() == [0] * 6 + [1] * 6
    assert images.paths[0] == "cat/01.png"
    np.testing.assert_array_equal(images.images[6], pixels[0].transpose(2, 0, 1))
    assert load_images(str(tmp_path), label_column="none").labels is None
    assert load_images(str(tmp_path / "dog")).labels is None
    with pytest.raises(DataError, match="subfolders, not a column 'y'"):
        load_images(str(tmp_path), label_column="y")


@pytest.mark.parametrize("layout", [(0, 1, 2, 3), (0, 3, 1, 2)])
def test_arrays_may_have_channels_last_or_first(tmp_path, pixels, layout):
    np.save(tmp_path / "x.npy", pixels.transpose(layout))
    images = load_images(str(tmp_path / "x.npy"))
    np.testing.assert_array_equal(images.images, pixels.transpose(0, 3, 1, 2))
    assert "memory-mapped" in images.where
    np.savez(tmp_path / "x.npz", images=pixels.transpose(layout), y=np.arange(12))
    images = load_images(str(tmp_path / "x.npz"))
    np.testing.assert_array_equal(images.images[np.array([3, 1])], pixels.transpose(0, 3, 1, 2)[[3, 1]])
    assert images.labels.tolist() == list(range(12))


def test_grey_arrays_become_rgb(pixels):
    for grey in (pixels[..., 0], pixels[..., :1]):
        np.testing.assert_array_equal(ArraySource(grey).images, np.repeat(pixels[:, None, :, :, 0], 3, axis=1))


def test_digits_are_split_without_overlap():
    everything, train, test = (load_images(name) for name in ("digits", "digits:train", "digits:test"))
    assert [x.images.shape for x in (everything, train, test)] == [(n, 3, 8, 8) for n in (1797, 1297, 500)]
    assert np.bincount(test.labels).min() >= 48
    total = sum(x.images.astype(np.int64).sum() for x in (train, test))
    assert total == everything.images.astype(np.int64).sum()
    assert everything.images.max() == 255
    with pytest.raises(DataError, match="'train' and 'test', got 'dev'"):
        load_images("digits:dev")


@pytest.mark.parametrize(
    ("columns", "wanted", "message"),
    [
        ({"label": [0.5] * 12}, "label", "labels must be whole numbers or names of classes, got numbers that are not"),
        ({"label": [[1]] * 12}, "label", "whole numbers or names"),
        ({"y": [1] * 12}, "label", "has no column 'label'; its columns: image, y"),
    ],
)
def test_bad_labels_are_refused(tmp_path, pixels, columns, wanted, message):
    path = write_parquet(tmp_path / "x.parquet", map(encode, pixels), **columns)
    with pytest.raises(DataError, match=message):
        open_source(path, label_column=wanted)


def test_labels_that_nobody_asked_for_never_refuse(tmp_path, pixels):
    path = write_parquet(tmp_path / "x.parquet", map(encode, pixels), label=[0.5] * 12)
    with pytest.warns(UserWarning, match=r"labels are not used: .*not whole"):
        assert load_images(path).labels is None
    np.savez(tmp_path / "x.npz", images=pixels, labels=np.zeros(3, int))
    with pytest.warns(UserWarning, match=r"labels are not used: .* 12 images but 3 labels"):
        assert load_images(str(tmp_path / "x.npz")).labels is None


def test_images_without_a_label_are_of_no_class(tmp_path, pixels):
    path = write_parquet(tmp_path / "x.parquet", map(encode, pixels), label=[None, -1, 2, 2, 2, 0, 0, 0, 0, 2, 0, 0])
    images = load_images(path)
    assert images.labels.tolist() == [-1, -1, 2, 2, 2, 0, 0, 0, 0, 2, 0, 0]
    assert images.n_classes == 2
    assert load_images(path, per_class=2).rows.tolist() == [2, 3, 5, 6]
    for nothing in ([-1] * 12, pa.nulls(12)):
        assert load_images(write_parquet(tmp_path / "y.parquet", map(encode, pixels), label=nothing)).labels is None


def test_bad_files_are_refused(tmp_path, pixels):
    with pytest.raises(DataError, match="no data at"):
        load_images(str(tmp_path / "missing.parquet"))
    with pytest.raises(DataError, match="no parquet and no image files"):
        load_images(str(tmp_path))
    (tmp_path / "x.txt").write_text("")
    with pytest.raises(DataError, match="not a kind of data known here"):
        load_images(str(tmp_path / "x.txt"))
    pq.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"no image column .*its columns: a, b"):
        load_images(str(tmp_path / "x.parquet"))
    pq.write_table(pa.table({"image": [1]}), tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"must hold encoded images .* got int64"):
        load_images(str(tmp_path / "x.parquet"))
    np.savez(tmp_path / "x.npz", a=pixels)
    with pytest.raises(DataError, match="it holds: a"):
        load_images(str(tmp_path / "x.npz"))
    np.savez(tmp_path / "x.npz", images=pixels, labels=np.zeros(3, int))
    with pytest.raises(DataError, match="12 images but 3 labels"):
        load_images(str(tmp_path / "x.npz"), label_column="labels")
    np.save(tmp_path / "x.npy", pixels[0, 0])
    with pytest.raises(DataError, match=r"got shape \(8, 3\)"):
        load_images(str(tmp_path / "x.npy"))


@pytest.mark.parametrize("name", ["x.parquet", "x.npy", "x.npz"])
def test_truncated_files_are_refused(tmp_path, pixels, name):
    path = tmp_path / name
    if name == "x.parquet":
        write_parquet(path, map(encode, pixels))
    else:
        (np.save if name == "x.npy" else np.savez)(path, pixels)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match="cannot be read"):
        load_images(str(path))


def test_empty_data_is_refused(tmp_path):
    write_parquet(tmp_path / "x.parquet", [], label=pa.array([], pa.int64()))
    with pytest.raises(DataError, match=r"no image|must hold encoded"):
        load_images(str(tmp_path / "x.parquet"))
    np.save(tmp_path / "x.npy", np.zeros((0, 4, 4, 3), np.uint8))
    with pytest.raises(DataError, match="holds no images"):
        load_images(str(tmp_path / "x.npy"))


def test_libraries_that_do_not_import_say_how_to_get_them(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(DataError, match=r"pip install 'pairsift\[vision\]'"):
        load_images("hf:cifar10")
    with pytest.raises(DataError, match=r"pip install 'pairsift\[vision\]'"):
        load_images("torchvision:CIFAR10")


def test_jpeg_bytes_are_decoded(tmp_path):
    smooth = np.tile(np.linspace(0, 255, 32, dtype=np.uint8)[:, None, None], (1, 32, 3))
    stream = io.BytesIO()
    Image.fromarray(smooth[..., 0]).save(stream, "JPEG", quality=95)  # greyscale
    images = load_images(write_parquet(tmp_path / "x.parquet", [stream.getvalue()]))
    assert images.images.shape == (1, 3, 32, 32)
    assert np.abs(images.images[0].transpose(1, 2, 0).astype(int) - smooth).max() < 4


def image_folder(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name, format="PNG")
    return str(folder)


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (["train/cat/a.png", "train/dog/b.png", "test/cat/c.png"], None),
        (["Train/a.png", "val/b.png"], None),
        (["train/cat/a.png", "train/dog/b.png"], ["cat", "dog"]),
        (["train/a.png", "car/b.png", "bus/c.png"], ["bus", "car", "train"]),
        (["cat/a.jfif", "dog/b.jpe"], ["cat", "dog"]),
    ],
)
def test_splits_of_an_image_folder_are_no_classes(names, classes, tmp_path):
    folder = image_folder(tmp_path / "x", *names)
    if classes is None:
        with pytest.raises(DataError, match=r"x holds the splits .*, which are no classes: name one, as .*x/[Tt]rain"):
            load_images(folder)
        return
    found = load_images(folder)
    assert len(found.images) == len(names)
    assert list(found.class_names) == classes


def test_tables_below_a_folder_are_named(tmp_path):
    for part in ("a", "b"):
        (tmp_path / "x" / part).mkdir(parents=True)
        pq.write_table(pa.table({"image": [b""]}), tmp_path / "x" / part / "0.parquet")
    with pytest.raises(DataError, match=r"holds no images itself, but its sub-folders do: name one, as .*/x/a"):
        load_images(str(tmp_path / "x"))
