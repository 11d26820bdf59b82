import errno
import json
import os
import signal
import socket
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import warm
from mixtures import midpoints
from sklearn.datasets import load_digits

import pairsift as ps
from pairsift.data import DataError
from pairsift.evaluate import detection
from pairsift.same_class import AffinityError
from pairsift.scanning import (
    ScanConfig,
    ScanError,
    bridges,
    config,
    estimate_classes,
    estimates,
    plan,
    reference,
    scanning,
    work,
)

FILES = ("scores.parquet", "pairs.parquet", "duplicates.parquet", "drop.csv", "scan.json")


@pytest.fixture(scope="module")
def mixture():
    return midpoints(seed=3)  # no row of which passes for a copy


@pytest.fixture(scope="module")
def scanned(mixture):
    return ps.scan(mixture[0], 5)


def write(file, features, **columns):
    flat = pa.array(np.ascontiguousarray(features).ravel())
    table = pa.table({"features": pa.FixedSizeListArray.from_arrays(flat, features.shape[1]), **columns})
    pq.write_table(table, file, row_group_size=150)
    return file


def shards(folder, features):
    folder.mkdir()
    for i, part in enumerate(np.array_split(features, 3)):
        write(folder / f"{i}.parquet", part)
    return folder


def contents(folder):
    return {name: (folder / name).read_bytes() for name in FILES}


def test_planted_midpoints_are_found_whatever_the_number_of_clusters(mixture, scanned):
    features, _, planted = mixture
    assert detection(scanned.scores, planted).auroc > 0.93
    assert detection(scanned.scores, planted).average_precision > 0.8
    assert detection(ps.scan(features).scores, planted).auroc > 0.93
    assert detection(ps.scan(features, 20).scores, planted).auroc > 0.9


def test_the_score_does_not_depend_on_labels_scale_or_threads(mixture, scanned):
    features, labels, _ = mixture
    np.testing.assert_array_equal(ps.scan(features, 5, labels=labels, threads=1).scores, scanned.scores)
    for factor in (1e-15, 1e15):
        np.testing.assert_allclose(ps.scan(features * np.float32(factor), 5).scores, scanned.scores, atol=1e-3)


def test_sources_of_all_kinds_give_the_same_scores(tmp_path, mixture, scanned):
    features = mixture[0]
    np.save(tmp_path / "f.npy", features)
    np.savez(tmp_path / "f.npz", features=features)
    write(tmp_path / "f.parquet", features)
    pq.write_table(pa.table({f"d{i}": column for i, column in enumerate(features.T)}), tmp_path / "wide.parquet")
    names = ("f.npy", "f.npz", "f.parquet", "wide.parquet")
    for source in [*(tmp_path / name for name in names), shards(tmp_path / "shards", features)]:
        np.testing.assert_allclose(ps.scan(source, 5).scores, scanned.scores, atol=1e-5)


def test_pairs_bridge_clusters_most_probable_first_and_each_once(mixture, scanned):
    pairs = scanned.pairs.to_pandas()
    clusters = scanned.clusters
    assert (pairs.anchor < pairs.other).all()
    assert not pairs.duplicated(["anchor", "other"]).any()
    assert pairs.probability.between(0, 1).all()
    assert (np.diff(pairs.probability) > 0).sum() <= 1  # behind those in front, see below
    np.testing.assert_array_equal(pairs.anchor_cluster, clusters[pairs.anchor])
    np.testing.assert_array_equal(pairs.other_cluster, clusters[pairs.other])
    assert (pairs.anchor_cluster != pairs.other_cluster).all()
    similarity = _cosines(mixture[0])
    np.testing.assert_allclose(pairs.similarity, similarity[pairs.anchor, pairs.other], atol=1e-5)
    rank = np.minimum(
        *((similarity[a] > pairs.similarity.to_numpy()[:, None] + 1e-5).sum(axis=1) for a in _ends(pairs))
    )
    # Both are among the ten nearest of the other; the row itself is counted, too.
    assert rank.max() <= 10
    few = ps.scan(mixture[0], 5, max_pairs=7).pairs.to_pandas()
    np.testing.assert_array_equal(few.probability, np.sort(pairs.probability)[::-1][:7])


