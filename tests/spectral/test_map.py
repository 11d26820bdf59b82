"""`SpectralMap`: streams, parts, choice, files, modules, and what it refuses."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import pairsift as ps
from pairsift.data.features import TableFeatures
from pairsift.spectral import SpectralError, SpectralMap
from pairsift.spectral import streams as streams_module
from pairsift.spectral import sums as sums_module
from pairsift.spectral.choice import Candidates, Fold, Grid, row_keys
from pairsift.spectral.solution import population_loss


def pairs_of(n=1500, width=24, shared=6, noise=1.0, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    topics = rng.standard_normal((n, shared)) @ rng.standard_normal((shared, width))
    first, second = (topics + noise * rng.standard_normal((n, width)) + 3 for _ in range(2))
    return first.astype(dtype), second.astype(dtype)


FIXED = {"dimensions": 5, "ridge": 0.1, "power": 1.0, "held_out": 0}


def fixed_map():
    return SpectralMap(dimensions=5, ridge=0.1, power=1.0)


def part_of(bounds):
    first, second = pairs_of()
    return fixed_map().partial_fit(first[slice(*bounds)], second[slice(*bounds)])


def test_merged_parts_equal_one_pass():
    first, second = pairs_of()
    whole = SpectralMap.fit(first, second, **FIXED)
    parts = [part_of(bounds) for bounds in ((0, 100), (100, 101), (101, 1500))]
    merged = parts[0].merge(parts[1]).merge(parts[2])
    grown = part_of((0, 700)).partial_fit(first[700:], second[700:])
    empty = fixed_map().merge(part_of((0, 1500)))
    for other in (merged, grown, empty):
        np.testing.assert_allclose(other.first_map, whole.first_map, rtol=0, atol=1e-10)
        np.testing.assert_allclose(other.eigenvalues, whole.eigenvalues, rtol=0, atol=1e-10)
        assert other.loss == pytest.approx(whole.loss, abs=1e-10)


def test_two_processes_give_the_fit_of_one():
    whole = SpectralMap.fit(*pairs_of(), **FIXED)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        one, other = pool.map(part_of, [(0, 800), (800, 1500)])
    np.testing.assert_allclose(one.merge(other).first_map, whole.first_map, rtol=0, atol=1e-10)


def test_views_in_parts_equal_one_pass():
    x = pairs_of()[0].reshape(300, 5, 24)
    whole = SpectralMap.fit(x, **FIXED)
    rows = SpectralMap.fit(x.reshape(-1, 24), views=5, **FIXED)
    parts = fixed_map().partial_fit(x[:100]).merge(fixed_map().partial_fit(x[100:]))
    np.testing.assert_array_equal(rows.first_map, whole.first_map)
    np.testing.assert_allclose(parts.first_map, whole.first_map, rtol=0, atol=1e-10)


def written(tmp_path, name, features, row_group):
    lists = pa.FixedSizeListArray.from_arrays(pa.array(features.ravel()), features.shape[1])
    pq.write_table(pa.table({"features": lists}), tmp_path / name, row_group_size=row_group)
    return tmp_path / name


def test_arrays_memory_maps_and_parquet_give_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(streams_module, "BLOCK", 256)
    first, second = pairs_of(dtype=np.float32)
    np.save(tmp_path / "first.npy", first)
    mapped = np.load(tmp_path / "first.npy", mmap_mode="r")
    files = written(tmp_path, "a.parquet", first, 100), written(tmp_path, "b.parquet", second, 333)
    whole = SpectralMap.fit(first, second)
    for other in (
        SpectralMap.fit(first, second),
        SpectralMap.fit(mapped, torch.from_numpy(second)),
        SpectralMap.fit(tmp_path / "first.npy", files[1]),
        SpectralMap.fit(*map(str, files)),
    ):
        np.testing.assert_array_equal(other.first_map, whole.first_map)
        assert other.held_out.settings == whole.held_out.settings
    np.testing.assert_array_equal(whole.transform(files[0]), whole.transform(first))


def test_half_precision_and_a_large_mean_cost_little():
    first, second = pairs_of()
    exact = SpectralMap.fit(first, second, **FIXED)
    shifted = SpectralMap.fit((first + 1000).astype(np.float32), (second + 1000).astype(np.float32), **FIXED)
    np.testing.assert_allclose(shifted.eigenvalues, exact.eigenvalues, atol=1e-3)
    half = SpectralMap.fit(first.astype(np.float16), second.astype(np.float16), **FIXED)
    np.testing.assert_allclose(half.eigenvalues, exact.eigenvalues, atol=1e-3)


def test_the_choice_finds_the_shared_directions_without_labels():
    first, second = pairs_of(n=4000, width=64, shared=8, noise=3.0)
    lines = []
    fitted = SpectralMap.fit(first, second, log=lines.append)
    held = fitted.held_out
    assert fitted.dimensions == 8
    assert held.pairs == 1200  # three folds of a tenth
    assert held.adapted.mrr - held.frozen.mrr > 0.05
    assert held.gain[0] - held.gain[1] > 0
    assert any("dimensions, ridge" in line and "held-out pairs" in line for line in lines)
    scores = [each.score for each in held.settings]
    assert scores == sorted(scores, reverse=True)
    assert {each.dimensions for each in held.settings} == {8, 16, 32}  # 64 need as many positive eigenvalues
    assert len(scores) == 9 * 2 * 3
    near = [each for each in held.settings if each.behind <= 1.96 * each.error]
    assert held.chosen.dimensions == min(each.dimensions for each in near)


def test_the_ridge_is_the_mean_of_those_that_do_as_well():
    """It is no value of the grid, so that its ranks are computed anew."""
    pairs = pairs_of(n=800, width=32, shared=8, noise=3.0)
    fitted = SpectralMap.fit(*pairs)
    held, chosen = fitted.held_out, fitted.held_out.chosen
    near = {each for each in held.settings if each.behind <= 1.96 * each.error}
    alike = {each for each in near if (each.dimensions, each.power) == (chosen.dimensions, chosen.power)}
    assert set(held.alike) == alike
    assert len(alike) > 1
    assert chosen.ridge == pytest.approx(np.exp(np.mean([np.log(each.ridge) for each in alike])))
    assert f"{len(alike)} of this width were as good, and the ridge is their mean" in str(held)
    assert fitted.ridge == held.ridge == pytest.approx(0.9 * chosen.ridge)  # a fold is fitted to nine tenths
    given = {"ridge": chosen.ridge, "dimensions": chosen.dimensions, "power": chosen.power}
    alone = SpectralMap.fit(*pairs, **given).held_out
    assert alone.chosen.score == chosen.score
    assert alone.ridge == chosen.ridge
    assert len(alone.settings) == len(alone.alike) == 1


@pytest.mark.parametrize("towers", [1, 2])
def test_the_loss_on_held_out_pairs_is_an_unbiased_criterion(towers):
    """It is that of many new pairs, to the noise of the held-out ones; the sample's own loss is too low."""
    axes = np.random.default_rng(9).standard_normal((4, 30))

    def drawn(n, seed):
        rng = np.random.default_rng(seed)
        topics = rng.standard_normal((n, 4)) @ axes
        return [topics + 2 * rng.standard_normal((n, 30)) for _ in range(2)]

    few, many = drawn(1500, 0), drawn(100_000, 1)
    kept = np.random.default_rng(0).random(1500) < 0.5
    chosen = SpectralMap.fit(
        *(each[kept] for each in few), ridge=[0.01, 0.1, 1.0], dimensions=4, power=0.5, towers=towers, held_out=0.4,
        criterion="loss",
    ).held_out  # fmt: skip
    assert chosen.criterion == "loss"
    assert "loss" in str(chosen)
    assert {each.ridge for each in chosen.settings} == {0.01, 0.1, 1.0}
    grid = Grid.of([0.01, 0.1], [4, 8], 0.5)
    part = SpectralMap(4, 0.01, 0.5, towers).partial_fit(*(each[kept] for each in few))
    held = [Candidates(*(each[~kept] for each in few), same_space=towers == 1)]
    fold = Fold(part._covariances(), held[0], int(kept.sum()))
    terms = [fold.solved(ridge, grid.most).scores(grid, "loss") for ridge in grid.ridges]
    for (ridge, width, _), scores in (terms[0] | terms[1]).items():
        found = -scores
        fitted = SpectralMap(width, ridge, 0.5, towers).partial_fit(*(each[kept] for each in few))
        law = SpectralMap(4, 0.0, 0.5, towers).partial_fit(*many)._covariances()
        # About the mean of the fit, as `transform` subtracts it.
        shift = law.first_mean - fitted.first_mean, law.second_mean - fitted.second_mean
        moved = replace(
            law, first=law.first + np.outer(shift[0], shift[0]), second=law.second + np.outer(shift[1], shift[1]),
            cross=law.cross + np.outer(*shift),
        )  # fmt: skip
        true = population_loss(moved, fitted.first_map, fitted.second_map)
        assert found.mean() == pytest.approx(true, abs=4 * found.std() / np.sqrt(len(found)))
        assert fitted.loss < true


