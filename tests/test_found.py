"""What the campaigns found: a test for every defect."""

import math
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import warm
from conftest import encode, write_parquet
from mixtures import midpoints

import pairsift as ps
from pairsift import cli
from pairsift._base.checks import check_tensors, class_labels, first_line, real_array
from pairsift._base.files import read_tensors, write_tensors
from pairsift.data import DataError, load_images, mix, open_features
from pairsift.data.images import without_rows
from pairsift.data.tables import read_table, write_table
from pairsift.evaluate import collapse, detection, knn, linear_probe, semantic_hits
from pairsift.same_class import AffinityError
from pairsift.scanning import ScanError, work
from pairsift.text import read_texts
from pairsift.theory import SimilarityGraph, bounds, measure_levels
from pairsift.train import ConfigError, Run, RunError, TrainConfig
from pairsift.train.run import read_checkpoint
from pairsift.train.trainer import telling_of_lost_processes

BAND, TREATMENT = ps.RankBand(0.1, 0.5), ps.Treatment(margin=0.05, temperature_scale=0.7)

# What is no tensor, and no array of numbers


def test_what_is_no_tensor_is_refused_by_name():
    with pytest.raises(TypeError, match=r"keys must be a torch tensor, got list"):
        check_tensors({"features": torch.zeros(1)}, keys=[1], other=None)
    for loss in (ps.losses.NTXentLoss(), ps.losses.SpectralLoss(), ps.losses.TwoTowerLoss(), ps.losses.MoCoLoss(8, 2)):
        with pytest.raises(TypeError, match="must be a torch tensor, got ndarray"):
            loss(np.zeros((3, 2)), torch.zeros(3, 2))
    with pytest.raises(TypeError, match="z must be a torch tensor"):
        ps.losses.LabelledNTXentLoss()(None, torch.zeros(3))
    with pytest.raises(TypeError, match="labels must be a torch tensor"):
        ps.losses.MixedContrastiveLoss()(torch.ones(3, 2), torch.ones(3, 2), [0, 1, 2])
    with pytest.raises(TypeError, match="z_antonym must be a torch tensor"):
        ps.losses.SemanticNegativeLoss()(torch.ones(3, 2), torch.ones(3, 2), None)
    with pytest.raises(TypeError, match="features must be a torch tensor, got NoneType"):
        ps.select_pairs(None, BAND)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ("text", "must be an array of real numbers, got <U4"),
        ([[1, 2], [3]], "must be an array of numbers, got list"),
        (np.array([1 + 2j]), "complex128"),
        (np.array(["2020-01-01"], "M8[s]"), "datetime64"),
        (np.array([object()]), "must be an array of numbers, got ndarray"),
        (None, "must be an array of real numbers, got object"),
    ],
)
def test_what_is_no_array_of_numbers_is_refused_by_name(values, message):
    with pytest.raises(ValueError, match=f"x {message}|x .*{message}"):
        real_array(values, "x")


def test_numbers_in_other_clothes_are_numbers():
    assert real_array(np.array([1, 2.5], dtype=object), "x").tolist() == [1, 2.5]
    assert real_array(torch.tensor([1.5], dtype=torch.bfloat16, requires_grad=True), "x").tolist() == [1.5]
    masked = real_array(np.ma.masked_array([1.0, 2.0], [True, False]), "x")
    assert math.isnan(masked[0])
    assert masked[1] == 2
    assert class_labels(np.array(["a", "b"], dtype=object), "y").dtype.kind == "U"
    assert class_labels([1.0, 2.0], "y").tolist() == [1, 2]
    for wrong in ([0.5, 1], [np.nan], [None, "a"], np.array([1j])):
        with pytest.raises(ValueError, match="y must be"):
            class_labels(wrong, "y")


@pytest.mark.parametrize("measure", [knn, linear_probe])
def test_evaluation_refuses_what_is_no_split(measure):
    x, y = np.eye(20, dtype=np.float32), np.arange(20) % 2
    for bad, message in (
        (x.astype(str), "train features"),
        (x * 1j, "train features"),
        (x.astype("f8") * 1e39, "row 0"),
    ):
        with pytest.raises(ValueError, match=message):
            measure(bad, y, x, y)
    with pytest.raises(ValueError, match="train labels must be whole numbers"):
        measure(x, y + 0.5, x, y)


