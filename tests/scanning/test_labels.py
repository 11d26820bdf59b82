"""Label errors: planted ones are found, and the closed form is a fit without the row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

import pairsift as ps
from pairsift.cli.app import app
from pairsift.scanning.labels import LabelModel, LabelScores, is_issue


@pytest.fixture(scope="module")
def wrong_digits():
    """Pixels of digits, labels of which a tenth are wrong, which are, and the true ones."""
    x, y = load_digits(return_X_y=True)
    rng = np.random.default_rng(0)
    wrong = np.zeros(len(y), bool)
    wrong[rng.choice(len(y), len(y) // 10, replace=False)] = True
    given = np.where(wrong, (y + rng.integers(1, 10, len(y))) % 10, y)
    return (x / 16).astype(np.float32), given, wrong, y


@pytest.fixture(scope="module")
def found(wrong_digits):
    x, given, _, _ = wrong_digits
    return ps.scan(x, n_classes=10, labels=given, threads=1)


def test_planted_label_errors_are_found_and_mended(found, wrong_digits):
    _, given, wrong, true = wrong_digits
    assert roc_auc_score(wrong, found.label_scores) > 0.995
    issues = found.label_issues.to_pandas()
    assert wrong[issues.position].mean() > 0.9
    assert (issues.suggested[wrong[issues.position]] == true[issues.position][wrong[issues.position]]).mean() > 0.95
    assert (issues.score.diff().dropna() <= 0).all()
    assert (given[issues.nearest_other] != issues.label).all()


def test_rows_without_a_label_vote_for_nothing_and_have_no_score(wrong_digits):
    x, given, wrong, _ = wrong_digits
    partial = np.where(np.random.default_rng(1).random(len(given)) < 0.8, -1, given)
    scores = ps.scan(x, n_classes=10, labels=partial, threads=1).label_scores
    assert np.isnan(scores[partial < 0]).all()
    assert roc_auc_score(wrong[partial >= 0], scores[partial >= 0]) > 0.97


def test_the_closed_form_is_the_fit_without_the_row(wrong_digits):
    x, y = wrong_digits[0][:120, 20:30], wrong_digits[1][:120] % 3
    model = LabelModel(x, y, 0)
    everything = model._predicted(model._standardised(x) @ model._axes, model._inverse, model.codes(y))
    targets, rows = np.eye(3)[y], model._standardised(x)
    penalty = 1 / model._inverse - model._values
    for left in (0, 7, 50):
        kept = np.delete(np.arange(len(x)), left)
        # The mean is an unpenalised column of ones; whatever else is standardised by all rows.
        a = np.hstack([rows, np.ones((len(x), 1))])
        gram = a[kept].T @ a[kept] + len(x) * np.diag([*np.repeat(penalty[0], x.shape[1]), 0])
        weights = np.linalg.solve(gram, a[kept].T @ targets[kept])
        np.testing.assert_allclose(everything[left], a[left] @ weights, atol=1e-8)


def test_classes_of_two_rows_have_no_score_and_one_class_is_refused(wrong_digits):
    x, y = wrong_digits[0][:200], wrong_digits[1][:200].copy()
    y[[3, 4]] = 77
    scores = ps.scan(x, n_classes=10, labels=y, threads=1).label_scores
    assert np.isnan(scores[[3, 4]]).all()
    assert np.isfinite(np.delete(scores, [3, 4])).all()
    with pytest.raises(ValueError, match="two classes with 3 labelled rows each, got 1"):
        LabelModel(x, np.zeros(200, np.int64), 0)
    said = []
    alone = ps.scan(x, n_classes=10, labels=np.zeros(200, np.int64), threads=1, say=said.append)
    assert alone.label_issues is None
    assert any("label errors are not sought" in line for line in said)


def test_a_class_is_suggested_only_as_surely_as_its_own_rows_know_it():
    labels = np.array([0, 0, 1, 1])
    given, probability = np.array([0.9, 0.2, 0.8, 0.1]), np.array([0.1, 0.45, 0.1, 0.6])
    nothing = np.zeros(4)
    scores = LabelScores(probability / (given + probability), given, 1 - labels, probability, nothing, nothing, nothing)
    # Rows of class 1 find it 0.45 probable in the mean, rows of class 0 find that 0.55.
    assert is_issue(labels, scores).tolist() == [False, True, False, True]


def test_rows_in_the_set_do_not_depend_on_the_reference(wrong_digits):
    x, given, wrong, _ = wrong_digits
    part = ps.scan(x, n_classes=10, labels=given, threads=1, reference=1000)
    assert roc_auc_score(wrong, part.label_scores) > 0.99


def test_the_file_has_ids_and_classes_and_is_loaded_again(tmp_path: Path, wrong_digits):
    x, given, _wrong, _ = wrong_digits
    names = np.array([f"digit {each}" for each in range(10)])
    frame = pd.DataFrame({"id": [f"r{i}" for i in range(len(x))], "label": names[given], "embedding": list(x)})
    frame.to_parquet(tmp_path / "f.parquet")
    done = CliRunner().invoke(
        app, ["scan", str(tmp_path / "f.parquet"), "-o", str(tmp_path / "o"), "--n-classes", "10", "--threads", "1"]
    )
    assert done.exit_code == 0, done.output
    assert "labels are probably wrong" in done.output
    assert "rather digit" in done.output
    table = pq.read_table(tmp_path / "o" / "label_issues.parquet").to_pandas()
    assert (table.id == "r" + table.row.astype(str)).all()
    assert (table["class"] == names[given[table.row]]).all()
    assert (table.suggested_class == names[table.suggested]).all()
    assert (table.nearest_other_id == "r" + table.nearest_other.astype(str)).all()
    again = ps.Scan.load(tmp_path / "o")
    assert again.issue_table().to_pandas().equals(table)
    assert "Probably wrong labels" in (tmp_path / "o" / "report.html").read_text()


def test_a_scan_without_labels_has_no_issues_and_removes_those_of_an_earlier_one(tmp_path: Path, found, wrong_digits):
    found.save(tmp_path)
    assert (tmp_path / "label_issues.parquet").exists()
    bare = ps.scan(wrong_digits[0], n_classes=10, threads=1)
    bare.save(tmp_path)
    assert bare.label_issues is None
    assert not (tmp_path / "label_issues.parquet").exists()
    with pytest.raises(ValueError, match="no labels"):
        bare.issue_table()


def test_a_scan_with_other_labels_does_not_continue(tmp_path: Path, wrong_digits, monkeypatch):
    x, given, _, _ = wrong_digits
    from pairsift.scanning import scanning

    monkeypatch.setattr(scanning.shutil, "rmtree", lambda *_, **__: None)
    ps.scan(x, n_classes=10, labels=given, threads=1, output=tmp_path / "o")
    with pytest.raises(ps.scanning.ScanError, match="another labels"):
        ps.scan(x, n_classes=10, labels=(given + 1) % 10, threads=1, output=tmp_path / "o")
