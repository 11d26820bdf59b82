import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairsift.data import DataError, ImageSet, subset
from pairsift.train.policy import guide_features


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(size=(96, 5)).astype(np.float32)


def parquet(path, features, rows):
    pq.write_table(pa.table({"features": list(features), "row": pa.array(rows)}), path)
    return path


def test_without_rows_a_guide_is_in_the_order_of_the_images(tmp_path, digits, features):
    np.save(tmp_path / "guide.npy", features)
    np.testing.assert_array_equal(guide_features(tmp_path / "guide.npy", digits, 4), features)
    chosen = subset(digits, np.arange(0, 96, 2))
    np.save(tmp_path / "guide.npy", features[:48])
    np.testing.assert_array_equal(guide_features(tmp_path / "guide.npy", chosen, 4), features[:48])
    bare = ImageSet(digits.images)
    file = parquet(tmp_path / "guide.parquet", features, np.arange(96)[::-1].copy())
    np.testing.assert_array_equal(guide_features(file, bare, 4), features)


def test_rows_put_a_guide_in_order(tmp_path, digits, features):
    keep = np.array([5, 2, 90, 7])
    order = np.array([2, 0, 3, 1])
    file = parquet(tmp_path / "guide.parquet", features[keep][order], digits.rows[keep][order])
    np.testing.assert_array_equal(guide_features(file, subset(digits, keep), 4), features[keep])


def test_a_guide_that_does_not_fit_is_refused(tmp_path, digits, features):
    file = tmp_path / "guide.npy"
    np.save(file, features[:95])
    with pytest.raises(DataError, match="has 95 rows, and there are 96 training images"):
        guide_features(file, digits, 4)
    np.save(file, features)
    with pytest.raises(DataError, match=r"takes 1\.9e-06 GB \(96 x 5\), and memory_gb=1e-06 GB"):
        guide_features(file, digits, 1e-6)
    features[70, 3] = np.inf
    np.save(file, features)
    with pytest.raises(DataError, match="row 70 is not finite"):
        guide_features(file, digits, 4)
    with pytest.raises(DataError, match="no features at"):
        guide_features(tmp_path / "none.npy", digits, 4)


def test_a_guide_of_other_images_is_refused(tmp_path, digits, features):
    file = parquet(tmp_path / "guide.parquet", features, digits.rows + 3)
    with pytest.raises(DataError, match=r"no features of row 0 of the training images \(3 such rows\)"):
        guide_features(file, digits, 4)