def test_other_measures_refuse_what_they_cannot_measure():
    with pytest.raises(ValueError, match="original must be an array of real numbers"):
        semantic_hits("text", [[1.0]], [[1.0]])
    with pytest.raises(ValueError, match="features must be an array of real numbers"):
        collapse(np.full((4, 2), "a"), [0, 0, 1, 1])
    with pytest.raises(ValueError, match="scores must be an array of real numbers"):
        detection(np.array(["a", "b"]), [True, False])
    with pytest.raises(ValueError, match="planted must be bool"):
        detection([0.1, 0.2], [0.3, 1])
    with pytest.raises(TypeError, match=r"k must be a whole number, got 1\.5"):
        knn(np.eye(4), [0, 0, 1, 1], np.eye(4), [0, 0, 1, 1], k=1.5)


def test_an_infinite_score_is_the_most_difficult_one():
    assert detection(np.array([0.1, np.inf, 0.4, np.nan]), np.array([False, True, False, True])).auroc == 1


def test_selections_that_are_none_are_refused():
    flags = torch.tensor([[False, True], [True, False]])
    for wrong in (flags.float(), flags[0]):
        with pytest.raises(TypeError, match="bool tensor"):
            ps.random_pairs(wrong)
        with pytest.raises(TypeError, match="bool tensor"):
            ps.pair_shares(wrong, torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="a row flags all 2 columns"):
        ps.random_pairs(torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="need a label for every row and key"):
        ps.pair_shares(torch.zeros(2, 0, dtype=torch.bool), torch.tensor([0, 1]))


def test_a_scan_says_what_it_takes():
    with pytest.raises(TypeError, match=r"features must be an \(N, D\) array, tensor, table or path, got set"):
        ps.scan({1.0, 2.0})
    with pytest.raises(DataError, match="60 features but labels of shape"):
        ps.scan(midpoints(60)[0], labels=np.array("a"))


def test_images_that_are_none_are_refused():
    with pytest.raises(DataError, match=r"images must be \(N, C, H, W\) uint8, got NoneType"):
        mix(None)
    with pytest.raises(DataError, match="images must be uint8"):
        mix(np.zeros((4, 3, 2, 2)))
    with pytest.raises(DataError, match="labels must be whole numbers or names"):
        mix(np.zeros((2, 3, 2, 2), np.uint8), np.array([0.5, 1]))
    for wrong in (None, np.zeros((60, 3, 0, 3), np.uint8)):
        with pytest.raises(AffinityError, match="images must be"):
            ps.same_class.patch_features(wrong)
    with pytest.raises(AffinityError, match="filters must be a whole number"):
        ps.same_class.patch_features(np.zeros((60, 3, 8, 8), np.uint8), filters=2.5)


def test_labels_of_rows_are_whole():
    with pytest.raises(ValueError, match="labels must be whole numbers"):
        ps.losses.LabelledNTXentLoss()(torch.randn(3, 2), torch.tensor([0.2, 0.7, 1.0]))


# Numbers at the ends of their range


@pytest.mark.parametrize("temperature", [1e-45, 1e-9, math.nan, math.inf, 0])
def test_a_temperature_that_leaves_float32_is_refused(temperature):
    for loss in (ps.losses.NTXentLoss, ps.losses.LabelledNTXentLoss, ps.losses.SemanticNegativeLoss):
        with pytest.raises(ValueError, match="temperature must be finite"):
            loss(temperature)
    with pytest.raises(ConfigError, match="temperature"):
        TrainConfig(temperature=temperature)


def test_treatments_and_mu_stay_in_float32():
    for wrong in ({"margin": 1e30}, {"temperature_scale": 1e-30}, {"margin": math.inf}):
        with pytest.raises(ValueError, match="must be finite"):
            ps.Treatment(**wrong)
    for mu in (1e-30, 1e30, math.nan):
        with pytest.raises(ValueError, match="mu must be finite"):
            ps.losses.SpectralLoss(mu)
    extreme = ps.Treatment(margin=1e6, temperature_scale=1e-6)
    z0, z1, h0, h1 = torch.randn(4, 6, 5)
    for loss in (ps.losses.NTXentLoss(1e-8, BAND, extreme), ps.losses.SpectralLoss(1e6, BAND, extreme)):
        assert bool(loss(z0, z1, h0, h1).isfinite())