def test_no_row_has_more_than_three_of_the_first_hundred_pairs(mixture):
    pairs = ps.scan(mixture[0], 5, within=60).pairs.to_pandas()
    front = np.concatenate([pairs.anchor[:100], pairs.other[:100]])
    assert np.bincount(front).max() == 3
    strongest = pairs.sort_values("probability", ascending=False, kind="stable")[:100]
    assert np.bincount(np.concatenate([strongest.anchor, strongest.other])).max() > 3


def test_a_pair_is_mutually_within_so_many_nearest(mixture):
    similarity = _cosines(mixture[0])
    np.fill_diagonal(similarity, -np.inf)
    near = np.argsort(-similarity, axis=1)
    for within in (1, 5, 60):
        pairs = ps.scan(mixture[0], 5, within=within).pairs.to_pandas()
        for anchor, other in pairs[["anchor", "other"]].to_numpy()[:50]:
            assert other in near[anchor, :within]
            assert anchor in near[other, :within]
    with pytest.raises(ScanError, match="within"):
        ps.scan(mixture[0], 5, within=61)


def test_the_first_pairs_are_of_different_classes_and_more_so_than_the_most_similar():
    features, labels = load_digits(return_X_y=True)
    pairs = ps.scan(features.astype(np.float32), max_pairs=1_000_000, within=60).pairs.to_pandas()
    different = labels[pairs.anchor] != labels[pairs.other]
    similar = different[np.argsort(-pairs.similarity.to_numpy())]
    assert different[:200].mean() > 0.9
    assert similar[:200].mean() < 0.1


def test_where_no_affinity_can_be_fitted_the_most_similar_pairs_come_first(mixture, scanned, monkeypatch, tmp_path):
    said = []
    few = ps.scan(midpoints(45)[0], 5, say=said.append)
    assert "sorted by similarity" in said[-1]
    assert "at least 50 rows" in said[-1]
    assert np.isnan(few.pairs.column("probability").to_numpy()).all()

    def refuse(*_):
        raise AffinityError("refused")

    monkeypatch.setattr(scanning, "PairModel", refuse)
    found = ps.scan(mixture[0], 5, within=60, output=tmp_path / "out")
    np.testing.assert_array_equal(found.scores, scanned.scores)
    pairs = found.pairs.to_pandas()
    assert pairs.probability.isna().all()
    # The strongest of all: any pair across clusters that the list leaves out is weaker than its tenth.
    similarity = np.where(found.clusters[:, None] != found.clusters, _cosines(mixture[0]), -1)
    expected = np.sort(similarity[np.triu_indices(len(similarity), 1)])[::-1][:10]
    np.testing.assert_allclose(pairs.similarity[:10], expected, atol=1e-5)
    # As was saved before there was a column of probabilities.
    file = tmp_path / "out" / "pairs.parquet"
    pq.write_table(pq.read_table(file).drop_columns("probability"), file)
    again = ps.Scan.load(tmp_path / "out")
    assert again.pairs.schema == found.pairs.schema
    assert np.isnan(again.pairs.column("probability").to_numpy()).all()


def _cosines(features):
    unit = features - features.mean(axis=0)
    unit = unit / np.linalg.norm(unit, axis=1, keepdims=True)
    return unit @ unit.T


def _ends(pairs):
    return pairs.anchor.to_numpy(), pairs.other.to_numpy()


@pytest.fixture
def guide(tmp_path, mixture):
    """Features that know more of the classes than those that are scanned."""
    knows = np.eye(5, 6, dtype=np.float32)[mixture[1]]
    np.save(tmp_path / "guide.npy", knows + np.random.default_rng(1).normal(0, 0.3, knows.shape).astype(np.float32))
    return tmp_path / "guide.npy"


