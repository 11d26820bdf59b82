import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pairsift.data import ArrayFeatures, DataError, open_features
from pairsift.data.features import bare_features, is_shareable
from pairsift.data.tables import open_table

FEATURES = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def write(file, **columns):
    pq.write_table(pa.table(columns), file)
    return file


def lists(kind=None):
    return pa.array(FEATURES.tolist(), kind or pa.list_(pa.float32(), 3))


@pytest.mark.parametrize("kind", [pa.list_(pa.float32(), 3), pa.list_(pa.float32()), pa.large_list(pa.float32())])
def test_list_columns(tmp_path, kind):
    file = write(tmp_path / "f.parquet", row=range(6), features=lists(kind), label=LABELS, path=list("abcdef"))
    found = open_features(file)
    np.testing.assert_array_equal(found.take(np.arange(6)), FEATURES)
    assert found.labels.tolist() == LABELS.tolist()
    assert found.paths == list("abcdef")
    assert open_features(file, "none").labels is None


def test_a_column_per_dimension_and_labels_by_name(tmp_path):
    columns = {f"d{i}": FEATURES[:, i] for i in range(3)}
    file = write(tmp_path / "f.parquet", row=range(6), **columns, kind=["x", "y", "z"] * 2)
    found = open_features(file, "kind")
    np.testing.assert_array_equal(found.take(np.arange(6)), FEATURES)
    assert found.labels.tolist() == LABELS.tolist()
    assert found.class_names == ["x", "y", "z"]
    assert open_features(file).labels is None


def test_numpy_files(tmp_path):
    np.save(tmp_path / "f.npy", FEATURES)
    np.savez(tmp_path / "f.npz", features=FEATURES, labels=LABELS)
    bare = open_features(tmp_path / "f.npy")
    assert bare.shape == (6, 3)
    np.testing.assert_array_equal(bare.take(np.array([1, 4])), FEATURES[[1, 4]])
    assert bare.labels is None
    both = open_features(tmp_path / "f.npz")
    np.testing.assert_array_equal(both.take(np.arange(6)), FEATURES)
    assert both.labels.tolist() == LABELS.tolist()


@pytest.mark.parametrize("group", [1, 2, 5])
def test_shards_are_read_in_blocks_of_any_size(tmp_path, group):
    """Two shards, row groups of odd sizes, one row group empty of what is asked for."""
    for name, rows in (("b", slice(4, 6)), ("a", slice(0, 4))):
        columns = {"features": lists()[rows.start : rows.stop], "label": LABELS[rows]}
        pq.write_table(pa.table(columns), tmp_path / f"{name}.parquet", row_group_size=group)
    source = open_features(tmp_path)
    assert source.shape == (6, 3)
    assert source.labels.tolist() == LABELS.tolist()
    for rows in (1, 3, 100):
        starts, parts = zip(*source.blocks(rows), strict=True)
        np.testing.assert_array_equal(np.concatenate(parts), FEATURES)
        assert list(starts) == np.cumsum([0, *map(len, parts)])[:-1].tolist()
        assert max(map(len, parts)) <= rows
    np.testing.assert_array_equal(source.take(np.array([0, 3, 5])), FEATURES[[0, 3, 5]])
    assert source.take(np.array([], np.int64)).shape == (0, 3)


def read(path, **options):
    """All rows: what is wrong with single ones is found when they are read."""
    source = open_features(path, **options)
    return source.take(np.arange(source.shape[0]))