@pytest.mark.parametrize("tile", ["dense", 2])
def test_rows_of_any_size_have_their_direction(tile):
    z0, z1, h0, h1 = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    moco = [ps.losses.MoCoLoss(12, 5, 5, 0.2, BAND, TREATMENT, tile=tile) for _ in range(2)]
    for each in ((ps.losses.NTXentLoss(0.3, BAND, TREATMENT, tile=tile),) * 2,
                 (ps.losses.TwoTowerLoss(0.3, False, BAND, TREATMENT, tile=tile),) * 2, moco,
                 (ps.losses.SpectralLoss(0.5, BAND, TREATMENT, tile=tile),) * 2):  # fmt: skip
        whole, huge = (loss(10 * z0, 10 * z1, h0, h1) for loss in each), []
        expected = next(whole)
        huge = (2.0**100 * z0).requires_grad_()
        value = each[1](huge, 2.0**100 * z1, h0, h1)
        value.backward()
        torch.testing.assert_close(value.detach(), expected)
        assert bool(huge.grad.isfinite().all())


def test_rows_of_no_length_have_finite_gradients():
    z0, z1, h0, h1 = torch.randn(4, 6, 5)
    tiny = (1e-21 * z0).requires_grad_()
    ps.losses.SpectralLoss(0.5, BAND, TREATMENT)(tiny, z1, h0, h1).backward()
    assert bool(tiny.grad.isfinite().all())


@pytest.mark.parametrize("size", [1e-42, 1e30])
def test_neighbours_of_rows_of_any_size(size):
    x = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float64)
    assert knn((size * x).astype(np.float32), [0, 0, 1, 1], x, [0, 0, 1, 1], k=2) == 1


@pytest.mark.parametrize("size", [1e-41, 1e30])
def test_a_probe_on_rows_of_any_size(size):
    y = np.arange(60) % 2
    x = (size * (6 * np.eye(4)[y] + np.random.default_rng(0).standard_normal((60, 4)))).astype(np.float32)
    assert linear_probe(x[::3], y[::3], x[1::3], y[1::3]).accuracy > 0.9


def test_a_kind_of_mixture_that_is_none():
    with pytest.raises(DataError, match="kind must be 'pixel' or 'composite'"):
        mix(np.zeros((2, 3, 2, 2), np.uint8), kind=np.zeros((2, 2)))


def test_levels_of_any_layout_and_size():
    x, labels, _ = midpoints(200)
    for given in (None, labels):
        expected = measure_levels(x, given, band=BAND)
        for other in (x[::-1].copy()[::-1], x.astype(">f4"), x.astype(np.longdouble), np.float64(2.0**500) * x):
            found = measure_levels(other, given, band=BAND)
            assert found.gamma.mean == pytest.approx(expected.gamma.mean, abs=1e-6)


def test_a_bound_beyond_numbers_is_infinite():
    graph = SimilarityGraph(2, 1, 1, 1.0, 5e-293, 0.5)
    assert bounds.temperature_factor(graph) == math.inf
    assert bounds.temperature_factor(SimilarityGraph(2, 1, 0, 1.0, 5e-293, 0.5)) == 1


def test_positions_may_be_turned_around():
    affinity = ps.Affinity(torch.rand(5, 3))
    rows = np.arange(5)
    np.testing.assert_array_equal(affinity.probability(rows[::-1], rows), affinity.probability(rows, rows[::-1])[::-1])


# Tables and files