def test_a_guide_decides_the_order_of_pairs_and_nothing_else(mixture, scanned, guide, tmp_path):
    features, labels, _ = mixture
    found = ps.scan(features, 5, guide_features=guide, within=60, output=tmp_path / "out")
    np.testing.assert_array_equal(found.scores, scanned.scores)
    shares = []
    for each in (ps.scan(features, 5, within=60), found):
        anchors, others = _ends(each.pairs.to_pandas()[:100])
        shares.append((labels[anchors] != labels[others]).mean())
    assert shares[1] > max(0.97, shares[0])
    assert found.settings["guide"][0] == str(guide)
    assert scanned.settings["guide"] is None


def test_a_guide_of_other_rows_is_refused_before_the_scan(mixture, guide, tmp_path, monkeypatch):
    features, values = mixture[0], np.load(guide)
    monkeypatch.setattr(scanning, "fit", lambda *_: pytest.fail("the scan began"))
    np.save(guide, values[1:])
    with pytest.raises(ScanError, match=r"guide .*guide.npy has 599 rows, features has 600"):
        ps.scan(features, 5, guide_features=guide)
    with pytest.raises(DataError, match="no features at"):
        ps.scan(features, 5, guide_features=tmp_path / "missing.npy")
    values[3] = np.nan
    np.save(guide, values)
    with pytest.raises(DataError, match=r"guide .* row 3 is not finite in float32"):
        ps.scan(features, 5, guide_features=guide)
    np.save(guide, np.ones_like(values))
    with pytest.raises(ScanError, match="all rows are equal"):
        ps.scan(features, 5, guide_features=guide)
    numbered = write(tmp_path / "f.parquet", features, row=np.arange(600) * 2)
    other = write(tmp_path / "g.parquet", features, row=np.arange(600) * 2 + (np.arange(600) > 9))
    with pytest.raises(ScanError, match=r"holds row 21 where .* holds row 20: give features of the same rows"):
        ps.scan(numbered, 5, guide_features=other)


def test_rows_that_are_skipped_may_be_anything_in_the_guide(mixture, guide):
    features, values = mixture[0].copy(), np.load(guide)
    features[7] = values[7] = np.nan
    np.save(guide, values)
    pairs = ps.scan(features, 5, guide_features=guide, skip_bad=True).pairs.to_pandas()
    assert pairs.probability.between(0, 1).all()
    assert not (pairs[["anchor", "other"]] == 7).any(axis=None)