def test_bad_files_are_refused(tmp_path):
    def refused(path, message, **options):
        with pytest.raises(DataError, match=message):
            read(path, **options)

    good = write(tmp_path / "f.parquet", features=lists(), label=LABELS)
    refused(tmp_path / "none.parquet", "no features at")
    refused(good, "no column 'kind'; its columns: features, label", label_column="kind")
    refused(write(tmp_path / "a.parquet", row=range(3), label=[0, 1, 2]), "no feature columns")
    refused(write(tmp_path / "b.parquet", features=pa.array([[1.0], [1.0, 2.0]])), "row 1 has 2 dimensions, .* it 1")
    refused(write(tmp_path / "c.parquet", features=pa.nulls(2, pa.list_(pa.float32()))), "no numbers in any row")
    refused(write(tmp_path / "e.parquet", features=lists(), label=[0.5] * 6), "whole numbers", label_column="label")
    refused(write(tmp_path / "g.parquet", features=pa.array([[1], [2]])), "floating point, got int64")
    (tmp_path / "cut.parquet").write_bytes(good.read_bytes()[:200])
    refused(tmp_path / "cut.parquet", "cannot be read as parquet")
    np.save(tmp_path / "flat.npy", np.ones(3))
    refused(tmp_path / "flat.npy", r"got shape \(3,\)")
    refused(tmp_path / "flat.npy", "bare array without labels", label_column="y")
    np.save(tmp_path / "none.npy", np.ones((0, 3)))
    refused(tmp_path / "none.npy", r"got shape \(0, 3\)")
    (tmp_path / "cut.npz").write_bytes(b"PK123")
    refused(tmp_path / "cut.npz", "cannot be read as a numpy file")
    np.savez(tmp_path / "other.npz", weights=FEATURES[0])
    refused(tmp_path / "other.npz", r"no \(N, D\) array of floating-point numbers; it holds: weights \(3,\)")
    np.savez(tmp_path / "two.npz", weights=FEATURES, features=FEATURES)
    refused(tmp_path / "two.npz", "2 arrays of features, weights, features: name .*`column`")
    np.savez(tmp_path / "short.npz", features=FEATURES, labels=LABELS[:2])
    refused(tmp_path / "short.npz", "6 features but labels of shape", label_column="labels")
    (tmp_path / "shards").mkdir()
    refused(tmp_path / "shards", "holds no parquet files")
    write(tmp_path / "shards" / "a.parquet", features=lists())
    write(tmp_path / "shards" / "b.parquet", features=lists(), label=LABELS)
    refused(tmp_path / "shards", "other columns or types")
    refused(np.ones((2, 2), int), "floating point, got int64")
    refused(write(tmp_path / "h.parquet", features=lists()[:0]), "holds no rows")
    (tmp_path / "f.txt").write_text("1,2")
    refused(tmp_path / "f.txt", "not a kind of feature file")
    refused(FEATURES, "an array has no columns", column="x")
    refused(open_features(FEATURES), "no columns to name", column="x")


def test_an_archive_with_the_name_of_an_array_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros((60, 4), np.float32))
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(DataError, match=r"a\.npy is an archive of several arrays: rename it to \.npz"):
        open_features(str(tmp_path / "a.npy"))


def test_sources_say_whether_other_machines_can_read_them(tmp_path):
    file = write(tmp_path / "f.parquet", features=lists(), label=LABELS, path=list("abcdef"))
    np.save(tmp_path / "f.npy", FEATURES)
    assert is_shareable(open_features(file))
    assert not is_shareable(open_features(tmp_path / "f.npy"))
    assert not is_shareable(OwnSource())
    for source in (open_features(file), ArrayFeatures(FEATURES, "features", LABELS)):
        bare = bare_features(source)
        assert (bare.labels, bare.paths) == (None, None)
        assert source.labels.tolist() == LABELS.tolist()
        np.testing.assert_array_equal(bare.take(np.arange(6)), FEATURES)
    own = OwnSource()
    assert bare_features(own) is own


def test_missing_features_are_nan(tmp_path):
    """Null lists, empty lists and null numbers; also where the first rows of a file have none."""
    rows = [None, [], [1.0, 2.0], [3.0, None], None]
    for kind in (pa.list_(pa.float32()), pa.large_list(pa.float16()), pa.list_view(pa.float64())):
        found = read(write(tmp_path / "f.parquet", features=pa.array(rows, kind)))
        np.testing.assert_array_equal(found, [[np.nan] * 2, [np.nan] * 2, [1, 2], [3, np.nan], [np.nan] * 2])
    fixed = pa.array([None, [1.0, 2.0], [None, 4.0]], pa.list_(pa.float32(), 2))
    file = write(tmp_path / "f.parquet", features=fixed)
    np.testing.assert_array_equal(read(file), [[np.nan] * 2, [1, 2], [np.nan, 4]])
    wide = write(tmp_path / "w.parquet", a=pa.array([1.0, None]), b=pa.array([3.0, 4.0]))
    np.testing.assert_array_equal(read(wide), [[1, 3], [np.nan, 4]])
    masked = np.ma.masked_array(FEATURES, np.eye(6, 3, dtype=bool))
    assert np.isnan(open_features(masked).take(np.arange(6))).sum() == 3