def test_two_columns_of_one_name(tmp_path):
    def write(name, *columns):
        pq.write_table(pa.table(list(columns), names=[name] * 2), tmp_path / f"{name}.parquet")
        return tmp_path / f"{name}.parquet"

    floats = pa.array([[1.0, 2.0]] * 12)
    for name in ("features", "x"):
        with pytest.raises(DataError, match=f"two columns called '{name}'"):
            open_features(write(name, floats, floats))
    with pytest.raises(DataError, match="two columns called 'f0'"):
        open_features(write("f0", pa.array([1.0]), pa.array([2.0])))
    with pytest.raises(DataError, match="two columns called 'text'"):
        list(read_texts(write("text", pa.array(["a"]), pa.array(["b"]))))
    with pytest.raises(DataError, match="two columns called 'image'"):
        load_images(str(write("image", pa.array([b"a"]), pa.array([b"b"]))))
    pq.write_table(pa.table([pa.array(["a"])] * 3, names=["anchor", "positive", "anchor"]), tmp_path / "pairs.parquet")
    with pytest.raises(DataError, match="two columns called 'anchor'"):
        ps.retrieval.inspect_pairs(tmp_path / "pairs.parquet")
    text, several = pa.array(["a"]), pa.array([["b", "c"]])
    for names, kinds in (("positive", (text, text)), ("pos", (several, several)), ("id", (text, text))):
        table = pa.table([text, several, *kinds], names=["query", "pos" if names == "id" else "neg", names, names])
        with pytest.raises(DataError, match=f"two columns called '{names}'"):
            ps.retrieval.inspect_pairs(table)
    held = open_features(pa.table([floats, pa.array(range(12)), pa.array(range(12))], names=["features", "id", "id"]))
    with pytest.raises(DataError, match="two columns called 'id'"):
        held.table(["id"])


def not_utf8(n=12):
    return pa.Array.from_buffers(pa.string(), n, [*pa.array(["ab"] * n).buffers()[:2], pa.py_buffer(b"\xffb" * n)])


def test_texts_that_are_none(tmp_path):
    file = tmp_path / "x.parquet"
    pq.write_table(pa.table({"text": not_utf8(), "anchor": not_utf8(), "positive": not_utf8()}), file)
    with pytest.raises(DataError, match="column 'text' holds text that is no UTF-8"):
        list(read_texts(file))
    with pytest.raises(ValueError, match=r"column 'positive' holds text that is no UTF-8"):
        ps.retrieval.inspect_pairs(file, threads=1)
    features = pa.array([[1.0, float(i)] for i in range(12)])
    for name in ("path", "label"):
        pq.write_table(pa.table({"features": features, name: not_utf8()}), file)
        with pytest.raises(DataError, match=f"column '{name}' holds text that is no UTF-8"):
            open_features(file, "label" if name == "label" else None)
    write_parquet(file, [encode(np.zeros((8, 8), np.uint8))] * 12, label=not_utf8())
    with pytest.raises(DataError, match="column 'label' holds text that is no UTF-8"):
        load_images(str(file), label_column="label")


def flip(file, place):
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def test_a_turned_bit_in_a_table_of_ours_is_found(tmp_path):
    file = tmp_path / "x.parquet"
    write_table(file, pa.table({"x": np.random.default_rng(0).random(1000)}))
    assert len(read_table(file)) == 1000
    flip(file, 4000)
    with pytest.raises(OSError, match="CRC checksum verification failed"):
        read_table(file)


def test_a_turned_bit_in_tensors_of_ours_is_found(tmp_path):
    file = tmp_path / "x.safetensors"
    tensors = {"a": torch.rand(100), "b": torch.rand(3, 3).bfloat16(), "none": torch.zeros(0, 2)}
    write_tensors(file, tensors, {"name": "x"})
    read, metadata = read_tensors(file)
    assert metadata == {"name": "x"}
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    flip(file, file.stat().st_size - 5)
    with pytest.raises(ValueError, match="another checksum"):
        read_tensors(file)
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "nothing")


def test_the_same_tensors_give_the_same_bytes_in_every_process(tmp_path):
    # The order of safetensors' metadata is drawn anew by every process, of six words rarely the same.
    metadata = {name: f"\u00e4 {name}" for name in "fbdace"}
    code = (
        "import sys, pathlib, torch; from pairsift._base.files import write_tensors; "
        f"write_tensors(pathlib.Path(sys.argv[1]), {{'a': torch.ones(3), 'none': torch.zeros(0)}}, {metadata})"
    )
    files = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for file in files:
        subprocess.run([sys.executable, "-c", code, file], check=True)
    assert len({file.read_bytes() for file in files}) == 1
    tensors, read = read_tensors(files[0])
    assert read == metadata
    assert list(tensors) == ["a", "none"]
    assert tensors["a"].tolist() == [1, 1, 1]