def test_held_out_correlations_are_not_inflated():
    """Without anything shared a sample's eigenvalues are large, and correlations on other pairs are about zero."""
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 400, 100))
    fitted = SpectralMap.fit(first, second, dimensions=8, ridge=0.01, power=1.0)
    assert fitted.held_out.eigenvalues.min() > 0.3
    assert abs(fitted.held_out.correlations.mean()) < 0.15


def test_pairs_that_share_a_row_with_held_out_ones_are_left_out_of_the_choice():
    first, second = pairs_of(n=1000)
    again = np.concatenate([first, second]), np.concatenate([second, first])
    fitted = SpectralMap.fit(*again)
    assert 150 < fitted.held_out.left_out < 250  # each of 200 held-out pairs has its mirror image


def test_identical_candidates_do_not_compete():
    first = np.eye(4)[[0, 1, 2, 3]]
    second = first[[0, 0, 2, 3]]
    held = Candidates(first, second, same_space=True)
    # The first two positives are copies of each other; the second query's positive is as far as the others.
    assert held.ranks(first, second).tolist() == [1, 3, 1, 1]
    constant = np.ones((4, 2))
    assert Candidates(first, np.eye(4), same_space=False).ranks(constant, constant).tolist() == [4, 4, 4, 4]


def test_equal_rows_have_equal_keys():
    rows = np.random.default_rng(0).standard_normal((100, 7)).astype(np.float32)
    keys = row_keys(np.concatenate([rows, rows]))
    assert (keys[:100] == keys[100:]).all()
    assert len(np.unique(keys)) == 100


