"""Duplicates and leaks: planted copies are found, groups have one row to keep, and copies do not change scores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_digits

import pairsift as ps
from pairsift.scanning import ScanError
from pairsift.scanning.duplicates import Links, duplicate_table, keepers

COPIES = 80


@pytest.fixture(scope="module")
def digits():
    return (load_digits(return_X_y=True)[0] / 16).astype(np.float32)


@pytest.fixture(scope="module")
def planted(digits):
    """Digits followed by 80 near copies and the exact copies of 10 of their originals; rows that were copied."""
    rng = np.random.default_rng(0)
    rows = rng.choice(len(digits), COPIES, replace=False)
    near = digits[rows] + 0.02 * rng.standard_normal((COPIES, digits.shape[1])).astype(np.float32)
    return np.concatenate([digits, near, digits[rows[:10]]]), rows


@pytest.fixture(scope="module")
def found(planted):
    return ps.scan(planted[0], 10, threads=1)


def _keeper(found, n):
    keeper = np.arange(n)
    table = found.duplicates.to_pandas()
    keeper[table.position] = table.keeper
    return keeper


@pytest.mark.parametrize("reference", [50_000, 1000])
def test_planted_copies_are_found_and_hardly_anything_else(planted, reference, found):
    features, rows = planted
    n = len(features) - COPIES - 10
    result = found if reference == 50_000 else ps.scan(features, 10, threads=1, reference=reference)
    keeper = _keeper(result, len(features))
    assert (keeper[n : n + COPIES] == keeper[rows]).mean() >= 0.95
    assert (keeper[n + COPIES :] == keeper[rows[:10]]).all()
    strange = np.setdiff1d(result.duplicates["position"], np.concatenate([rows, np.arange(n, len(features))]))
    assert len(strange) <= 0.02 * n


def test_rows_of_one_topic_are_no_copies():
    """In many dimensions all rows are about equally far apart, so a robust limit alone is too large."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((1000, 100)).astype(np.float32)
    steps = rng.standard_normal((100, 100)).astype(np.float32)
    typical = np.linalg.norm(rows[:100] - rows[100:200], axis=1).mean() / np.linalg.norm(steps, axis=1)[:, None]
    size = np.repeat([0.15, 0.7], 50)[:, None]
    found = ps.scan(np.concatenate([rows, rows[:100] + size * typical * steps]), 10, threads=1)
    keeper = _keeper(found, 1100)
    assert (keeper[1000:1050] == np.arange(50)).mean() >= 0.95
    assert (keeper[1050:] == np.arange(1050, 1100)).all()


