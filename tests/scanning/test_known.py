"""What files say of their rows goes through to every output: ids, paths, class names, shards, images."""

import base64
import io
import re
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from mixtures import midpoints
from PIL import Image

import pairsift as ps
from pairsift import cli
from pairsift.data import DataError
from pairsift.scanning import ScanError
from pairsift.scanning.result import PAIR_COLUMNS
from pairsift.scanning.thumbnails import open_images, thumbnails

N = 240


@pytest.fixture(scope="module")
def features():
    return midpoints(N, 4, seed=1)


def write(file, x, **columns):
    pq.write_table(pa.table({"features": list(x), **columns}), file)
    return file


def grey(level):
    return np.full((8, 8, 3), level, np.uint8)


def level(opened):
    return int(np.asarray(opened.convert("L"))[4, 4])


def shown(page):
    """Grey levels of the images on a page."""
    found = re.findall(r"data:image/[a-z]+;base64,([A-Za-z0-9+/=]+)", page.read_text(encoding="utf-8"))
    return {level(Image.open(io.BytesIO(base64.b64decode(each)))) for each in found}


def test_every_output_carries_what_is_known_of_the_rows(tmp_path, features):
    x, y, _ = features
    (tmp_path / "f").mkdir()
    ids = np.arange(N).astype(np.uint64) + np.uint64(2**63)
    names = np.array(["ant", "bee", "cat", "dog"])[y]
    for shard, part in enumerate(np.array_split(np.arange(N), 3)):
        labels = [None if i == 7 else names[i] for i in part]
        write(tmp_path / "f" / f"part-{shard}.parquet", x[part], id=ids[part], label=labels)
    found = ps.scan(tmp_path / "f", 4, threads=1, output=tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "scores.parquet")
    assert table.column("id").to_pylist() == ids.tolist()
    assert table.column("class").to_pylist() == [None if i == 7 else names[i] for i in range(N)]
    assert table.column("label").to_pylist()[7] == -1
    assert table.column("file").to_pylist()[100].endswith("part-1.parquet")
    assert table.column("file_row").to_pylist()[100] == 20
    pairs = pq.read_table(tmp_path / "out" / "pairs.parquet").to_pylist()
    assert pairs
    for pair in pairs[:50]:
        for side in ("anchor", "other"):
            assert pair[f"{side}_id"] == 2**63 + pair[side]
            assert pair[f"{side}_class"] == (None if pair[side] == 7 else names[pair[side]])
    header, first = (tmp_path / "out" / "drop.csv").read_text().splitlines()[:2]
    assert header == "row,id,label,class,file,file_row,score"
    top = int(np.argmax(found.scores))
    assert first.split(",")[:4] == [str(top), str(2**63 + top), str(found.labels[top]), names[top]]
    again = ps.Scan.load(tmp_path / "out")
    assert again.known.equals(found.known)
    assert again.pairs.equals(found.pairs)
    assert again.names[7] == ""


def test_ids_of_a_named_column_and_features_of_a_named_column(tmp_path, features):
    x, _, _ = features
    keys = [f"k{i}" for i in range(N)]
    file = write(tmp_path / "f.parquet", x, other=list(x[:, ::-1]), key=keys)
    found = ps.scan(file, 4, threads=1, column="features", id_column="key")
    assert found.known.column("id").to_pylist() == keys
    np.testing.assert_array_equal(found.scores, ps.scan(x, 4, threads=1).scores)
    with pytest.raises(DataError, match="2 columns of vectors"):
        ps.scan(file, 4, threads=1)
    with pytest.raises(DataError, match="no column 'nokey'"):
        ps.scan(file, 4, threads=1, column="features", id_column="nokey")
    with pytest.raises(ScanError, match="`id_column='key'` names a column of a table"):
        ps.scan(x, 4, threads=1, id_column="key")


def test_missing_embeddings_are_named_or_skipped_with_their_rows(tmp_path, features):
    x, y, _ = features
    rows = [None if i in (3, 50) else row for i, row in enumerate(x)]
    file = write(tmp_path / "f.parquet", rows, label=y)
    with pytest.raises(DataError, match=r"its features are missing \(2 of 240 rows: 3, 50\).*`skip_bad=True`"):
        ps.scan(file, 4, threads=1)
    found = ps.scan(file, 4, threads=1, skip_bad=True, output=tmp_path / "out")
    assert np.flatnonzero(np.isnan(found.scores)).tolist() == [3, 50]
    assert "2 rows are not finite and have no score: 3, 50" in found.notes
    assert ps.Scan.load(tmp_path / "out").notes == found.notes


