"""What is found in pairs, against nested loops and by hand."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import pairsift as ps
from pairsift.data import DataError
from pairsift.retrieval import PairsError, inspect_pairs


def texts(**columns):
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def reasons(found, row):
    return set(found.rows["reasons"][row].as_py())


# Against nested loops


@pytest.mark.parametrize(("margin", "floor", "cap"), [(None, None, 0.1), (0.0, -1.0, 1.0), (0.2, 0.6, 0.02)])
def test_likely_false_negatives_are_those_of_nested_loops(table, embeddings, loops, margin, floor, cap):
    found = inspect_pairs(table, margin=margin, floor=floor, cap=cap, neighbours=119)
    guide = found.facts["guide"]
    assert not guide["off_because"]
    oracle = loops(*embeddings, guide["margin"], guide["floor"], cap)
    own, ranks = found.rows["similarity"].to_numpy(), found.rows["rank"].to_numpy()
    assert own == pytest.approx(oracle.own, abs=1e-5)
    assert ranks == pytest.approx([oracle.rank(i) for i in range(120)], abs=1e-6)
    keys = found.rows["positive_key"].to_numpy()
    counts = [len({keys[j] for j in oracle.likely(i)}) for i in range(120)]
    assert sum(counts) > 20
    assert found.rows["false_negatives"].to_pylist() == counts
    anchors = found.rows["anchor_key"].to_numpy()
    pairs = {frozenset((anchors[i], keys[j])) for i in range(120) for j in oracle.likely(i)}
    listed = found.conflicts.filter(pa.compute.equal(found.conflicts["reason"].cast("string"), "likely false negative"))
    kept = set(anchors[found.rows["kept"].to_numpy()]) | set(keys[found.rows["kept"].to_numpy()])
    assert {frozenset(pair) for pair in zip(*(listed[c].to_pylist() for c in ("key", "other_key")), strict=True)} == {
        pair for pair in pairs if pair <= kept
    }
    facts = found.facts["false_negatives"]
    for name, count in (
        ("identical", lambda i: 0), ("likely", lambda i: len(oracle.likely(i))),
        ("margin_alone", lambda i: len(oracle.likely(i, floor=False))),
    ):  # fmt: skip
        rate = np.mean([len(oracle.twins(i)) + count(i) for i in range(120)]) / 119
        assert facts[name]["rate"] == pytest.approx(rate, rel=1e-9)
        assert facts[name]["half_width"] == 0  # every row was looked at
        assert facts[name]["expected"]["256"]["mean"] == pytest.approx(255 * rate)


def test_margin_and_floor_are_those_of_the_guide_mask(table, embeddings):
    found = inspect_pairs(table).facts["guide"]
    mask = ps.GuideMask.fit(*embeddings)
    assert found["margin"] == pytest.approx(mask.margin, rel=1e-4)
    assert found["floor"] == pytest.approx(mask.floor, rel=1e-4)


def test_a_sample_of_rows_has_an_interval_that_holds_the_whole(table):
    whole = inspect_pairs(table, floor=-1).facts["false_negatives"]["likely"]["rate"]
    inside = 0
    for seed in range(20):
        rate = inspect_pairs(table, floor=-1, sample=60, seed=seed).facts["false_negatives"]["likely"]
        assert rate["half_width"] > 0
        inside += abs(rate["rate"] - whole) <= rate["half_width"]
    assert inside >= 16


def test_near_duplicates_are_found_and_kept_apart():
    rng = np.random.default_rng(0)
    a, p = rng.standard_normal((2, 200, 24))
    a[150:160] = a[:10] + 1e-2 * rng.standard_normal((10, 24))
    p[150:155] = p[:5] + 1e-2 * rng.standard_normal((5, 24))
    found = inspect_pairs(pa.table({"anchor": list(a), "positive": list(p)}))
    assert found.facts["near_duplicates"]["anchors"]["pairs"] == 10
    assert found.facts["near_duplicates"]["positives"]["pairs"] == 5
    assert found.facts["near_duplicates"]["rows"] == 5
    assert found.rows["near_duplicate_of"].to_pylist()[150:156] == [0, 1, 2, 3, 4, None]
    assert found.facts["clean_rows"] == 200
    near = found.conflicts.filter(pa.compute.match_substring(found.conflicts["reason"].cast("string"), "near"))
    pairs = {frozenset(pair) for pair in zip(near["row"].to_pylist(), near["other"].to_pylist(), strict=True)}
    assert pairs == {frozenset((i, 150 + i)) for i in range(10)}
    fewer = inspect_pairs(pa.table({"anchor": list(a), "positive": list(p)}), drop_near=True)
    assert fewer.facts["clean_rows"] == 195
    assert not fewer.rows["kept"].to_numpy()[150:155].any()
    none = inspect_pairs(pa.table({"anchor": list(a), "positive": list(p)}), near=1.0)
    assert none.facts["near_duplicates"]["anchors"]["pairs"] == 0


# By hand


def test_texts_without_a_guide_are_compared_as_texts():
    said = []
    found = inspect_pairs(
        texts(
            query=["Lost card", "lost  CARD ", "lost card", "b", "", None, "d", "e"],
            answer=["x", "X", "y", "y", "z", "z", "  ", "E"],
        ),
        say=said.append,
    )
    assert "no guide" in said[0]
    assert found.facts["guide"] is None
    assert found.facts["near_duplicates"] is None
    assert found.summary.clean_rows == found.facts["clean_rows"] == 4
    assert reasons(found, 0) == {"anchor repeats", "positive repeats"}
    assert reasons(found, 1) == {"duplicate", "anchor repeats", "positive repeats"}
    assert found.rows["duplicate_of"].to_pylist() == [None, 0, *[None] * 6]
    assert [reasons(found, row) for row in (4, 5, 6)] == [{"anchor empty"}, {"anchor missing"}, {"positive empty"}]
    assert reasons(found, 7) == {"positive is the anchor"}
    assert found.rows["kept"].to_pylist() == [True, False, True, True, False, False, False, True]
    assert found.rows["clean_row"].to_pylist() == [0, None, 1, 2, None, None, None, 3]
    assert found.facts["duplicates"]["anchors"] == {"different": 3, "repeats": 2, "most": 3}
    # Rows 0, 1, 2 meet two others that are answers of "lost card"; all three meet row 3, whose answer is theirs.
    assert found.facts["false_negatives"]["likely"]["rate"] == pytest.approx((3 + 3 + 3 + 1 + 0) / 5 / 4)


def test_every_different_text_is_encoded_once(words):
    encoder = words("red", "blue")
    found = inspect_pairs(
        texts(anchor=["red?", "RED?", "blue?"], positive=["a red one", "a blue one", "a blue one"]), encoder=encoder
    )
    assert encoder.asked == 4
    assert found.facts["guide_name"] == "Words" or "Words" in found.facts["guide_name"]


@pytest.mark.parametrize("listed", [False, True])
def test_mined_negatives_that_look_like_positives_are_taken_out(words, listed, tmp_path):
    colours = ["red", "blue", "green", "grey", "black", "white", "pink", "brown", "cyan", "lime", "teal", "gold"]
    anchors, positives = [f"{each}?" for each in colours], [f"a {each} one" for each in colours]
    first = ["A  red one", "blue it is", "a red one", None, "", *positives[6:], "a teal one"]
    second = ["a blue one"] * 12
    given = {"negatives": [[a, b] for a, b in zip(first, second, strict=True)]} if listed else {
        "negative_1": first, "negative_2": second
    }  # fmt: skip
    found = inspect_pairs(
        texts(anchor=anchors, positive=positives, **given), encoder=words(*colours), margin=0.1, floor=0.5
    )
    # Row 0: its own positive in other letters; row 1: the guide says so, and its own positive; row 11: nothing.
    assert found.rows["bad_negatives"].to_pylist() == [1, 2, *[0] * 10]
    assert found.facts["mined_negatives"] == {
        "negatives": 22, "identical": 2, "likely": 1, "margin_alone": 1, "rows": 2, "refilled": 1 if listed else 5
    }  # fmt: skip
    assert found.clean(tmp_path / "clean.parquet") == 12
    clean = pq.read_table(tmp_path / "clean.parquet")
    if listed:
        lists = clean["negatives"].to_pylist()
        assert lists[0] == ["a blue one"]
        assert len(lists[1]) == 1  # it lost both
        assert lists[1][0] not in ("a blue one", "blue it is")
        assert lists[2:5] == [["a red one", "a blue one"], ["a blue one"], ["a blue one"]]
        gallery = next(each for each in found.galleries if "Mined" in each.heading)
        assert {example[2].text for example in gallery.examples} == {"A  red one", "blue it is", "a blue one"}
    else:
        for row, (one, other) in enumerate(
            zip(clean["negative_1"].to_pylist(), clean["negative_2"].to_pylist(), strict=True)
        ):
            assert {one, other} < set(positives) | {"a red one"}
            assert one != other
            assert positives[row] not in (one, other)
        assert clean["negative_2"].to_pylist()[0] == "a blue one"
        assert clean["negative_1"].to_pylist()[2] == "a red one"
        empty = inspect_pairs(texts(anchor=anchors, positive=positives, **given), encoder=words(*colours), margin=0.1,
                              floor=0.5, bad_negatives="null")  # fmt: skip
        empty.clean(tmp_path / "empty.parquet")
        clean = pq.read_table(tmp_path / "empty.parquet")
        assert clean["negative_1"].to_pylist()[:5] == [None, None, "a red one", None, ""]
        assert clean["negative_2"].to_pylist()[:3] == ["a blue one", None, "a blue one"]
    dropped = inspect_pairs(
        texts(anchor=anchors, positive=positives, **given),
        encoder=words(*colours),
        margin=0.1,
        floor=0.5,
        bad_negatives="drop",
    )
    assert dropped.facts["clean_rows"] == (10 if listed else 8)  # two columns also miss two texts


def test_rows_with_other_negatives_are_no_duplicates():
    found = inspect_pairs(
        texts(anchor=["a", "a", "a"], positive=["p", "P", "p"], negative_1=["m", "n", "M"], negative_2=["k", "k", "k"])
    )
    assert found.rows["duplicate_of"].to_pylist() == [None, None, 0]


def test_a_guide_that_knows_nothing_is_off():
    rng = np.random.default_rng(0)
    said = []
    found = inspect_pairs(
        pa.table({"anchor": list(rng.standard_normal((300, 8))), "positive": list(rng.standard_normal((300, 8)))}),
        say=said.append,
    )
    assert "the guide is off" in found.facts["guide"]["off_because"]
    assert any("the guide is off" in line for line in said)
    assert found.facts["guide"]["unreliable_rows"] == 300
    assert found.facts["false_negatives"]["rows_with_some"] == 0
    assert found.facts["false_negatives"]["likely"]["rate"] == 0


def test_one_row_meets_nobody(words, tmp_path):
    for options in ({}, {"encoder": words("a")}):
        found = inspect_pairs(texts(anchor=["a"], positive=["b"]), **options)
        assert found.facts["false_negatives"] is None
        assert len(found.conflicts) == 0
        found.report(tmp_path / "page.html")
        assert found.clean(tmp_path / "clean.parquet") == 1


def test_more_neighbours_than_looked_at_are_said():
    a = np.tile(np.eye(4, 8), (10, 1)) + 0.01 * np.random.default_rng(0).standard_normal((40, 8))
    said = []
    found = inspect_pairs(
        pa.table({"anchor": list(a), "positive": list(a[::-1].copy()[np.arange(40) // 4 * 4 + 3 - np.arange(40) % 4])}),
        neighbours=2, margin=0.5, floor=-1, cap=1.0, say=said.append,
    )  # fmt: skip
    assert found.facts["false_negatives"]["rows_cut_at_neighbours"] == 40
    assert any("`neighbours`" in line for line in said)


def test_the_most_similar_conflicts_are_kept(table):
    everything = inspect_pairs(table, floor=-1, cap=1.0, near=1.0)
    some = inspect_pairs(table, floor=-1, cap=1.0, near=1.0, max_conflicts=7)
    assert len(everything.conflicts) > 7 == len(some.conflicts)
    assert some.facts["false_negatives"]["conflicts_left_out"] > 0
    strongest = np.sort(everything.conflicts["similarity"].to_numpy())[-7:]
    assert np.sort(some.conflicts["similarity"].to_numpy()) == pytest.approx(strongest)


# Guides from files


def test_features_beside_texts_say_what_embeddings_say(table, embeddings, tmp_path):
    names = texts(anchor=[f"a{i}" for i in range(120)], positive=[f"p{i}" for i in range(120)])
    pq.write_table(table, tmp_path / "guide.parquet")
    np.save(tmp_path / "guide.npy", np.concatenate(embeddings))
    found = [inspect_pairs(names, guide_features=tmp_path / f"guide.{kind}") for kind in ("parquet", "npy")]
    own = inspect_pairs(table).rows["similarity"].to_numpy()
    for each in found:
        assert each.rows["similarity"].to_numpy() == pytest.approx(own, abs=1e-6)
    assert found[0].conflicts.equals(found[1].conflicts)


@pytest.mark.parametrize(
    ("guide", "message"),
    [
        ("short.npy", r"has 239 rows, the table 120 in 2 columns \(anchor, positive\): give 240 rows of features"),
        ("short.parquet", "holds 119 rows of embeddings, the table 120 rows: give embeddings of the same pairs"),
        ("texts.parquet", "holds 120 rows of texts"),
        ("missing.npy", "no features at"),
        ("missing.parquet", "no pairs at"),
    ],
)
def test_a_guide_of_other_rows_is_refused(table, embeddings, tmp_path, monkeypatch, guide, message):
    monkeypatch.chdir(tmp_path)
    np.save("short.npy", np.concatenate(embeddings)[:239])
    pq.write_table(table.slice(0, 119), "short.parquet")
    names = texts(anchor=[f"a{i}" for i in range(120)], positive=[f"p{i}" for i in range(120)])
    pq.write_table(names, "texts.parquet")
    with pytest.raises((DataError, PairsError), match=message):
        inspect_pairs(names, guide_features=guide, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("gives", "message"),
    [
        (lambda texts: np.zeros((len(texts), 3)), "not finite or all zero"),
        (lambda texts: np.full((len(texts), 3), np.nan), "not finite or all zero"),
        (lambda texts: np.ones((1, 3)), r"gave \(1, 3\) for 4 texts: it must give \(4, D\)"),
    ],
)
def test_what_an_encoder_gives_is_checked(gives, message):
    encoder = type("Encoder", (), {"encode": lambda self, texts: gives(texts)})()
    with pytest.raises(PairsError, match=message):
        inspect_pairs(texts(anchor=["a", "b"], positive=["c", "d"]), encoder=encoder)


def test_guides_that_cannot_be_had_are_said(table):
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    with pytest.raises(PairsError, match=r"the guide '\./nowhere' cannot be loaded .*: give 'minilm'"):
        inspect_pairs(texts(anchor=["a"], positive=["b"]), guide_model="./nowhere")
    with pytest.raises(PairsError, match="holds embeddings, which 'minilm' cannot encode: leave `guide_model` out"):
        inspect_pairs(table, guide_model="minilm")
    with pytest.raises(TypeError, match="give an encoder or a guide, got both: 'minilm'"):
        inspect_pairs(table, guide_model="minilm", encoder=object())
    with pytest.raises(PairsError, match=r"'f\.npy' is a file of features: give it as `guide_features`"):
        inspect_pairs(texts(anchor=["a"], positive=["b"]), guide_model="f.npy")
    with pytest.raises(PairsError, match=r"a file that ends in \.npy, .*got `guide_features=f\.txt`"):
        inspect_pairs(texts(anchor=["a"], positive=["b"]), guide_features="f.txt")


def test_lists_of_negatives_need_an_encoder(tmp_path):
    np.save(tmp_path / "f.npy", np.ones((6, 2), np.float32))
    data = texts(anchor=["a", "b"], positive=["c", "d"], negatives=[["x"], []])
    with pytest.raises(PairsError, match="'negatives' holds lists of texts"):
        inspect_pairs(data, guide_features=tmp_path / "f.npy")


# Inputs that are refused, or mended


def test_rows_that_are_not_finite_or_zero_are_left_out(embeddings):
    a, p = (each.copy() for each in embeddings)
    a[0, 3], a[1], p[2, 0] = np.nan, 0, np.inf
    data = pa.table({"anchor": [None if i == 4 else row for i, row in enumerate(a)], "positive": list(p)})
    found = inspect_pairs(data)
    assert [reasons(found, row) for row in (0, 1, 2, 4)] == [
        {"anchor not finite"}, {"anchor empty"}, {"positive not finite"}, {"anchor missing"}
    ]  # fmt: skip
    assert found.facts["usable_rows"] == 116
    assert np.isnan(found.rows["similarity"].to_numpy()[[0, 1, 2, 4]].astype(float)).all()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"anchor": ["a"]}, "no column of positives .*; its columns: anchor: name one with `positive`"),
        ({"text": ["a"], "positive": ["b"]}, r"no column of anchors \(anchor, query, .*its columns: text, positive"),
        ({"anchor": ["a"], "positive": [[1.0]]}, "'anchor' holds texts and column 'positive' embeddings"),
        ({"anchor": [1], "positive": [2]}, "column 'anchor' is int64: anchors, positives and negatives are texts or"),
        ({"anchor": [["a"]], "positive": ["b"]}, "a row needs one anchor and one positive, not a list"),
        ({"anchor": ["", None], "positive": ["b", "c"]}, "none of 2 rows has both .*'anchor' in 2, 'positive' in 0"),
        ({"anchor": [], "positive": []}, "the table holds no rows"),
        ({"anchor": [[1.0, 2.0], [1.0]], "positive": [[1.0], [1.0]]}, "row 1 has 1 dimensions, rows before it 2"),
        ({"anchor": [[1.0, 2.0]], "positive": [[1.0]]}, "columns have 2 and 1 dimensions"),
    ],
)
def test_what_are_no_pairs_is_refused(data, message, tmp_path):
    data = pa.table({name: pa.array(each, None if each else pa.string()) for name, each in data.items()})
    with pytest.raises((DataError, PairsError), match=message):
        inspect_pairs(data, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"anchor": "ancor"}, "has no column 'ancor'; its columns: anchor, positive, note: see `anchor`"),
        ({"negatives": "note, more"}, "has no column 'more'; its columns: anchor, positive, note: see `negatives`"),
        ({"positive": "anchor"}, "anchors and positives are both column 'anchor'"),
    ],
)
def test_columns_that_are_named_must_be_there(settings, message):
    with pytest.raises(DataError, match=message):
        inspect_pairs(texts(anchor=["a"], positive=["b"], note=["c"]), **settings)


def test_columns_can_be_named():
    data = texts(one=["a"], two=["b"], three=["a"], negative=["b"])
    found = inspect_pairs(data, anchor="one", positive="two", negatives="three")
    assert found.facts["columns"] == ["one", "two", "three"]
    assert found.facts["mined_negatives"]["identical"] == 1
    assert inspect_pairs(data, anchor="one", positive="two", negatives="none").facts["mined_negatives"] is None
    assert inspect_pairs(data, anchor="one", positive="two").facts["columns"] == ["one", "two", "negative"]


def test_shards_and_dictionaries_are_one_table(tmp_path):
    whole = texts(anchor=[f"a{i % 7}" for i in range(40)], positive=[f"p{i % 11}" for i in range(40)])
    coded = pa.table({name: whole[name].dictionary_encode() for name in whole.column_names})
    (tmp_path / "shards").mkdir()
    for i in range(2):
        pq.write_table(coded.slice(20 * i, 20), tmp_path / "shards" / f"{i}.parquet")
    expected = inspect_pairs(whole)
    for data in (coded, tmp_path / "shards"):
        assert inspect_pairs(data).rows.equals(expected.rows)
    pq.write_table(whole.rename_columns(["anchor", "other"]), tmp_path / "shards" / "2.parquet")
    with pytest.raises(DataError, match=r"2\.parquet has other columns or types than .*0\.parquet"):
        inspect_pairs(tmp_path / "shards")


def test_damaged_and_missing_files_are_refused(tmp_path):
    pq.write_table(texts(anchor=["a"] * 999, positive=["b"] * 999), tmp_path / "pairs.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "pairs.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cut\.parquet cannot be read as parquet"):
        inspect_pairs(tmp_path / "cut.parquet", out=tmp_path / "out")
    with pytest.raises(DataError, match="no pairs at"):
        inspect_pairs(tmp_path / "none.parquet")
    with pytest.raises(TypeError, match=r"a path, a pyarrow\.Table, .* got list"):
        inspect_pairs(["a"])
    assert not (tmp_path / "out").exists()


# What is written


def test_everything_is_saved_and_nothing_is_left_over(table, tmp_path):
    data = table.append_column("note", pa.array(map(str, range(120))))
    pq.write_table(data, tmp_path / "pairs.parquet")
    found = inspect_pairs(tmp_path / "pairs.parquet", out=tmp_path / "out")
    assert {each.name for each in (tmp_path / "out").iterdir()} == {
        "rows.parquet", "conflicts.parquet", "clean.parquet", "report.html", "pairs.json"
    }  # fmt: skip
    facts = json.loads((tmp_path / "out" / "pairs.json").read_text())
    assert facts == json.loads(json.dumps(found.facts, default=str))
    assert facts["settings"]["cap"] == 0.1
    assert facts["versions"]["pairsift"] == ps.__version__
    assert pq.read_table(tmp_path / "out" / "rows.parquet").column_names == found.rows.column_names
    clean = pq.read_table(tmp_path / "out" / "clean.parquet")
    assert clean.equals(data.filter(found.rows["kept"]))
    assert len(clean) == 119  # row 50 is row 20 again
    kept = found.rows["clean_row"].to_pylist()
    assert [kept[row] for row in found.conflicts["row"].to_pylist()] == found.conflicts["clean_row"].to_pylist()


def test_a_folder_in_use_is_refused(table, tmp_path):
    out = tmp_path / "out"
    inspect_pairs(table, out=out)
    before = (out / "pairs.json").read_bytes()
    with pytest.raises(PairsError, match="holds a finished inspection: use `overwrite=True`, or another folder"):
        inspect_pairs(table, out=out)
    inspect_pairs(table, out=out, overwrite=True, cap=0.2)
    assert (out / "pairs.json").read_bytes() != before
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "file").touch()
    with pytest.raises(PairsError, match="exists and is not empty"):
        inspect_pairs(table, out=tmp_path / "some")
    with pytest.raises(PairsError, match="is a file: name a folder"):
        inspect_pairs(table, out=tmp_path / "some" / "file")


def test_the_same_seed_gives_the_same_tables(table):
    first, second = (inspect_pairs(table, sample=50, seed=3) for _ in range(2))
    assert first.rows.equals(second.rows)
    assert first.conflicts.equals(second.conflicts)
    assert first.facts == second.facts


def test_keywords_are_settings(table):
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'margn': did you mean 'margin'"):
        inspect_pairs(table, margn=0.1)