def test_every_group_has_one_row_to_keep_and_all_members_are_like_it(planted, found):
    table = found.duplicates.to_pandas()
    assert (table.groupby("group").keep.sum() == 1).all()
    assert (table.groupby("group").size() >= 2).all()
    assert table.groupby("group").size().is_monotonic_decreasing
    assert (table.keeper[table.keep] == table.position[table.keep]).all()
    centred = planted[0] - planted[0].mean(axis=0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    cosine = np.einsum("pd,pd->p", unit[table.position], unit[table.keeper])
    np.testing.assert_allclose(table.similarity, cosine, atol=1e-4)


def test_copies_do_not_make_their_originals_less_isolated(digits):
    alone = ps.scan(digits, 10, threads=1)
    hard = np.argsort(-alone.scores)[:20]
    copied = np.concatenate([digits, *[digits[hard] + shift for shift in np.linspace(1e-4, 1e-3, 12)]])
    again = ps.scan(copied.astype(np.float32), 10, threads=1)
    isolation = ps.scanning.INDICATORS.index("isolation")
    assert (again.indicators[hard, isolation] > 0.8 * alone.indicators[hard, isolation]).all()
    # A copy is as isolated as its original.
    np.testing.assert_allclose(
        again.indicators[len(digits) :, isolation].reshape(12, 20),
        np.tile(again.indicators[hard, isolation], (12, 1)),
        rtol=0.1,
    )


def test_near_copies_do_not_grow_into_chains_and_exact_ones_are_one_row():
    near = np.float32(0.99)
    links = Links(np.array([0, 1, 2, 5, 6]), np.array([1, 2, 3, 6, 7]), np.array([near, near, near, 1, 1], np.float32))
    keeper, cosine = keepers(links, 8)
    assert keeper.tolist() == [1, 1, 1, 3, 4, 5, 5, 5]
    assert cosine.tolist() == [near, 1, near, 1, 1, 1, 1, 1]
    table = duplicate_table(keeper, cosine).to_pandas()
    assert table.position.tolist() == [1, 0, 2, 5, 6, 7]
    assert table.group.tolist() == [0, 0, 0, 1, 1, 1]
    nothing = keepers(Links(*(np.zeros(0, kind) for kind in (np.int64, np.int64, np.float32))), 3)
    assert nothing[0].tolist() == [0, 1, 2]
    assert len(duplicate_table(*nothing)) == 0


@pytest.mark.parametrize("reference", [50_000, 1000])
def test_rows_of_another_set_with_a_copy_here_are_leaks(tmp_path: Path, digits, planted, reference):
    features, rows = planted
    fresh = np.random.default_rng(1).random((50, digits.shape[1])).astype(np.float32)
    np.save(tmp_path / "test.npy", np.concatenate([features[len(digits) :][:COPIES], fresh]))
    leaks = ps.scan(digits, 10, threads=1, against=tmp_path / "test.npy", reference=reference).leaks.to_pandas()
    assert leaks.against_row.max() < COPIES
    assert len(leaks) >= 0.95 * COPIES
    assert (leaks.row == rows[leaks.against_row]).mean() > 0.95


def test_copies_across_splits_are_leaks_and_files_carry_kept_columns(tmp_path: Path, digits, planted):
    features, rows = planted
    n = len(digits)
    frame = pd.DataFrame({"id": [f"r{i}" for i in range(len(features))], "embedding": list(features)})
    frame["part"] = np.where(frame.index < n, "train", "test")
    frame["text"] = "text of " + frame.id
    frame.to_parquet(tmp_path / "f.parquet")
    found = ps.scan(
        tmp_path / "f.parquet", n_classes=10, threads=1, split_column="part", keep="text", output=tmp_path / "o"
    )
    leaks = found.leaks.to_pandas()
    assert set(leaks.split) == {"train", "test"}
    assert (leaks.groupby("group").split.nunique() == 2).all()
    assert np.isin(leaks.id[leaks.split == "test"], frame.id[n:]).all()
    assert len(np.intersect1d(leaks.row, rows)) >= 0.95 * COPIES
    copies = pd.read_parquet(tmp_path / "o" / "duplicates.parquet")
    assert (copies.text == "text of " + copies.id).all()
    assert (copies.id == "r" + copies.row.astype(str)).all()
    again = ps.Scan.load(tmp_path / "o")
    assert again.duplicates.equals(found.duplicates)
    assert again.leaks.equals(found.leaks)
    assert again.known.column("text").to_pylist() == frame.text.tolist()


def test_bad_settings_of_copies_are_refused(tmp_path: Path, digits):
    frame = pd.DataFrame({"embedding": list(digits[:60]), "one": "a", "score": "b"})
    frame.to_parquet(tmp_path / "f.parquet")
    np.save(tmp_path / "narrow.npy", digits[:60, :5])
    for settings, words in (
        ({"split_column": "one"}, "one value only"), ({"split_column": "none"}, "no column 'none'"),
        ({"keep": "score"}, "a column of the outputs already"), ({"keep": ("missing",)}, "no column 'missing'"),
        ({"against": tmp_path / "narrow.npy"}, "5 dimensions"),
        ({"against": tmp_path / "narrow.npy", "split_column": "one"}, "give one of them|5 dimensions"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=words):
            ps.scan(tmp_path / "f.parquet", n_classes=2, threads=1, **settings)
    with pytest.raises(ScanError, match="names a column of a table"):
        ps.scan(digits[:60], 2, keep="text")


def test_the_page_shows_copies_ids_and_kept_columns_and_its_entries_can_be_filtered(tmp_path: Path, planted):
    features, _ = planted
    frame = pd.DataFrame({"id": [f"r{i}" for i in range(len(features))], "embedding": list(features)})
    frame["text"] = "<b>" + frame.id + "</b> " + "word " * 60
    frame.to_parquet(tmp_path / "f.parquet")
    found = ps.scan(tmp_path / "f.parquet", n_classes=10, threads=1, keep="text")
    found.report(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert f"{int((~found.duplicates['keep'].to_numpy()).sum()):,} rows are exact or near copies" in page
    first = found.duplicates["position"][0].as_py()
    assert f"keep {first}<br>row {first} (r{first})<q>&lt;b&gt;r{first}&lt;/b&gt; word word" in page
    assert "word " * 40 not in page  # long texts are cut
    hardest = int(np.nanargmax(found.scores))
    assert f'data-kind="difficult" data-rows="{hardest}" data-clusters="{found.clusters[hardest]}"' in page
    assert f'"{hardest}":"r{hardest}"' in page  # what the export writes