def test_labels_nobody_asked_for_refuse_no_scan(tmp_path, features):
    x, _, _ = features
    file = write(tmp_path / "f.parquet", x, label=[[1.0, float(i)] for i in range(N)], kind=["a", "b"] * (N // 2))
    with pytest.warns(UserWarning, match="label"):
        scores = ps.scan(file, 4, column="features", threads=1).scores
    np.testing.assert_array_equal(scores, ps.scan(x, 4, threads=1).scores)
    assert ps.scan(file, 4, column="features", label_column="kind", threads=1).names[:2] == ["a", "b"]


def test_images_are_joined_by_path_and_not_by_position(tmp_path, features):
    x, _, _ = features
    (tmp_path / "images" / "a").mkdir(parents=True)
    names = [f"a/{i:03d}.png" for i in range(N)]
    for i, name in enumerate(names):
        Image.fromarray(grey(i)).save(tmp_path / "images" / name)
    order = np.random.default_rng(0).permutation(N)
    found = ps.scan(write(tmp_path / "f.parquet", x, path=[names[i] for i in order]), 4, threads=1)
    found.report(tmp_path / "page.html", images=tmp_path / "images")
    assert {int(order[i]) for i in found.drop(0.1)} <= shown(tmp_path / "page.html")
    # Paths that are longer, or from another folder, are joined by their ends.
    longer = open_images(tmp_path / "images", found.rows, [f"/elsewhere/{names[i]}" for i in order])
    assert [level(longer(i)) for i in (0, 5, 200)] == [int(order[i]) for i in (0, 5, 200)]
    with pytest.raises(DataError, match=r"has no image 'b/1.png', which a row of the features names \(1 of 240"):
        open_images(tmp_path / "images", found.rows, ["b/1.png", *names[1:]])
    some = open_images(tmp_path / "images", found.rows, ["", *names[1:]])
    made = thumbnails(some, [0, 1])
    assert made[0] == ""
    assert made[1]


def kinds(folder):
    """Images of N rows, of every kind that has no paths of its own."""
    files = []
    for i in range(N):
        files.append(folder / f"x{i}.png")
        Image.fromarray(grey(i)).save(files[-1])
    arrays = np.stack([grey(i) for i in range(N)])
    return {
        "files": files, "names": [str(each) for each in files], "PIL": [Image.fromarray(each) for each in arrays],
        "list": list(arrays), "grey": list(arrays[..., 0]), "channels first": list(arrays.transpose(0, 3, 1, 2)),
        "tensor": torch.from_numpy(arrays),
        "tensors": [torch.from_numpy(each).permute(2, 0, 1) / 255 for each in arrays],
        "objects": np.array([*map(Image.fromarray, arrays), None], object)[:-1],
        "array": arrays, "array, channels first": arrays.transpose(0, 3, 1, 2), "array, grey": arrays[..., 0],
    }  # fmt: skip


def test_images_of_every_kind_are_shown(tmp_path):
    rows = np.arange(N)
    for name, images in kinds(tmp_path).items():
        opened = open_images(images, rows, None)
        assert [level(opened(i)) for i in (0, 100, 239)] == [0, 100, 239], name


def test_thumbnails_show_what_the_reader_of_images_shows(tmp_path):
    """Turned upright, over white and scaled to 8 bits, also in a list of files or of PIL images."""
    exif, wide = Image.Exif(), np.tile(np.arange(0, 256, 32, dtype=np.uint8), (4, 1))
    exif[0x0112] = 6
    clear = Image.fromarray(wide).convert("RGBA")
    clear.putalpha(0)
    Image.fromarray(wide).save(tmp_path / "0.png", exif=exif)
    clear.save(tmp_path / "1.png")
    Image.fromarray(wide.astype(np.uint16) * 257).save(tmp_path / "2.png")
    files = [tmp_path / f"{i}.png" for i in range(3)]
    names = [str(file) for file in files]
    columns = [pd.Series(names), np.array(names), pa.array(names), pa.chunked_array([names])]
    held = datasets.Dataset.from_dict({"image": names}).cast_column("image", datasets.Image())["image"]
    for images in (tmp_path, files, [Image.open(file) for file in files], *columns, held):
        made = thumbnails(open_images(images, np.arange(3), None), range(3))
        shown = [
            np.asarray(Image.open(io.BytesIO(base64.b64decode(each.split(",")[1]))).convert("L")).astype(int)
            for each in made.values()
        ]
        expected = [np.rot90(wide, -1), np.full_like(wide, 255), wide]
        for got, wanted in zip(shown, expected, strict=True):
            assert got.shape == wanted.shape
            assert np.abs(got - wanted).max() <= 1


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (np.zeros((5, 8, 8), np.uint8), DataError, "240 rows, got 5 images"),
        (["nothing.png"] * N, DataError, "image 0: there is no file 'nothing.png'"),
        ([3] * N, TypeError, "image 0 must be a path, a PIL image or an array, got int"),
        ([np.zeros(4)] * N, DataError, r"image 0 must be \(H, W\)"),
        (3, TypeError, "images must be a path, an array"),
        ({}, TypeError, "images must be a path, an array"),
    ],
)
def test_images_that_do_not_fit_are_refused(images, error, message):
    with pytest.raises(error, match=message):
        open_images(images, np.arange(N), None)


