"""A scan as one table, as cleanlab's and FiftyOne's columns, and as a scorer of further rows."""

from __future__ import annotations

import numpy as np
import pytest
from mixtures import midpoints
from sklearn.metrics import roc_auc_score

import pairsift as ps


@pytest.fixture(scope="module")
def found():
    features, labels, _ = midpoints(seed=3)
    given = labels.copy()
    given[:30] = (given[:30] + 1) % 5
    return ps.scan(np.concatenate([features, features[:20]]), 5, labels=np.concatenate([given, given[:20]]), threads=1)


def test_further_rows_are_scored_like_those_of_the_set(found):
    features, _, mixed = midpoints(seed=3)
    np.testing.assert_allclose(found.score(features[30:]), found.scores[30:600], atol=1e-5)
    assert roc_auc_score(mixed, found.score(features + 1e-3)) > 0.9
    assert found.score(features[:0]).shape == (0,)


def test_what_cannot_be_scored_is_refused(found, tmp_path):
    for rows, words in (
        (np.ones((3, 4)), r"\(M, 16\), got shape \(3, 4\)"),
        (np.full((2, 16), np.nan), "row 0 is not"),
    ):
        with pytest.raises(ValueError, match=words):
            found.score(rows)
    found.save(tmp_path)
    with pytest.raises(ValueError, match="loaded from a folder"):
        ps.Scan.load(tmp_path).score(np.ones((3, 16)))


def test_one_table_has_a_line_a_row(found):
    table = found.to_pandas()
    assert len(table) == len(found)
    np.testing.assert_array_equal(table.score, found.scores)
    assert table.label_issue.sum() == len(found.label_issues)
    assert (table.suggested[table.label_issue] != table.label[table.label_issue]).all()
    assert table.suggested[~table.label_issue].isna().all()
    assert table.duplicate[600:].all()
    assert (table.copies_of[600:] == np.arange(20)).all()
    assert not table.duplicate[:20].any()


def test_columns_of_cleanlab_and_fields_of_fiftyone(found):
    issues = found.to_cleanlab()
    assert set(issues) == {
        "outlier_score", "is_outlier_issue", "label_score", "is_label_issue", "near_duplicate_score",
        "is_near_duplicate_issue",
    }  # fmt: skip
    assert all(len(each) == len(found) for each in issues.values())
    assert np.nanmean(issues["label_score"][issues["is_label_issue"]]) < 0.5 < np.nanmean(issues["label_score"])
    assert issues["is_near_duplicate_issue"][:20].all()
    assert (issues["near_duplicate_score"][600:] < 1e-5).all()
    fields = found.to_fiftyone()
    assert fields["mistakenness"][0] == pytest.approx(float(found.label_scores[0]))
    assert fields["copies_of"][600] == 0
    assert all(len(each) == len(found) and isinstance(each, list) for each in fields.values())
    bare = ps.scan(midpoints(seed=3)[0], 5, threads=1)
    assert "label_score" not in bare.to_cleanlab()
    assert "mistakenness" not in bare.to_fiftyone()