def test_dropped_pairs_are_in_no_sum():
    first, second = pairs_of()
    dropped = np.arange(0, 1500, 7)
    kept = np.delete(np.arange(1500), dropped)
    alone = SpectralMap.fit(first[kept], second[kept], **FIXED)
    for drop in (dropped, np.isin(np.arange(1500), dropped)):
        fitted = SpectralMap.fit(first, second, drop=drop, **FIXED)
        np.testing.assert_allclose(fitted.first_map, alone.first_map, rtol=0, atol=1e-10)
    second[100] = np.nan  # the number is that of all rows
    refused("second row 100 is not finite", first, second, drop=dropped)


def test_a_band_takes_the_maps_own_features():
    first, second = pairs_of(n=300)
    plain = SpectralMap.fit(first, second, **FIXED)
    lines = []
    banded = SpectralMap.fit(
        first, second, selector=ps.RankBand(0.1, 0.3), margin=0.5, rounds=3, log=lines.append, **FIXED
    )
    assert sum("round" in line for line in lines) == 3
    assert not np.allclose(banded.first_map, plain.first_map)
    with pytest.raises(SpectralError, match="because it has a margin"):
        banded.partial_fit(first, second)  # the margin would be lost


@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize("sums", [False, True])
def test_a_file_gives_the_map_back(tmp_path, towers, sums):
    first, second = pairs_of()
    fitted = SpectralMap.fit(first[:700], second[:700], towers=towers, **FIXED)
    fitted.save(tmp_path / "map.safetensors", sums=sums)
    back = SpectralMap.load(tmp_path / "map.safetensors")
    np.testing.assert_array_equal(back.transform(first), fitted.transform(first))
    np.testing.assert_array_equal(back.transform_second(second), fitted.transform_second(second))
    assert (back.dimensions, back.ridge, back.power, back.towers, back.loss) == (
        5, fitted.ridge, fitted.power, towers, fitted.loss,
    )  # fmt: skip
    if sums:
        whole = SpectralMap.fit(first, second, towers=towers, **FIXED)
        back.partial_fit(first[700:], second[700:])
        np.testing.assert_allclose(back.first_map, whole.first_map, rtol=0, atol=1e-10)
    else:
        for more in (
            lambda: back.merge(back),
            lambda: fixed_map().merge(back),
            lambda: back.partial_fit(first[700:], second[700:]),
            lambda: back.save(tmp_path / "again", sums=True),
        ):
            with pytest.raises(SpectralError, match="sums=True"):
                more()
        np.testing.assert_array_equal(back.first_map, fitted.first_map)


