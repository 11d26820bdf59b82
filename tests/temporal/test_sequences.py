import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from pairsift.data import DataError
from pairsift.temporal import by_row, load_sequences


@pytest.fixture
def written(tmp_path):
    """Columns -> the path of a parquet file of them."""

    def write(**columns):
        pq.write_table(pa.table(columns), tmp_path / "sequences.parquet")
        return str(tmp_path / "sequences.parquet")

    return write


def test_a_row_may_be_a_sequence_of_frames(written):
    frames = load_sequences(written(frames=[[[0.0, 1.0], [2.0, 3.0]], [[4.0, 5.0]]], label=["a", "b"]))
    np.testing.assert_array_equal(frames.images, [[0, 1], [2, 3], [4, 5]])
    assert (frames.sequences.tolist(), frames.labels.tolist(), frames.whole) == ([0, 0, 1], [0, 0, 1], True)


def test_flat_sequences_are_cut_and_their_rest_is_left_out(written):
    file = written(values=[[0.0, 1, 2, 3, 4], [5.0], [6.0, 7]])
    frames = load_sequences(file, frame_size=2)
    np.testing.assert_array_equal(frames.images, [[0, 1], [2, 3], [6, 7]])
    assert frames.sequences.tolist() == [0, 0, 2]


@pytest.mark.parametrize(
    "columns", [{"x": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}, {"a": [1.0, 3.0, 5.0], "b": [2.0, 4.0, 6.0]}]
)
def test_a_row_may_be_a_frame(written, columns):
    frames = load_sequences(written(**columns, sequence=["p", "p", "q"], time=[4, 3, 9]))
    np.testing.assert_array_equal(frames.images, [[1, 2], [3, 4], [5, 6]])
    assert (frames.sequences.tolist(), frames.times.tolist(), frames.whole) == (["p", "p", "q"], [4, 3, 9], False)


def test_features_of_sequences_are_means_of_their_frames(written):
    frames = load_sequences(written(frames=[[[0.0], [2.0]], [], [[5.0]]], label=[3, 4, 5]))
    means, sequences = by_row(np.asarray(frames.images), frames)
    np.testing.assert_array_equal(means, [[1], [5]])
    assert (sequences.rows.tolist(), sequences.labels.tolist()) == ([0, 2], [3, 5])
    frame = load_sequences(written(x=[[1.0], [2.0]], sequence=[0, 0]))
    assert by_row(np.asarray(frame.images), frame)[0].shape == (2, 1)


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"frames": [[[1.0, 2.0], [3.0]]]}, {}, "lists of as many numbers each, got 1 to 2"),
        ({"frames": [[[1.0, float("nan")]]]}, {}, "row 0 is missing numbers or not finite"),
        ({"frames": [[[1.0, None]]]}, {}, "row 0 is missing numbers or not finite"),
        ({"frames": [[[1.0]], None]}, {}, "row 1 has nothing in column 'frames'"),
        ({"frames": pa.array([[]], pa.list_(pa.list_(pa.float32())))}, {}, "no frames|lists of as many"),
        ({"frames": [[[1.0]]]}, {"frame_size": 2}, "leave out `frame_size=2`"),
        ({"values": [[1.0, 2.0]]}, {}, "with `frame_size`"),
        ({"values": [[1.0, 2.0]]}, {"frame_size": 3}, "holds no frames"),
        ({"text": ["a"]}, {}, "holds no sequences: name the column"),
        ({"frames": [[[1.0]]]}, {"frame_column": "other"}, "no column 'other'"),
        ({"frames": [[[1.0]]]}, {"per_class": 1}, "`per_class` needs labels"),
        ({"frames": [[[1.0] * 1000] * 1000]}, {"memory": 1e-3}, "memory"),
        ({"x": [[1.0]], "sequence": [0]}, {"per_class": 1}, "makes a row a frame"),
        ({"x": [[1.0], [2.0]], "sequence": [0, None]}, {}, "sequence"),
    ],
)
def test_wrong_files_are_refused(written, columns, settings, message):
    with pytest.raises(DataError, match=message):
        load_sequences(written(**columns), **settings)


def test_labels_that_nobody_asked_for_never_refuse(written):
    for columns in ({"frames": [[[1.0]], [[2.0]]]}, {"x": [[1.0], [2.0]], "sequence": [0, 0]}):
        with pytest.warns(UserWarning, match="labels are not used"):
            assert load_sequences(written(**columns, label=[0.5, 0.1])).labels is None
        with pytest.raises(DataError, match="whole numbers or names"):
            load_sequences(written(**columns, label=[0.5, 0.1]), label_column="label")
        assert load_sequences(written(**columns, label=["b", None])).labels.tolist() == [0, -1]


@pytest.mark.parametrize(
    "kind",
    [pa.list_(pa.list_(pa.float64())), pa.large_list(pa.list_(pa.float16(), 2)), pa.list_(pa.list_view(pa.int32()))],
)
def test_lists_of_frames_of_every_type(tmp_path, kind):
    """In any column of lists, of the one file or of shards in natural order."""
    frames = [[[0, 1], [2, 3]], [[4, 5]]]
    kind_of = np.float16 if "half" in str(kind) else (lambda x: x)
    table = pa.table({"anything": pa.array([[[kind_of(x) for x in f] for f in row] for row in frames], kind)})
    for name, rows in (("s-10", table.slice(1)), ("s-9", table.slice(0, 1))):
        pa.feather.write_feather(rows, tmp_path / f"{name}.arrow", compression="uncompressed")
    np.testing.assert_array_equal(load_sequences(str(tmp_path)).images, [[0, 1], [2, 3], [4, 5]])


def test_the_column_of_frames_is_asked_for_where_there_are_several(written):
    file = written(frames=[[[1.0]]], other=[[[2.0]]])
    with pytest.raises(DataError, match="2 columns of lists, frames, other: name that of the frames"):
        load_sequences(file)
    assert load_sequences(file, frame_column="other").images.tolist() == [[2.0]]


def test_sequences_have_names_and_large_numbers(written):
    for ids in (["p", "q"], pa.array(["p", "q"], pa.large_string()), pa.array(["p", "q"]).dictionary_encode()):
        assert load_sequences(written(x=[[1.0], [2.0]], sequence=ids)).sequences.tolist() == ["p", "q"]
    large = pa.array([2**63 + 1, 2**63 + 2], pa.uint64())
    assert load_sequences(written(x=[[1.0], [2.0]], sequence=large)).sequences.tolist() == [2**63 + 1, 2**63 + 2]


def test_other_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="no data"):
        load_sequences(str(tmp_path / "none.parquet"))
    with pytest.raises(DataError, match="a parquet file or a folder of parquet shards"):
        load_sequences("digits:train")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match="cannot be read as parquet"):
        load_sequences(str(tmp_path / "cut.parquet"))