def test_another_guide_is_another_scan(mixture, guide, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(scanning, "merge", stop)
    with pytest.raises(KeyboardInterrupt):
        ps.scan(mixture[0], 5, guide_features=guide, output=tmp_path / "out")
    monkeypatch.undo()
    with pytest.raises(ScanError, match="another guide"):
        ps.scan(mixture[0], 5, output=tmp_path / "out")
    np.save(guide, np.load(guide) + 1)
    with pytest.raises(ScanError, match="another guide"):
        ps.scan(mixture[0], 5, guide_features=guide, output=tmp_path / "out")


@pytest.mark.parametrize("guided", [False, True])
def test_rows_that_no_affinity_was_fitted_on_borrow_from_their_nearest(monkeypatch, mixture, scanned, guide, guided):
    """Of 600 rows 400 are the reference, and the affinity knows 300."""
    for module in (config, plan):
        monkeypatch.setattr(module, "FEWEST_REFERENCE", 100)
    monkeypatch.setattr(bridges, "FITTED", 300)
    features, labels, _ = mixture
    settings = {"guide_features": guide if guided else None, "within": 60}
    pairs = ps.scan(features, 5, reference=400, **settings).pairs.to_pandas()
    anchors, others = _ends(pairs)
    different = labels[anchors] != labels[others]
    assert (different[:300].mean() > different.mean()) == (different.mean() < 1)
    whole = ps.scan(features, 5, **settings).pairs.to_pandas()
    both = pairs.merge(whole, on=["anchor", "other"])
    assert len(both) > 200
    assert np.corrcoef(both.probability_x, both.probability_y)[0, 1] > 0.6


def test_levels_are_those_of_the_theory(mixture, scanned):
    features, labels, _ = mixture
    band = ps.RankBand(0.2, 0.4)
    direct = ps.theory.measure_levels(features, band=band, n_classes=5)
    for name in ("alpha", "beta", "gamma"):
        assert getattr(scanned.levels, name).mean == pytest.approx(getattr(direct, name).mean, abs=1e-6)
    assert scanned.levels_error == (0, 0, 0)  # every row was measured
    assert scanned.histogram.counts.sum(axis=1).tolist() == [
        getattr(direct, name).pairs for name in ("alpha", "gamma", "beta")
    ]
    assert scanned.labelled_levels is None
    labelled = ps.scan(features, 5, labels=labels).labelled_levels
    assert labelled.gamma.mean == pytest.approx(ps.theory.measure_levels(features, labels).gamma.mean, abs=1e-6)


def test_a_sample_states_the_error_of_its_levels(monkeypatch, mixture, scanned):
    monkeypatch.setattr(estimates, "_LEVEL_ROWS", 300)
    sampled = ps.scan(mixture[0], 5)
    errors = np.array(sampled.levels_error)
    assert (errors > 0).all()
    means = [[getattr(each.levels, name).mean for name in ("alpha", "beta", "gamma")] for each in (sampled, scanned)]
    assert (np.abs(np.subtract(*means)) < 6 * errors).all()


def test_drop_takes_the_most_difficult(scanned):
    order = np.argsort(-scanned.scores)
    np.testing.assert_array_equal(scanned.drop(0.1), order[:60])
    np.testing.assert_array_equal(np.sort(scanned.drop(threshold=0.9)), np.flatnonzero(scanned.scores >= 0.9))
    assert len(scanned.drop(0)) == 0
    for arguments in ({}, {"fraction": 0.1, "threshold": 0.5}, {"fraction": 1}, {"threshold": 2}):
        with pytest.raises(ValueError, match=r"fraction|threshold"):
            scanned.drop(**arguments)


def test_saved_and_loaded_is_the_same(tmp_path, mixture):
    features, labels, _ = mixture
    rows = np.random.default_rng(0).permutation(5000)[:600]
    file = write(tmp_path / "f.parquet", features, label=labels, row=rows, path=[f"p{row}" for row in rows])
    found = ps.scan(file, output=tmp_path / "out")
    again = ps.Scan.load(tmp_path / "out")
    for name in ("scores", "clusters", "indicators", "plane", "rows", "labels", "bridges", "neighbours"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    for name in ("pairs", "levels", "levels_error", "advice", "classes", "n_classes", "paths"):
        assert getattr(again, name) == getattr(found, name)
    assert again.labelled_levels.gamma == found.labelled_levels.gamma
    np.testing.assert_array_equal(again.histogram.counts, found.histogram.counts)
    header, first, *rest = (tmp_path / "out" / "drop.csv").read_text().splitlines()
    assert header == "row,path,label,score"
    top = int(np.argmax(found.scores))
    assert first == f"{rows[top]},p{rows[top]},{labels[top]},{found.scores[top]:.6f}"
    assert len(rest) == 47
    saved = pq.read_table(tmp_path / "out" / "pairs.parquet").column("anchor").to_numpy()
    np.testing.assert_array_equal(saved, rows[found.pairs.column("anchor").to_numpy()])
    again.save(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(tmp_path / "out")
    (tmp_path / "out" / "scores.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="does not hold a finished scan"):
        ps.Scan.load(tmp_path / "out")


def test_nearest_rows_are_those_of_a_search_without_copies(mixture):
    features = np.concatenate([mixture[0], mixture[0][:1]])  # the last row is a copy of the first
    found = ps.scan(features, 5)
    unit = found.reference.unit(features)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -2)
    cosines[:, -1] = cosines[-1, 0] = -2  # only a row to keep is a neighbour, and not of its copy
    np.testing.assert_array_equal(found.neighbours, np.argsort(-cosines, axis=1)[:, :4])


def test_same_seed_same_bytes_whatever_the_threads(tmp_path, monkeypatch, mixture):
    monkeypatch.setattr(work, "PART_ROWS", 64)
    for name, threads in (("a", 1), ("b", 3)):
        ps.scan(mixture[0], 5, output=tmp_path / name, threads=threads)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert "probability" in pq.read_schema(tmp_path / "a" / "pairs.parquet").names
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(FILES)
    other = ps.scan(mixture[0], 5, seed=1)
    assert not np.array_equal(other.scores, ps.scan(mixture[0], 5).scores)


@pytest.mark.slow
def test_a_scan_killed_in_the_middle_continues_to_the_same_bytes(tmp_path):
    np.save(tmp_path / "f.npy", midpoints(10_000)[0])
    code = (
        "import sys, pairsift as ps; from pairsift.scanning import work; work.PART_ROWS = 500;"
        "ps.scan(sys.argv[1], 5, output=sys.argv[2], threads=1, say=lambda line: print(line, flush=True))"
    )
    command = ["-c", code, tmp_path / "f.npy"]
    process = warm.Program(*command, tmp_path / "killed")
    parts = tmp_path / "killed" / "parts"
    while process.returncode is None and len(list(parts.glob("scores-*.parquet"))) < 3:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = len(list(parts.glob("scores-*.parquet")))
    assert 3 <= done < 20
    continued = warm.run(*command, tmp_path / "killed")
    assert continued.returncode == 0
    assert "continuing" in continued.stdout
    assert warm.run(*command, tmp_path / "whole").returncode == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert not parts.exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Ray's own
def test_ray_gives_the_same_bytes_as_this_machine(tmp_path, mixture):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'pairsift[distributed]'")
    folder = shards(tmp_path / "shards", mixture[0])
    ps.scan(folder, 5, output=tmp_path / "local")
    ps.scan(folder, 5, output=tmp_path / "ray", engine="ray")
    assert contents(tmp_path / "local") == contents(tmp_path / "ray")


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_told_in_seconds(tmp_path, mixture):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'pairsift[distributed]'")
    folder = shards(tmp_path / "shards", mixture[0])
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        with pytest.raises(ScanError, match=f"there is no Ray cluster at '{address}': start one"):
            ps.scan(folder, 5, engine="ray", address=address)


def test_a_cluster_that_lets_nobody_in_is_told(tmp_path, mixture, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'pairsift[distributed]'")

    def init(**_):
        raise ConnectionError("Failed to connect")

    monkeypatch.setattr(ray, "init", init)
    folder = shards(tmp_path / "shards", mixture[0])
    with socket.socket() as cluster:
        cluster.bind(("127.0.0.1", 0))
        cluster.listen()
        place = f"127.0.0.1:{cluster.getsockname()[1]}"
        with pytest.raises(ScanError, match=r"did not let this process in \(Failed to connect\).*RAY_AUTH_MODE=token"):
            ps.scan(folder, 5, engine="ray", address=place)


def test_a_graph_of_the_users_own(mixture, scanned):
    features = mixture[0]
    unit = features - features.mean(axis=0)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    similarity = unit @ unit.T
    np.fill_diagonal(similarity, -np.inf)
    near = np.argsort(-similarity, axis=1, kind="stable")[:, : reference.NEIGHBOURS]
    graph = (near, np.take_along_axis(similarity, near, axis=1))
    np.testing.assert_allclose(ps.scan(features, 5, graph=graph).scores, scanned.scores, atol=1e-4)
    with pytest.raises(ScanError, match="a graph for 600 rows"):
        ps.scan(features, 5, graph=(near[:5], near[:5]))
    with pytest.raises(ScanError, match=r"positions 0 \.\.\. 599"):
        ps.scan(features, 5, graph=(near + 1, graph[1]))


def test_large_sets_are_learned_from_a_sample_by_an_inverted_file(monkeypatch, mixture):
    for module in (config, plan):
        monkeypatch.setattr(module, "FEWEST_REFERENCE", 100)
    exact = ps.scan(mixture[0], 5, reference=400)
    monkeypatch.setattr(scanning, "EXACT_ROWS", 500)
    said = []
    found = ps.scan(mixture[0], 5, reference=400, say=said.append)
    assert "learned from 400 of 600 rows; recall" in said[0]
    assert (exact.settings["search"], found.settings["search"]) == ("exact", "inverted")
    assert np.corrcoef(found.scores, exact.scores)[0, 1] > 0.95
    assert detection(found.scores, mixture[2]).auroc > 0.9


def test_rows_that_are_not_finite_are_named_or_skipped(mixture, tmp_path):
    features = mixture[0].copy()
    features[7], features[300] = np.nan, np.inf
    features[301] = 3e20
    with pytest.raises(DataError, match=r"row 7 is not finite in float32.*\(3 of 600 rows: 7, 300, 301\)"):
        ps.scan(features, 5)
    assert not (tmp_path / "out").exists()
    found = ps.scan(features, 5, skip_bad=True, output=tmp_path / "out")
    assert np.flatnonzero(np.isnan(found.scores)).tolist() == [7, 300, 301]
    assert np.flatnonzero(found.clusters < 0).tolist() == [7, 300, 301]
    assert not {7, 300, 301} & set(found.drop(0.99).tolist())
    kept = np.delete(np.arange(600), [7, 300, 301])
    np.testing.assert_allclose(found.scores[kept], ps.scan(features[kept], 5).scores, atol=1e-5)
    np.testing.assert_array_equal(ps.Scan.load(tmp_path / "out").scores, found.scores)


def test_zero_rows_and_duplicates_are_scored(mixture):
    features = mixture[0].copy()
    features[10:20] = 0
    features[100:300] = features[100]
    found = ps.scan(features, 5)
    assert "10 rows are all zero: failed embeddings?" in found.notes
    assert found.settings["zero_rows"] == 10
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    np.testing.assert_allclose(found.scores[100:300], found.scores[100], atol=1e-5)


def test_one_cluster_only_is_scored_and_said():
    features = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
    found = ps.scan(features)
    assert np.isfinite(found.scores).all()
    assert max(found.classes.whitened) < 0.25


def test_memory_that_the_process_holds_already_is_not_the_scans(mixture):
    ballast = np.ones(200_000_000, np.float32)
    assert psutil.Process().memory_info().rss > 0.8e9
    assert len(ps.scan(mixture[0], n_classes=3, memory_gb=0.4, threads=1).scores) == len(mixture[0])
    del ballast


@pytest.mark.parametrize(
    ("features", "arguments", "message"),
    [
        (np.zeros((0, 4), np.float32), {}, "non-empty"),
        (np.ones((9, 4), np.float32), {}, "has 9 rows"),
        (np.ones((50, 4), np.float32), {}, "all rows are equal"),
        (np.zeros((50, 4), np.float32), {}, "all rows are equal"),
        (np.arange(50.0), {}, "must be a non-empty"),
        (np.ones((50, 4), int), {}, "floating point, got int64"),
        (None, {"n_classes": 1}, "n_classes must lie in 2 ... 150"),
        (None, {"n_classes": 151}, "n_classes must lie in 2 ... 150"),
        (None, {"labels": np.zeros(5)}, r"600 features but labels of shape \(5,\)"),
        (None, {"memory_gb": 0.01}, "needs at least .* GB, memory_gb allows 0.01"),
        (None, {"memory_gb": -1}, "memory_gb must be positive"),
        (None, {"reference": 10}, "reference must be at least 1,000"),
        (None, {"drop_fraction": 1.5}, "must lie in"),
        (None, {"engine": "spark"}, "'local' or 'ray'"),
        (None, {"engine": "ray"}, "write parquet, or use 'local'"),
        (None, {"threads": -1}, "must be positive"),
    ],
)
def test_bad_input_is_refused_with_its_value(mixture, tmp_path, features, arguments, message):
    with pytest.raises((ScanError, DataError), match=message):
        ps.scan(mixture[0] if features is None else features, **arguments, output=tmp_path / "out")
    assert not (tmp_path / "out" / "scan.json").exists()


def test_damaged_files_are_refused(tmp_path, mixture):
    folder = shards(tmp_path / "shards", mixture[0])
    write(folder / "3.parquet", mixture[0][:, :7])
    with pytest.raises(DataError, match="other columns or types"):
        ps.scan(folder, 5)
    whole = write(tmp_path / "whole.parquet", mixture[0]).read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("empty", b""), ("middle", _overwritten(whole))):
        file = tmp_path / f"{name}.parquet"
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"cannot be read as parquet|is not finite"):
            ps.scan(file, 5)


def _overwritten(content):
    middle = len(content) // 3
    return content[:middle] + b"\xff" * 400 + content[middle + 400 :]


def test_an_output_folder_in_use_is_refused(tmp_path, mixture):
    features, out = mixture[0], tmp_path / "out"
    ps.scan(features, 5, output=out)
    before = contents(out)
    with pytest.raises(ScanError, match="holds a finished scan"):
        ps.scan(features, 4, output=out)
    assert contents(out) == before
    ps.scan(features, 4, output=out, overwrite=True)
    assert json.loads((out / "scan.json").read_text())["n_classes"] == 4
    (tmp_path / "file").write_text("")
    with pytest.raises(ScanError, match="is a file"):
        ps.scan(features, 5, output=tmp_path / "file")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    with pytest.raises(ScanError, match="not empty"):
        ps.scan(features, 5, output=tmp_path / "mine")
    ps.scan(features, 5, output=tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_an_unfinished_scan_with_other_settings_is_refused(tmp_path, mixture, monkeypatch):
    out = tmp_path / "out"

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(scanning, "merge", stop)
    with pytest.raises(KeyboardInterrupt):
        ps.scan(mixture[0], 5, output=out)
    monkeypatch.undo()
    with pytest.raises(ScanError, match="another n_classes"):
        ps.scan(mixture[0], 6, output=out)
    with pytest.raises(ScanError, match="another checksum"):
        ps.scan(mixture[0] + 1, 5, output=out)
    assert len(ps.scan(mixture[0], 5, output=out)) == 600


def test_settings_come_as_a_configuration_as_keywords_or_by_position(mixture, scanned):
    features, band = mixture[0], ps.RankBand(0.3, 0.5)
    expected = ps.scan(features, 5, band, max_pairs=7)
    for found in (
        ps.scan(features, ScanConfig(n_classes=5, band_start=0.3, band_stop=0.5, max_pairs=7)),
        ps.scan(features, n_classes=5, band=band, max_pairs=7),
        ps.scan(features, np.int64(5), band_start=0.3, band_stop=0.5, max_pairs=7),
        ps.scan(features, ScanConfig(n_classes=9, max_pairs=7), band, n_classes=5),  # keywords win
        ps.scan(features, config=ScanConfig(n_classes=5, band_start=0.1, band_stop=0.2), band=band, max_pairs=7),
    ):
        assert found.settings == expected.settings
        assert (found.pairs, found.levels) == (expected.pairs, expected.levels)
        np.testing.assert_array_equal(found.scores, scanned.scores)
    assert expected.settings["band"] == {"start": 0.3, "stop": 0.5}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_clases": 5}, "unexpected keyword argument 'n_clases': did you mean 'n_classes'"),
        ({"config": 5, "n_classes": 5}, "multiple values for argument 'n_classes'"),
        ({"config": "five"}, "config must be a ScanConfig or a number of classes, got str"),
        ({"band": (0.1, 0.2)}, "band must be a RankBand, got tuple"),
    ],
)
def test_keywords_that_are_no_settings_are_refused(mixture, arguments, message):
    with pytest.raises(TypeError, match=message):
        ps.scan(mixture[0], **arguments)


def test_a_file_has_a_column_of_labels_and_an_array_has_none(tmp_path, mixture):
    features, labels, _ = mixture
    file = write(tmp_path / "f.parquet", features, label=labels, kind=np.arange(600) % 2)
    named = ps.scan(file, 5, label_column="kind")
    np.testing.assert_array_equal(named.labels, np.arange(600) % 2)
    assert ps.scan(file, 5, label_column="none").labelled_levels is None
    with pytest.raises(ScanError, match="`label_column='kind'` and `column=None` name columns of a file"):
        ps.scan(features, 5, label_column="kind")
    with pytest.raises(ScanError, match=r"labels and .*: name their `label_column`"):
        ps.scan(file, 5, labels=labels)


class OwnSource:
    """A source of a user's own: only what every source must have, and what it says of itself."""

    mixed = labels = class_names = paths = None

    def __init__(self, features, **said):
        self.name, self.shape, self.rows, self._features = "own", features.shape, np.arange(len(features)), features
        vars(self).update(said)

    def blocks(self, rows, start=0, stop=None):
        stop = self.shape[0] if stop is None else stop
        for first in range(start, stop, rows):
            yield first, self._features[first : min(first + rows, stop)]

    def take(self, rows):
        return self._features[rows]


def test_a_source_says_itself_whether_workers_elsewhere_can_read_it(mixture, scanned, monkeypatch):
    own = OwnSource(mixture[0])
    np.testing.assert_array_equal(ps.scan(own, 5).scores, scanned.scores)
    with pytest.raises(ScanError, match="reads parquet on its workers, got own"):
        ps.scan(own, 5, engine="ray")

    def run_ray(task, address, progress):
        assert (task.source, address) == (bare, "auto")
        assert task.parts.is_dir()  # part files are what comes back from elsewhere
        return work.run_local(task, 1, progress)

    monkeypatch.setattr(scanning, "run_ray", run_ray)
    bare = OwnSource(mixture[0])
    shared = OwnSource(mixture[0], shareable=True, bare=lambda: bare)
    np.testing.assert_array_equal(ps.scan(shared, 5, engine="ray", address="auto").scores, scanned.scores)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_folder_is_refused_first(tmp_path, mixture):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="Permission"):
        ps.scan(mixture[0], 5, output=tmp_path / "out")