def test_damaged_and_other_files_are_refused(tmp_path):
    fitted = SpectralMap.fit(*pairs_of(), **FIXED)
    file = tmp_path / "map.safetensors"
    fitted.save(file)
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    with pytest.raises(SpectralError, match="checksum"):
        SpectralMap.load(file)
    file.write_bytes(b"no tensors")
    with pytest.raises(SpectralError, match="cannot be read as a spectral map"):
        SpectralMap.load(file)
    with pytest.raises(OSError, match="missing"):
        SpectralMap.load(tmp_path / "missing")


def test_the_module_is_the_map_at_unit_length():
    first, second = pairs_of(dtype=np.float32)
    fitted = SpectralMap.fit(first, second, towers=2, **FIXED)
    for module, mapped in (
        (fitted.module(), fitted.transform(first)),
        (fitted.module(second=True), fitted.transform_second(first)),
    ):
        expected = mapped / np.linalg.norm(mapped, axis=1, keepdims=True)
        np.testing.assert_allclose(module(torch.from_numpy(first)).detach().numpy(), expected, atol=1e-5)
    assert pickle.loads(pickle.dumps(fitted)).loss == fitted.loss


def refused(match, *args, **kwargs):
    with pytest.raises(SpectralError, match=match):
        SpectralMap.fit(*args, **kwargs)


def test_bad_features_are_refused_in_words():
    first, second = pairs_of(n=400, width=6)
    refused("first has 399 rows and second 400", first[1:], second)
    wrong = second.copy()
    wrong[123, 4] = np.nan
    refused("second row 123 is not finite", first, wrong)
    wrong[123, 4] = np.inf
    refused("second row 123 is not finite", first, wrong)
    refused("every pair is a row and its copy", first, first, towers=1)
    refused("every pair is a row and its copy", first, first, towers=2)
    refused("anchors: all rows are equal", np.ones((400, 6)), second, towers=2)
    refused("at least 2 views", first, views=1)
    refused("at least 2 views", first[:, None])
    refused("no positives", first)
    refused("no multiple of views=3", first, views=3)
    refused("not both", first, second, views=2)
    refused("floating point", np.ones((400, 6), int), second)
    refused("non-empty", first[0], second)
    refused("one tower needs", first, second[:, :3], towers=1)
    refused("at least 2", first[:1], second[:1], **FIXED)