@pytest.mark.parametrize(
    "kind", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_paths_of_every_type_of_text(tmp_path, kind):
    names = pa.array(["a.jpg", None, "b.jpg"] * 2)
    names = names.dictionary_encode() if pa.types.is_dictionary(kind) else names.cast(kind)
    for column in ("path", "file_name"):
        file = write(tmp_path / "f.parquet", features=lists(), **{column: names})
        assert open_features(file).paths == ["a.jpg", None, "b.jpg"] * 2
    image = pa.array([{"bytes": b"", "path": f"{i}.png"} for i in range(6)])
    assert open_features(write(tmp_path / "f.parquet", features=lists(), image=image)).paths[3] == "3.png"


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        (pa.array([2**63 + i for i in range(6)], pa.uint64()), [2**63 + i for i in range(6)]),
        (pa.array([5, 4, 3, 2, 1, 9], pa.uint64()), [5, 4, 3, 2, 1, 9]),
        (pa.array([5, 4, 3, 2, 1, 9], pa.int8()), [5, 4, 3, 2, 1, 9]),
        (pa.array([5, 4, 3, 2, 1, 9]).dictionary_encode(), [5, 4, 3, 2, 1, 9]),
        (pa.array([5, 4, 3, 2, 1, None]), list(range(6))),
        (pa.array([0, 1, 2, 0, 1, 2]), list(range(6))),
    ],
)
def test_numbers_of_rows_keep_their_value(tmp_path, rows, found):
    assert open_features(write(tmp_path / "f.parquet", features=lists(), row=rows)).rows.tolist() == found


def test_labels_that_nobody_asked_for_never_refuse(tmp_path):
    for bad in ([0.5] * 6, [[1]] * 6, pa.array([0] * 6, pa.date32())):
        file = write(tmp_path / "f.parquet", features=lists(), label=bad)
        with pytest.warns(UserWarning, match=r"labels are not used: .* column 'label'"):
            assert open_features(file).labels is None
        with pytest.raises(DataError, match="whole numbers or names"):
            open_features(file, "label")
    some = open_features(write(tmp_path / "f.parquet", features=lists(), label=["b", None, "a"] * 2))
    assert (some.labels.tolist(), some.class_names) == ([1, -1, 0] * 2, ["a", "b"])
    for nothing in (pa.nulls(6), pa.array([-1] * 6), pa.nulls(6, pa.string())):
        assert open_features(write(tmp_path / "f.parquet", features=lists(), label=nothing)).labels is None


def test_columns_that_nobody_asked_for_never_refuse(tmp_path):
    np.savez(tmp_path / "x.npz", features=np.ones((3, 2)), labels=np.array([{}, [], None], object))
    with pytest.warns(UserWarning, match=r"labels are not used: .* 'labels' holds Python objects"):
        assert open_features(tmp_path / "x.npz").labels is None
    with pytest.raises(DataError, match="'labels' holds Python objects"):
        open_features(tmp_path / "x.npz", "labels")
    frame = pd.DataFrame({"embedding": list(np.eye(3)), "label": [1, "a", None], "path": ["a", "b", "c"]})
    with pytest.warns(UserWarning, match="columns of mixed types, which are not read: 'label'"):
        found = open_features(frame)
    assert (found.shape, found.labels, list(found.paths)) == ((3, 3), None, ["a", "b", "c"])
    with pytest.raises(DataError, match="a DataFrame that Arrow cannot hold"):
        open_features(frame[["label"]])


def test_rows_of_a_list_may_be_missing():
    for rows in ([None, [1.0, 2.0], []], [np.zeros(0), torch.tensor([1.0, 2.0]), None]):
        features = open_features(rows).take(np.arange(3))
        np.testing.assert_array_equal(np.isnan(features), [[True] * 2, [False] * 2, [True] * 2])
    with pytest.raises(DataError, match=r"row 2 has shape \(1,\), the rows before it \(2,\)"):
        open_features([None, [1.0, 2.0], [3.0]])
    with pytest.raises(DataError, match="non-empty"):
        open_features([None, []])


def test_a_dict_of_columns_is_a_table():
    matrix = np.arange(6, dtype=np.float32).reshape(3, 2)
    for embedding in (matrix, matrix.tolist(), torch.from_numpy(matrix)):
        found = open_features({"embedding": embedding, "label": ["a", "b", "a"]})
        np.testing.assert_array_equal(found.take(np.arange(3)), matrix)
        assert found.labels.tolist() == [0, 1, 0]
    with pytest.raises(DataError, match="a dict of columns that Arrow cannot hold"):
        open_features({"embedding": matrix, "label": [1]})


