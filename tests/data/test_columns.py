import json
import warnings

import numpy as np
import pyarrow as pa
import pytest

from pairsift.data import DataError
from pairsift.data.columns import (
    ARRAY_LABELS,
    FEATURE_LABELS,
    IMAGE_ARRAYS,
    IMAGE_LABELS,
    UNLABELLED,
    array_called,
    class_numbers,
    column_labels,
    feature_columns,
    find_label_column,
    image_column,
    with_class_names,
)


@pytest.mark.parametrize(
    ("available", "wanted", "usual", "found"),
    [
        (["image", "label"], None, IMAGE_LABELS, "label"),
        (["image", "labels", "y"], None, IMAGE_LABELS, None),
        (["y", "labels", "label"], None, FEATURE_LABELS, "label"),
        (["y", "labels", "label"], None, ARRAY_LABELS, "labels"),
        (["x", "targets"], None, ARRAY_LABELS, "targets"),
        (["x", "targets"], None, FEATURE_LABELS, None),
        (["label", "kind"], "kind", FEATURE_LABELS, "kind"),
        (["label", "none"], "none", FEATURE_LABELS, None),
    ],
)
def test_the_label_column_is_the_wanted_or_the_first_usual_one(available, wanted, usual, found):
    assert find_label_column("f", available, wanted, usual) == found


def test_a_wanted_column_that_is_not_there_is_named_with_the_remedy():
    with pytest.raises(DataError, match=r"f has no column 'kind'; its columns: a, b \(`label_column='none'` for no"):
        find_label_column("f", ["a", "b"], "kind", FEATURE_LABELS)


def test_images_and_arrays_are_found_by_name():
    held, plain = pa.struct([("bytes", pa.binary()), ("path", pa.string())]), pa.large_binary()
    assert image_column("f", pa.schema([("img", plain), ("image", held)])) == "image"
    assert image_column("f", pa.schema([("label", pa.int64()), ("pixel_values", held)])) == "pixel_values"
    assert image_column("f", pa.schema([("photo", pa.binary_view()), ("text", pa.string())])) == "photo"
    with pytest.raises(DataError, match="2 columns of encoded images, left, right: call the one to read 'image'"):
        image_column("f", pa.schema([("left", held), ("right", plain)]))
    assert array_called("f", IMAGE_ARRAYS, ["x", "images"]) == "images"
    with pytest.raises(DataError, match=r"f has no image column \(image or img, or .*\); its columns: picture"):
        image_column("f", pa.schema([("picture", pa.string())]))
    with pytest.raises(DataError, match=r"f has no array called images or .* it holds: weights"):
        array_called("f", IMAGE_ARRAYS, ["weights"])


F, D, S = pa.float32(), pa.float64(), pa.string()
PANDAS = {b"pandas": json.dumps({"index_columns": ["time"]}).encode()}


def wide(*names, kind=F, **others):
    return pa.schema([(name, kind) for name in names] + list(others.items()))