def test_bad_settings_are_refused_in_words():
    first, second = pairs_of(n=400, width=6)
    refused("dimensions=7` is more than the 6", first, second, dimensions=7)
    refused("share only", first, first * [1, 1, 1, 1, -1, -1] + 0.1 * second, dimensions=6)
    refused("share no direction", first, -first, towers=1)
    refused("leave 10 to choose settings on", first[:100], second[:100])
    refused("`held_out=0` leaves nothing", first, second, held_out=0)
    refused("held_out` must lie", first, second, held_out=0.9)
    refused("the same for every power", first, second, criterion="loss")
    refused("'rank' or 'loss', got 'mrr'", first, second, criterion="mrr")
    refused("without a ridge", first[:3], second[:3], dimensions=2, ridge=0.0, power=1.0, held_out=0)
    refused("ridge` must be", first, second, ridge=-1.0)
    refused("towers` must be", first, second, towers=3)
    refused("a margin needs a selector", first, second, margin=0.1)
    refused("rounds", first, second, margin=0.1, selector=ps.RankBand(0.1, 0.2), rounds=0)
    refused("take .* GB", first, second, memory_gb=1e-9)
    refused("drop must be", first, second, drop=np.array([400]))
    refused("drop has shape", first, second, drop=np.zeros(3, bool))
    repeated = np.repeat(first[:2], 200, axis=0), second
    refused("nearly all pairs share a row", *repeated, towers=2)
    with pytest.raises(ValueError, match="rows and keys"):
        SpectralMap.fit(first, second, margin=0.1, selector=ps.GivenPairs(torch.ones(3, 3, dtype=torch.bool)))
    with pytest.raises(SpectralError, match="not fitted"):
        SpectralMap(dimensions=2).transform(first)
    with pytest.raises(SpectralError, match="the map takes 6"):
        SpectralMap.fit(first, second).transform(first[:, :4])
    with pytest.raises(SpectralError, match="not fitted"):
        fixed_map().merge(fixed_map())
    with pytest.raises(SpectralError, match="towers=1 cannot be merged into one with towers=2"):
        SpectralMap(5, towers=2).merge(SpectralMap(5).partial_fit(first, second))
    with pytest.raises(SpectralError, match="dimensions: merge parts"):
        fixed_map().partial_fit(first, second).merge(fixed_map().partial_fit(*pairs_of()))


def test_few_pairs_and_constant_columns_are_told():
    first, second = pairs_of(n=400, width=300)
    lines = []
    fitted = SpectralMap.fit(first[:250], second[:250], log=lines.append, towers=2)
    assert np.isfinite(fitted.first_map).all()
    assert any("the ridge shrinks the directions" in line for line in lines)
    first[:, 3] = second[:, 3] = 1
    lines.clear()
    SpectralMap.fit(first[:, :6], second[:, :6], log=lines.append)
    assert "anchors: 1 of 6 columns are constant and get no weight" in lines


def test_an_engine_that_is_not_there_is_refused():
    refused("'local' or 'ray', got 'spark'", *pairs_of(n=400, width=6), engine="spark")
    refused("address=10.0.0.1:6379` is of a Ray cluster", *pairs_of(n=400, width=6), address="10.0.0.1:6379")


def test_files_are_read_once(tmp_path, monkeypatch):
    first, second = pairs_of(dtype=np.float32)
    files = written(tmp_path, "a.parquet", first, 100), written(tmp_path, "b.parquet", second, 333)

    def again(self, rows):
        raise AssertionError("read again")

    monkeypatch.setattr(TableFeatures, "take", again)
    assert SpectralMap.fit(*files).held_out.pairs == 450


@pytest.mark.parametrize("views", [2, 3])
def test_elements_are_taken_as_in_a_block(views):
    rows = np.array([0, 5, 99])
    x = pairs_of(n=300, width=4)[0][: 100 * views]
    for stream in (streams_module.ViewRows(x, views), streams_module.PairedRows(x, 2 * x)):
        ((_, a, b),) = stream.blocks()
        for found, expected in zip(stream.taken(rows), (a[rows], b[rows]), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_the_time_left_of_a_long_pass_is_told_at_every_tenth(monkeypatch):
    lines, now = [], [0.0]
    monkeypatch.setattr(sums_module.time, "perf_counter", lambda: now[0])
    tell = sums_module._TimeLeft(lines.append, 1000)
    tell(100)
    assert not lines
    for done, seconds in ((200, 10), (250, 12), (300, 15), (1000, 50)):
        now[0] = seconds
        tell(done)
    assert lines == ["read 200 of 1,000, about 40 s left", "read 300 of 1,000, about 35 s left"]