def test_where_no_image_can_be_read_the_page_is_refused(tmp_path):
    (tmp_path / "x.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match="none of 3 images can be read; of the last one: cannot identify"):
        thumbnails(open_images([tmp_path / "x.png"] * 3, np.arange(3), None), [0, 1, 2])


def test_images_of_another_number_are_refused_before_the_scan(tmp_path, features, monkeypatch, capsys):
    np.save(tmp_path / "f.npy", features[0])
    np.save(tmp_path / "i.npy", np.zeros((7, 8, 8), np.uint8))
    monkeypatch.setattr("pairsift.scanning.scan", lambda *_, **__: pytest.fail("the scan began"))
    arguments = ["scan", str(tmp_path / "f.npy"), "-o", str(tmp_path / "out"), "--images", str(tmp_path / "i.npy")]
    assert cli.guarded(arguments, False) == 1
    assert "has 7 images, the scan 240 rows" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_pairs_that_are_not_found_come_with_the_reason(tmp_path):
    rng = np.random.default_rng(0)
    x = (np.eye(2, 8)[np.arange(400) % 2] + 0.01 * rng.standard_normal((400, 8))).astype(np.float32)
    found = ps.scan(x, 2, threads=1)
    assert len(found.pairs) == 0
    words = (
        "no close pairs of different clusters: rows that are mutually among their 10 nearest lie in one cluster; with"
    )
    assert any(each.startswith(words) for each in found.notes)
    found.report(tmp_path / "page.html")
    assert "None was found; the notes above say why" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_the_page_leads_with_images_and_ends_with_the_theory(tmp_path, features):
    x, y, _ = features
    found = ps.scan(x, 4, labels=y, threads=1)
    found.report(tmp_path / "page.html", images=np.zeros((N, 8, 8), np.uint8))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    places = [text.index(each) for each in ("<body>", "data:image/png", "What to drop", '<details id="theory">')]
    assert places == sorted(places)
    assert text.index("margin = ") > places[-1]
    # With labels the theory's numbers are measured by them, and nobody is asked for labels.
    assert not any("measured by ranks" in each or "with labels" in each for each in found.advice.reasons)


def test_a_scan_of_version_02_is_read(tmp_path):
    """The folder was written by 0.2.0 for 60 rows of `midpoints(60, 3)` with labels and paths."""
    found = ps.Scan.load(Path(__file__).parent / "scan_of_02")
    assert len(found) == 60
    assert found.settings["pairsift"] == "0.2.0"
    assert found.paths[:2] == ["p0.png", "p1.png"]
    np.testing.assert_array_equal(found.labels, midpoints(60, 3)[1])
    assert found.indicators.shape == (60, 5)
    assert found.pairs.column_names == list(PAIR_COLUMNS)
    assert len(found.pairs) == 10
    # Its list of five rows is the same where no cluster would lose more than a quarter.
    rows = [int(line.split(",")[0]) for line in (Path(__file__).parent / "scan_of_02/drop.csv").read_text().split()[1:]]
    assert found.drop(0.08, cluster_share=1).tolist() == rows
    found.report(tmp_path / "page.html", images=np.zeros((60, 8, 8), np.uint8))
    assert "data:image/png" in (tmp_path / "page.html").read_text(encoding="utf-8")
    found.save(tmp_path / "again")
    assert ps.Scan.load(tmp_path / "again").known.equals(found.known)


def test_an_unfinished_scan_of_another_version_is_refused(tmp_path, features, monkeypatch):
    np.save(tmp_path / "f.npy", features[0])

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pairsift.scanning.scanning.merge", stop)
    with pytest.raises(KeyboardInterrupt):
        ps.scan(tmp_path / "f.npy", 4, output=tmp_path / "out")
    monkeypatch.undo()
    begun = tmp_path / "out" / "parts" / "settings.json"
    begun.write_text(begun.read_text().replace(ps.__version__, "0.2.0"))
    with pytest.raises(ScanError, match=r"another pairsift \(pairsift was 0.2.0\): use `overwrite"):
        ps.scan(tmp_path / "f.npy", 4, output=tmp_path / "out")
