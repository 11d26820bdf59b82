import pyarrow as pa
import pytest

from pairsift.data import DataError
from pairsift.data.columns import (
    ARRAY_LABELS,
    FEATURE_LABELS,
    FEATURE_NAMES,
    IMAGE_LABELS,
    array_called,
    feature_columns,
    image_column,
    label_column,
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
    assert label_column("f", available, wanted, usual) == found


def test_a_wanted_column_that_is_not_there_is_named_with_the_remedy():
    with pytest.raises(DataError, match=r"f has no column 'kind'; its columns: a, b \(`label_column='none'` for no"):
        label_column("f", ["a", "b"], "kind", FEATURE_LABELS)


def test_images_and_arrays_are_found_by_name():
    assert image_column("f", ["img", "image"]) == "image"
    assert array_called("f", FEATURE_NAMES, ["x", "embedding"]) == "embedding"
    with pytest.raises(DataError, match=r"f has no image column \(image or img\); its columns: picture"):
        image_column("f", ["picture"])
    with pytest.raises(DataError, match=r"f has no array called features or .* it holds: weights"):
        array_called("f", FEATURE_NAMES, ["weights"])


def test_feature_columns_are_one_list_or_all_floats_that_are_not_about_the_row():
    number, name = pa.float32(), pa.string()
    listed = pa.schema([("embedding", pa.list_(number)), ("a", number)])
    assert feature_columns("f", listed, None) == ["embedding"]
    wide = pa.schema([("row", number), ("a", number), ("path", name), ("b", number), ("y", number), ("kind", number)])
    assert feature_columns("f", wide, "kind") == ["a", "b"]
    # A column called features that is no list is a dimension like any other.
    assert feature_columns("f", pa.schema([("features", number), ("a", number)]), None) == ["features", "a"]
    with pytest.raises(DataError, match="f has no feature columns; its columns: path"):
        feature_columns("f", pa.schema([("path", name)]), None)