def test_a_stream_of_hugging_face_is_refused_with_the_remedy():
    datasets = pytest.importorskip("datasets")
    stream = datasets.Dataset.from_dict({"embedding": [[0.0, 1.0]] * 3}).to_iterable_dataset()
    with pytest.raises(DataError, match=r"read as a stream: give `datasets.Dataset.from_generator"):
        open_features(stream)


def test_shards_are_in_natural_order_and_rows_know_their_file(tmp_path):
    for i in (10, 2, 1):
        write(tmp_path / f"part-{i}.parquet", features=lists()[i % 3 :], label=[i] * (6 - i % 3))
    (tmp_path / "_SUCCESS").touch()
    (tmp_path / "._part-0.parquet").write_bytes(b"x")
    found = open_features(tmp_path)
    assert found.labels.tolist() == [1] * 5 + [2] * 4 + [10] * 5
    files, rows = found.locate(np.array([0, 4, 5, 8, 9, 13]))
    names = ["part-1.parquet"] * 2 + ["part-2.parquet"] * 2 + ["part-10.parquet"] * 2
    assert [found.files[i].name for i in files] == names
    assert rows.tolist() == [0, 4, 0, 3, 0, 4]
    assert open_features(str(tmp_path / "part-1*.parquet")).labels.tolist() == [1] * 5 + [10] * 5
    assert found.table(["label"])["label"].to_pylist() == found.labels.tolist()
    with pytest.raises(DataError, match="no column 'id'; its columns: features, label"):
        found.table(["id"])


def test_a_damaged_file_is_named_with_what_is_wrong(tmp_path):
    good = write(tmp_path / "a.parquet", features=lists()).read_bytes()
    footer = len(good) - 8 - int.from_bytes(good[-8:-4], "little")
    for content, message in (
        (good[:-20], r"b\.parquet cannot be read as parquet: .* its end is missing, so it was cut short"),
        (b"id,x\n1,2\n", r"b\.parquet cannot be read as parquet: it is no parquet file, it begins with b'id,x'"),
        (b"", r"b\.parquet cannot be read as parquet: it is empty"),
        (good[:footer] + b"\xff" * 20 + good[footer + 20 :], r"b\.parquet cannot be read as parquet"),
    ):
        (tmp_path / "b.parquet").write_bytes(content)
        with pytest.raises(DataError, match=message) as caught:
            read(tmp_path)
        assert "corrupted" not in str(caught.value)


def test_splits_are_not_mixed(tmp_path):
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        write(tmp_path / f"{name}.parquet", features=lists())
    with pytest.raises(DataError, match=r"several splits, test, train: name .*test\*\.parquet"):
        open_features(tmp_path)
    assert open_features(str(tmp_path / "train-*.parquet")).shape == (12, 3)
    (tmp_path / "new" / "data").mkdir(parents=True)
    write(tmp_path / "new" / "data" / "x.parquet", features=lists())
    with pytest.raises(DataError, match=r"but its sub-folders do: name one, as .*data"):
        open_features(tmp_path / "new")


def test_keys_of_partitions_are_columns(tmp_path):
    for kind in ("cat", "dog"):
        (tmp_path / f"label={kind}" / "year=2020").mkdir(parents=True)
        write(tmp_path / f"label={kind}" / "year=2020" / "part-0.parquet", features=lists())
    for name in (tmp_path, str(tmp_path / "*" / "*" / "*.parquet")):
        found = open_features(name)
        assert found.class_names == ["cat", "dog"]
        assert found.labels.tolist() == [0] * 6 + [1] * 6
        assert found.table(["year"])["year"].to_pylist() == ["2020"] * 12
        rows, names = open_table(name), ["year", "features", "label"]
        batches = [batch for part in range(2) for batch in rows.piece(part, 4, names)]
        assert [column for batch in batches for column in batch["label"].to_pylist()] == ["cat"] * 6 + ["dog"] * 6
        assert batches[0].schema.names == names
    # A folder above that happens to be called key=value is no column.
    assert open_features(tmp_path / "label=cat" / "year=2020" / "part-0.parquet").labels is None


class OwnSource:
    """The members that every feature source must have."""

    name, shape, rows = "own", (6, 3), np.arange(6)
    mixed = labels = class_names = paths = None

    def blocks(self, rows, start=0, stop=None):
        yield start, FEATURES[start:stop]

    def take(self, rows):
        return FEATURES[rows]