@pytest.mark.parametrize(
    ("schema", "found"),
    [
        (pa.schema([("vector", pa.list_(F)), ("price", D)]), ["vector"]),
        (pa.schema([("image_embedding", pa.list_(F, 8)), ("ids", pa.list_(pa.int64()))]), ["image_embedding"]),
        (pa.schema([("v", pa.large_list(pa.float16())), ("tags", pa.list_(S))]), ["v"]),
        (pa.schema([("v", pa.fixed_shape_tensor(F, (8,))), ("map", pa.fixed_shape_tensor(F, (8, 8)))]), ["v"]),
        (pa.schema([("v", pa.list_view(F)), ("label", pa.list_(F))]), ["v"]),
        (wide("row", "a", "path", "b", "y", "kind"), ["a", "b"]),
        # A column called features that is no list is a dimension like any other.
        (wide("features", "a"), ["features", "a"]),
        (wide(*"01234567", count=pa.int64(), at=pa.timestamp("s"), ok=pa.bool_(), name=S), list("01234567")),
        # A table of measurements: names of all kinds, none of them odd.
        (wide("area", "radius1", "radius2", "texture1", "texture2"), None),
        (wide("price"), ["price"]),
    ],
)
def test_features_are_the_column_of_vectors_or_alike_columns_of_numbers(schema, found):
    found = schema.names if found is None else found
    assert feature_columns("f", schema, "kind" if "kind" in schema.names else "label") == found


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (
            pa.schema([("a", pa.list_(F)), ("b", pa.list_(D, 3))]),
            r"2 columns of vectors, a \(.*\), b \(.*\): name .*`column`",
        ),
        (wide("d0", "d1", d2=pa.int64()), r"d2 \(int64\) is of another kind .* \(d0, d1\).* as 'd\*'"),
        (wide("d0", "d1", "d2", area=F), r"area \(float\) is of another kind .* \(d0, d1, d2\).* as 'd\*'"),
        (wide("d0", "d1", "d2", "d3", "d4", d5=D), r"d5 \(double\) is of another kind .*d0, d1 \.\.\. d4"),
        (wide(*"abcd", user_id=F, timestamp=F), r"user_id \(float\), timestamp \(float\) are of another kind"),
        (wide("0", "1", "2", score=F), r"score .* as '\[0-9\]\*'"),
        (pa.schema([("path", S)]), "f has no feature columns; its columns: path"),
        (pa.schema([("code", pa.list_(pa.int8()))]), "'code' holds .*: features must be floating point, got int8"),
        (pa.schema([("x", pa.list_(F)), ("x", pa.list_(F))]), "two columns called 'x'"),
        (pa.schema([("a", F), ("a", F)]), "two columns called 'a'"),
    ],
)
def test_what_could_be_meant_is_asked_for(schema, message):
    with pytest.raises(DataError, match=message):
        feature_columns("f", schema, None)


def test_whole_numbers_next_to_dimensions_are_named_and_left_out():
    schema = wide("area", "height", rooms=pa.int64(), user_id=pa.int64(), row=pa.int64(), label=pa.int64())
    with pytest.warns(UserWarning, match="f: rooms holds whole numbers, which are taken for no dim") as told:
        assert feature_columns("f", schema, "label") == ["area", "height"]
    assert len(told) == 1


def test_missing_labels_of_pandas():
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    for labels in (pd.array([1, None, 0], "Int64"), pd.Series(["b", pd.NA, "a"], dtype="string")):
        assert class_numbers(np.asarray(labels, object), "f")[0].tolist() == [1, -1, 0]


def test_the_index_of_a_pandas_frame_is_named_and_left_out():
    schema = wide("a", "b", time=D).with_metadata(PANDAS)
    with pytest.warns(UserWarning, match="f: time is the index of a pandas frame and no dimension"):
        assert feature_columns("f", schema, None) == ["a", "b"]