def test_a_damaged_affinity_is_refused(tmp_path):
    file = tmp_path / "a.safetensors"
    ps.Affinity(torch.rand(60, 5)).save(file)
    assert ps.Affinity.load(file).n == 60
    flip(file, file.stat().st_size - 9)
    with pytest.raises(AffinityError, match="another checksum"):
        ps.Affinity.load(file)
    write_tensors(file, {"codes": torch.full((3, 2), torch.nan)}, {})
    with pytest.raises(AffinityError, match="or not finite"):
        ps.Affinity.load(file)
    with pytest.raises(FileNotFoundError):
        ps.Affinity.load(tmp_path / "nothing")


def test_a_damaged_run_is_refused(tmp_path):
    words = "train digits:train --per-class 4 --image-size 8 --batch-size 20 --epochs 1 --device cpu --no-progress -o"
    assert cli.guarded([*words.split(), str(tmp_path / "run")], False) == 0
    run = Run(tmp_path / "run")
    for file, read in (
        (run.encoder_file, run.load_encoder),
        (run.last_checkpoint, lambda: read_checkpoint(run.last_checkpoint)),
    ):
        read()
        flip(file, file.stat().st_size // 2)
        with pytest.raises(RunError, match=rf"{file.name} .*(another checksum|is damaged)"):
            read()


def test_a_device_that_is_none(tmp_path, capsys):
    words = "train digits:train --per-class 4 --image-size 8 --batch-size 20 --epochs 1 --device cpu --no-progress -o"
    assert cli.guarded([*words.split(), str(tmp_path / "run")], False) == 0
    for command in (["embed", "digits", "-o", str(tmp_path / "x.parquet")], ["probe", "digits", "digits"]):
        assert cli.guarded([command[0], str(tmp_path / "run"), *command[1:], "--device", "label"], False) == 1
        assert "--device label is not there" in capsys.readouterr().err


# A scan's folder


def test_a_damaged_part_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "PART_ROWS", 100)
    features, out = midpoints(300)[0], tmp_path / "out"

    def stop(done, n):
        if done >= 200:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ps.scan(features, 5, threads=1, output=out, progress=stop)
    part = out / "parts" / "scores-000000000000.parquet"
    content = part.read_bytes()
    flip(part, 600)
    with pytest.raises(ScanError, match=r"scores-000000000000\.parquet is damaged .*: remove it"):
        ps.scan(features, 5, threads=1, output=out)
    pq.write_table(pq.read_table(pa.BufferReader(content)).slice(0, 7), part)
    with pytest.raises(ScanError, match="holds 7 of 100 rows: remove it"):
        ps.scan(features, 5, threads=1, output=out)
    part.unlink()
    np.testing.assert_array_equal(
        ps.scan(features, 5, threads=1, output=out).scores, ps.scan(features, 5, threads=1).scores
    )


def test_pairs_of_rows_that_are_not_there(tmp_path):
    ps.scan(midpoints(300)[0], 5, threads=1).save(tmp_path)
    scores = pq.read_table(tmp_path / "scores.parquet")
    rows = pa.array(scores.column("row").to_numpy() + 1000)
    write_table(tmp_path / "scores.parquet", scores.set_column(0, "row", rows))
    with pytest.raises(DataError, match=r"pairs\.parquet names row \d+, which scores\.parquet lacks"):
        ps.Scan.load(tmp_path)


KILLED_BEFORE_ITS_PAGE = """
import os, signal, sys
from pairsift import cli
from pairsift.scanning import Scan
Scan.report = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
cli.guarded(sys.argv[1:], False)
"""


@pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals")
def test_a_scan_killed_before_its_page_writes_it(tmp_path, capsys):
    file, whole, out = tmp_path / "x.parquet", tmp_path / "whole", tmp_path / "out"
    pq.write_table(pa.table({"features": list(midpoints(300)[0])}), file)
    command = ["scan", str(file), "--n-classes", "5", "--threads", "1", "-o"]
    assert cli.guarded([*command, str(whole)], False) == 0
    killed = warm.run("-c", KILLED_BEFORE_ITS_PAGE, *command, out)
    assert killed.returncode == -signal.SIGKILL
    assert (out / "scan.json").exists()
    assert not (out / "report.html").exists()
    assert cli.guarded([*command, str(out)], False) == 0
    assert "continuing: 300 of 300 rows are scored" in capsys.readouterr().err
    assert {each.name: each.read_bytes() for each in out.iterdir()} == {
        each.name: each.read_bytes() for each in whole.iterdir()
    }
    assert cli.guarded([*command, str(out)], False) == 1  # finished now


@pytest.mark.parametrize(
    "words",
    ["[/x/gloo/transport/tcp/pair.cc:534] Connection closed by peer", "Application timeout caused pair closure",
     "another process did not answer while the batch was exchanged: it ended"],
)  # fmt: skip
def test_a_lost_process_is_told_whatever_gloo_calls_it(words):
    with pytest.raises(RunError, match="one of 2 processes ended or lost its connection"), lost(2):
        raise RuntimeError(words)
    for processes, other in ((2, "size mismatch"), (1, words)):
        with pytest.raises(RuntimeError, match=f"^{re.escape(other)}"), lost(processes):
            raise RuntimeError(other)


def lost(processes):
    return telling_of_lost_processes(TrainConfig(data="digits", devices=processes))


def test_an_array_that_is_walked_backwards_is_an_array():
    x, y = np.eye(4, 1, dtype=np.float32), np.arange(4) % 2
    assert (x[:1][::-1].strides, x[:1][::-1].flags.c_contiguous) == ((-4, 4), True)  # contiguous, to numpy
    assert knn(x + 1, y, x[:1][::-1] + 0, y[:1], k=1) == knn(x + 1, y, x[:1], y[:1], k=1)
    for values in (x[:1][::-1], np.eye(3)[:, ::-1]):
        assert min(real_array(values, "x").strides) > 0
        assert (real_array(values, "x") == values).all()


def test_a_drop_list_of_other_bytes_is_refused_in_a_line(tmp_path):
    file = tmp_path / "drop.csv"
    file.write_bytes(b"row\n1\n2,\x00\x01binary\nmore,\x02\r\nlines")
    with pytest.raises(DataError, match=r"is not a drop list, .*Expected 1 columns") as refused:
        without_rows(load_images("digits:train", per_class=1), file)
    assert str(refused.value).isprintable()
    assert first_line(ValueError("\n")) == "ValueError"


def test_labels_of_several_lengths_are_refused():
    features = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    ragged = [[1, 2], [3]] * 20
    with pytest.raises(ValueError, match="labels must be one whole number or name a row"):
        ps.scan(features, labels=ragged)


@pytest.mark.parametrize("name", ["pairs", "duplicates"])
def test_a_table_of_a_scan_that_lost_its_rows_is_refused(tmp_path, name):
    features = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
    ps.scan(np.concatenate([features, features[:5]]), n_classes=3).save(tmp_path)
    table = pq.read_table(tmp_path / f"{name}.parquet")
    assert len(table)
    pq.write_table(table.slice(0, 0), tmp_path / f"{name}.parquet")
    with pytest.raises(DataError, match=rf"{name}.parquet has 0 rows, scan.json counts {len(table)}"):
        ps.Scan.load(tmp_path)


@pytest.mark.parametrize("name", ["z", "h"])
def test_a_labelled_loss_refuses_whole_numbers_as_projections(name):
    given = {"z": torch.randn(6, 3), "h": torch.randn(6, 4)}
    given[name] = torch.ones_like(given[name], dtype=torch.int64)
    with pytest.raises(ValueError, match=f"{name} must be floating point, got torch.int64"):
        ps.losses.LabelledNTXentLoss(0.5)(given["z"], torch.arange(6) // 2, given["h"])