def test_a_full_disk_keeps_what_is_done_and_leaves_no_half_files(tmp_path, mixture, monkeypatch):
    monkeypatch.setattr(work, "PART_ROWS", 100)
    real, writes = pq.write_table, []

    def write_table(table, file, **options):
        if len(writes) == 7:
            Path(file).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        writes.append(file)
        real(table, file, **options)

    monkeypatch.setattr(pq, "write_table", write_table)
    with pytest.raises(OSError, match="No space left"):
        ps.scan(mixture[0], 5, output=tmp_path / "out", threads=1)
    monkeypatch.setattr(pq, "write_table", real)
    names = sorted(path.name for path in (tmp_path / "out" / "parts").iterdir())
    assert [name for name in names if name.startswith("scores")] == [f"scores-{i * 100:012d}.parquet" for i in range(3)]
    assert not any(name.endswith(".tmp") for name in names)
    ps.scan(mixture[0], 5, output=tmp_path / "out")
    ps.scan(mixture[0], 5, output=tmp_path / "whole")
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("classes", [3, 10])
def test_clear_classes_are_counted(classes):
    features = midpoints(1500, classes, 32, share=0)[0]
    estimate = estimate_classes(3 * features)
    assert classes / 1.5 <= estimate.n_classes <= 1.5 * classes
    assert f"about {estimate.n_classes} classes" in estimate.words
    assert len(estimate.candidates) == len(estimate.centred) == len(estimate.whitened)