@pytest.mark.parametrize(
    ("column", "found"),
    [("b", ["b"]), ("d*", ["d0", "d1"]), ("d1,price", ["d1", "price"]), (["price", "d*"], ["price", "d0", "d1"]),
     ("a,b", ["a,b"])],
)  # fmt: skip
def test_the_user_names_the_columns(column, found):
    schema = wide("d0", "d1", price=pa.int64(), a=pa.list_(F), b=pa.list_(pa.int8()), **{"a,b": pa.list_(F)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert feature_columns("f", schema, None, column) == found


@pytest.mark.parametrize(
    ("column", "message"),
    [("x", r"no column 'x' \(`column`\); its columns: v, t"), ("t", "'t' holds string"), ("v,t", "'v' holds list"),
     ("q*", r"no column 'q\*'")],
)  # fmt: skip
def test_a_named_column_must_be_there_and_hold_numbers(column, message):
    with pytest.raises(DataError, match=message):
        feature_columns("f", pa.schema([("v", pa.list_(F)), ("t", S)]), None, column)


def test_numbers_of_a_text_file_may_be_whole():
    schema = wide("d0", "d1", d2=pa.int64())
    with pytest.raises(DataError, match=r"d2 \(int64\) is of another kind"):
        feature_columns("f", schema, None)
    assert feature_columns("f", schema, None, typed=False) == ["d0", "d1", "d2"]
    listed = pa.schema([("ids", pa.list_(pa.int64())), ("v", pa.list_(D))])
    assert feature_columns("f", listed, None, typed=False) == ["v"]
    assert feature_columns("f", listed.remove(1), None, typed=False) == ["ids"]


# Labels


@pytest.mark.parametrize(
    ("labels", "codes", "names"),
    [
        ([3, -1, 0], [3, -1, 0], None),
        (np.array([2**63 + 5, 7, 2**63 + 5], np.uint64), [1, 0, 1], ["7", str(2**63 + 5)]),
        ([1.0, np.nan, 0.0], [1, -1, 0], None),
        (["b", "a", "b"], [1, 0, 1], ["a", "b"]),
        (np.array(["b", None, "a"], object), [1, -1, 0], ["a", "b"]),
        (np.array([4, None], object), [4, -1], None),
        (np.array(["b", np.nan, "a"], object), [1, -1, 0], ["a", "b"]),
        ([True, False], [1, 0], None),
        (["b", "", "a"], [1, -1, 0], ["a", "b"]),
        (np.ma.masked_array([4, 5, 6], mask=[0, 1, 0]), [4, -1, 6], None),
        (np.ma.masked_array(["b", "x", "a"], mask=[0, 1, 0]), [1, -1, 0], ["a", "b"]),
        (np.ma.masked_array([4, 5], mask=False), [4, 5], None),
    ],
)
def test_labels_of_any_kind_are_class_numbers(labels, codes, names):
    found = class_numbers(np.asanyarray(labels), "f")
    assert (found[0].tolist(), found[1]) == (codes, names)
    assert found[0].dtype == np.int64


@pytest.mark.parametrize(
    "labels", [[0.5], [np.inf], np.array(["2020-01-01"], "M8[D]"), np.array([(1,)], object)[:, 0:0]]
)
def test_what_is_no_class_is_refused(labels):
    with pytest.raises(DataError, match="labels must be"):
        class_numbers(np.asarray(labels), "f")


@pytest.mark.parametrize(
    ("values", "codes", "names"),
    [
        (pa.array([1, None, 0], pa.uint8()), [1, UNLABELLED, 0], None),
        (pa.array(["b", None, "a"]), [1, UNLABELLED, 0], ["a", "b"]),
        (pa.array(["b", "", "a"]), [1, UNLABELLED, 0], ["a", "b"]),
        (pa.array(["b", None, "a"]).dictionary_encode(), [1, UNLABELLED, 0], ["a", "b"]),
        (pa.array(["b", None, "a"], pa.string_view()), [1, UNLABELLED, 0], ["a", "b"]),
        (pa.array([5, 7, 5]).dictionary_encode(), [5, 7, 5], None),
        (pa.array([1.0, None, 0.0]), [1, UNLABELLED, 0], None),
        (pa.array([True, None, False]), [1, UNLABELLED, 0], None),
        (pa.nulls(3), [UNLABELLED] * 3, None),
        (pa.array([0, 1, None], pa.uint64()), [0, 1, UNLABELLED], None),
    ],
)
def test_labels_of_any_column_are_class_numbers(values, codes, names):
    field = pa.field("label", values.type)
    found = column_labels(pa.chunked_array([values]), field, pa.schema([field]), "f")
    assert (found[0].tolist(), found[1]) == (codes, names)


@pytest.mark.parametrize(
    ("labels", "named"), [([1, -1, 0], True), ([1, None], True), ([2, 0], False), ([-2, 0], False)]
)
def test_written_names_count_where_they_cover_all_classes(labels, named):
    table = with_class_names(pa.table({"label": pa.array(labels)}), "label", ["cat", "dog"])
    names = column_labels(table["label"], table.schema.field("label"), table.schema, "f")[1]
    assert names == (["cat", "dog"] if named else None)


def test_names_of_classes_are_written_where_datasets_reads_them():
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    table = with_class_names(pa.table({"label": [1, 0], "x": [0.5, 1.0]}), "label", ["cat", "dog"])
    assert column_labels(table["label"], table.schema.field("label"), table.schema, "f")[1] == ["cat", "dog"]
    read = datasets.Features.from_arrow_schema(table.schema)
    assert read["label"].names == ["cat", "dog"]
    written = datasets.Dataset.from_dict(
        {"label": [1]}, datasets.Features({"label": datasets.ClassLabel(names=["a", "b"])})
    ).data.table
    assert column_labels(written["label"], written.schema.field("label"), written.schema, "f")[1] == ["a", "b"]
