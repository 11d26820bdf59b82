import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairsift.data import ArrayFeatures, DataError, open_features
from pairsift.data.features import bare_features, is_shareable

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
    refused(write(tmp_path / "b.parquet", features=pa.array([[1.0], [1.0, 2.0]])), "1 to 2 dimensions")
    refused(write(tmp_path / "c.parquet", features=pa.array([[1.0, 2.0], None])), "1 rows have no features")
    refused(write(tmp_path / "d.parquet", features=lists(), label=pa.array([1, None] * 3)), "3 missing labels")
    refused(write(tmp_path / "e.parquet", features=lists(), label=[0.5] * 6), "whole numbers or names")
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
    np.savez(tmp_path / "other.npz", weights=FEATURES)
    refused(tmp_path / "other.npz", "it holds: weights")
    np.savez(tmp_path / "short.npz", features=FEATURES, labels=LABELS[:2])
    refused(tmp_path / "short.npz", "6 features but labels of shape")
    (tmp_path / "shards").mkdir()
    refused(tmp_path / "shards", "holds no parquet files")
    write(tmp_path / "shards" / "a.parquet", features=lists())
    write(tmp_path / "shards" / "b.parquet", features=lists(), label=LABELS)
    refused(tmp_path / "shards", "other columns or types")
    refused(np.ones((2, 2), int), "floating point, got int64")
    refused(write(tmp_path / "h.parquet", features=lists()[:0]), "holds no rows")
    (tmp_path / "f.csv").write_text("1,2")
    refused(tmp_path / "f.csv", "not a kind of feature file")


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


class OwnSource:
    """The members that every feature source must have."""

    name, shape, rows = "own", (6, 3), np.arange(6)
    mixed = labels = class_names = paths = None

    def blocks(self, rows, start=0, stop=None):
        yield start, FEATURES[start:stop]

    def take(self, rows):
        return FEATURES[rows]
