"""What is found in pairs, against nested loops and by hand."""

import csv
import gzip
import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

import pairsift as ps
from pairsift.data import DataError
from pairsift.retrieval import PairsError, inspect_pairs
from pairsift.retrieval.report import expectations, notes, numbers


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


def test_an_approximate_search_says_how_much_it_finds(table, monkeypatch):
    exact = inspect_pairs(table, floor=-1)
    monkeypatch.setattr("pairsift.retrieval.index.FLAT_LIMIT", 50)
    monkeypatch.setattr("pairsift.retrieval.index._LIST_ROWS", 8)
    found = inspect_pairs(table, floor=-1)
    assert found.facts["search"]["exact"] is False
    assert 0.5 < found.facts["search"]["recall"] <= 1
    assert any(line.startswith("The search is approximate: it finds") for line in notes(found.summary))
    missed = found.rows["false_negatives"].to_numpy() - exact.rows["false_negatives"].to_numpy()
    assert (missed <= 0).all()
    assert missed.sum() > -0.4 * exact.rows["false_negatives"].to_numpy().sum()


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
    assert found.facts["near_duplicates"]["rows"] == 0
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
        "negatives": 22, "identical": 2, "likely": 1, "margin_alone": 1, "rows": 2, "refilled": 1 if listed else 5,
        "bad": 3, "bad_without_floor": 3,
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


# Labels and scores


@pytest.mark.parametrize(
    ("column", "values", "positive", "options"),
    [
        ("label", [0, 1, 1, 0], [1, 2], {}),
        ("label", [False, True, True, False], [1, 2], {}),
        ("labels", [-1, 1, 1, -1], [1, 2], {}),
        ("label", ["0", "1", "true", "FALSE"], [1, 2], {}),
        ("score", [0.0, 0.5, 0.9, 0.49], [1, 2], {}),
        ("score", [0.1, 4.0, 5.0, 3.9], [1, 2], {"min_score": 4.0}),
        ("label", [2, 0, 0, 1], [1, 2], {"positive_label": "0"}),
        ("label", ["neutral", "same", "entailed", "other"], [1, 2], {"positive_label": "same, entailed"}),
        ("good", [0, 1, 1, 0], [1, 2], {"label": "good"}),
        ("Label", [0, 1, 1, 0], [1, 2], {}),
        ("similarity", [0.1, 0.8, 0.5, 0.2], [1, 2], {}),
        ("is_match", [False, True, True, False], [1, 2], {}),
        ("label", ["0.0", "1.0", "1.0", "0.0"], [1, 2], {}),
        ("label", ["0.25", "4", "5.0", "1e-1"], [1, 2], {"min_score": 4.0}),
        ("label", pa.array([Decimal(each) for each in "0110"], pa.decimal128(5, 1)), [1, 2], {}),
        ("label", [2.0, 0.0, 0.0, 1.0], [1, 2], {"positive_label": "0"}),
        ("label", [False, True, True, False], [1, 2], {"positive_label": "true"}),
        ("label", [7, 0, 3, 5], [0, 1, 2, 3], {"label": "none"}),
        ("scores", [[0.1], [0.2], [0.3], [0.4]], [0, 1, 2, 3], {}),  # lists are no labels of pairs
    ],
)
def test_labels_say_which_rows_are_pairs(column, values, positive, options):
    said = []
    data = texts(anchor=list("abcd"), positive=list("efgh"), **{column: values})
    found = inspect_pairs(data, say=said.append, **options)
    kept = [row for row, each in enumerate(found.rows["kept"].to_pylist()) if each]
    assert kept == positive
    assert found.facts["usable_rows"] == len(positive)
    assert [reasons(found, row) >= {"labelled negative"} for row in range(4)] == [
        row not in positive for row in range(4)
    ]
    labelled = len(positive) < 4
    assert any(f"column '{column}'" in line and "2 of 4 rows are pairs, 2 are not" in line for line in said) == labelled
    assert (found.facts["labels"] is not None) == labelled
    assert any("2 are not and are left out" in line for line in notes(found.summary)) == labelled


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0, 1, 2, 1], "column 'label' holds 0, 1, 2, and which of them mark positive pairs is not known: name them"),
        ([1, 2, 2, 1], "column 'label' holds 1, 2, and"),
        (
            [0.5, 3.0, 5.0, 1.0],
            r"holds 0\.5, 1, 3, 5, and .* or the least score with `min_score`, or ignore the column with",
        ),
        (["pos", "neg", "pos", "neg"], "holds neg, pos, and which"),
        ([0, 0, 0, 0], r"none of 4 rows has both .*; in 'label' label 1 is positive, which 0 rows are: `label='none'`"),
    ],
)
def test_labels_of_unknown_meaning_are_refused(values, message, tmp_path):
    data = texts(anchor=list("abcd"), positive=list("efgh"), label=values)
    with pytest.raises((DataError, PairsError), match=message):
        inspect_pairs(data, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_columns_that_may_be_labels_and_are_not_read_are_named():
    pairs = {"anchor": list("abcd"), "positive": list("efgh"), "row_id": [3, 4, 5, 6]}
    said = []
    found = inspect_pairs(texts(**pairs, good=[0, 1, 1, 0]), say=said.append)
    words = "ot read: 'good'. If a column says which rows are positive pairs, name it with `label`"
    assert any(words in line for line in said)
    assert any(words in line for line in notes(found.summary))
    assert found.facts["usable_rows"] == 4
    found = inspect_pairs(texts(**pairs, label=[0, 1, 1, 0], score=[0.1, 0.2, 0.9, 0.3], length=[1, 2, 3, 4]))
    assert any("ot read: 'score'." in line for line in notes(found.summary))
    for options in ({"label": "good"}, {"label": "none"}):
        found = inspect_pairs(texts(**pairs, good=[0, 1, 1, 0]), **options)
        assert not any("ot read:" in line for line in notes(found.summary))
    words = texts(**pairs, target=["word"] * 4)  # a target of texts is no label
    assert inspect_pairs(words).facts["labels"] is None


@pytest.mark.parametrize("column", ["anchor", "positive", "negative", "source"])
def test_runs_of_texts_are_written_plainly(column, tmp_path):
    held = {"anchor": list("aabc"), "positive": list("efgh"), "negative": list("xyzw"), "source": ["s"] * 4}
    table = texts(**{name: pc.run_end_encode(pa.array(each)) if name == column else each
                     for name, each in held.items()})  # fmt: skip
    inspect_pairs(table, output=tmp_path / "out")
    clean = pq.read_table(tmp_path / "out" / "clean.parquet")
    assert clean.schema.field(column).type == pa.string()
    assert clean[column].to_pylist() == held[column]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"label": "note"}, r"column 'note' is list<.*>: labels of pairs are numbers, booleans or words"),
        ({"label": "lable"}, "has no column 'lable'"),
        ({"positive_label": "yes"}, "column 'label' holds no label 'yes'; its labels: 0, 1"),
        ({"label": "none", "min_score": 0.5}, "has no column of labels or scores: name one with `label`"),
    ],
)
def test_settings_of_labels_must_fit(settings, message):
    data = texts(anchor=["a", "b"], positive=["c", "d"], label=[0, 1], note=[["x"], ["y"]])
    with pytest.raises((DataError, PairsError), match=message):
        inspect_pairs(data, **settings)


def named_classes(names, values):
    """A table whose labels have names, as the datasets library writes it."""
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    table = texts(anchor=list("abcd"), positive=list("efgh"), label=values)
    return table.replace_schema_metadata({b"huggingface": json.dumps({"info": {"features": features}}).encode()})


def test_names_of_labels_are_heeded():
    assert inspect_pairs(named_classes(["not_same", "same"], [0, 1, 1, 0])).facts["usable_rows"] == 2
    for names in (["entailment", "not_entailment"], ["entailment", "neutral", "contradiction"]):
        data = named_classes(names, [0, 1, 1, 0])
        with pytest.raises(PairsError, match=f"holds {', '.join(names)}, and which of them mark positive pairs"):
            inspect_pairs(data)
        assert inspect_pairs(data, positive_label="entailment").rows["kept"].to_pylist() == [True, False, False, True]


def test_missing_labels_leave_a_row_out():
    data = texts(anchor=list("abc"), positive=list("def"), label=[1, None, 0])
    found = inspect_pairs(data)
    assert reasons(found, 1) == {"label missing"}
    assert found.rows["kept"].to_pylist() == [True, False, False]
    unlabelled = inspect_pairs(texts(anchor=list("abc"), positive=list("def"), label=[1, -1, 0]))
    assert reasons(unlabelled, 1) == {"label missing"}


def test_labels_that_contradict_are_reported_and_are_no_duplicates(tmp_path):
    data = texts(anchor=["a", "a", "A", "b"], positive=["p", "p", "P", "q"], score=[0.9, 0.1, 0.9, 0.8])
    found = inspect_pairs(data)
    assert found.rows["duplicate_of"].to_pylist() == [None, None, 0, None]
    assert [("labels contradict" in reasons(found, row)) for row in range(4)] == [True, True, True, False]
    assert found.facts["labels"]["contradicting"] == 3
    assert any("3 rows contradict each other" in line for line in notes(found.summary))
    assert found.rows["kept"].to_pylist() == [True, False, False, True]
    other = inspect_pairs(texts(anchor=["a", "a"], positive=["p", "p"], score=[0.9, 0.8]))
    assert other.facts["clean_rows"] == 2  # another score is another row
    kept = inspect_pairs(data, labelled_negatives="keep")
    assert kept.clean(tmp_path / "clean.parquet") == 3
    assert pq.read_table(tmp_path / "clean.parquet")["score"].to_pylist() == [0.9, 0.1, 0.8]


def test_what_a_label_denies_is_no_false_negative(words):
    colours = ["red", "blue", "green", "grey", "black", "white", "pink", "brown", "cyan", "lime"]
    anchors, positives = [f"{each}?" for each in colours], [f"a {each} one" for each in colours]
    pairs = {"anchor": [*anchors, "say red"], "positive": [*positives, "it is red"], "label": [1] * 11}
    options = {"encoder": words(*colours), "margin": 0.1, "floor": 0.5, "cap": 0.5, "near": 1.0}
    found = inspect_pairs(texts(**pairs), **options)
    assert found.rows["false_negatives"].to_pylist() == [1, *[0] * 9, 1]
    pairs = {name: [*values, *more] for (name, values), more in zip(
        pairs.items(), (["red?"], ["it is red"], [0]), strict=True
    )}  # fmt: skip
    fewer = inspect_pairs(texts(**pairs), **options)
    assert fewer.rows["false_negatives"].to_pylist() == [0, *[0] * 9, 1, 0]
    rates = [each.facts["false_negatives"]["likely"]["rate"] for each in (found, fewer)]
    assert rates[1] == pytest.approx(rates[0] / 2)


# Splits and formats


def hub_folder(folder, layout):
    """Training and test rows of which one is the same, in one of the hub's layouts."""
    train = texts(anchor=[f"a{i}" for i in range(12)], positive=[f"p{i}" for i in range(12)])
    files = {
        "data": {"data/train-00000-of-00002": train[:10], "data/train-00001-of-00002": train[10:],
                 "data/test-00000-of-00001": train[:1]},
        "flat": {"train": train, "test": train[:1], "validation": train[:2]},
        "folders": {"train/0": train[:10], "train/10": train[10:], "test/0": train[:1]},
    }[layout]  # fmt: skip
    for name, table in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / f"{name}.parquet")
    return train


@pytest.mark.parametrize("layout", ["data", "flat", "folders"])
def test_splits_of_a_folder_do_not_mix(layout, tmp_path):
    train, said = hub_folder(tmp_path, layout), []
    found = inspect_pairs(tmp_path, say=said.append)
    assert len(found) == 12
    assert found.facts["split"] == "train"
    assert found.facts["duplicates"]["rows"]["repeats"] == 0
    assert any("the split 'train' is read, not" in line for line in said)
    found.clean(tmp_path / "clean.out")
    assert pq.read_table(tmp_path / "clean.out").equals(train)
    assert len(inspect_pairs(tmp_path, split="test")) == 1
    with pytest.raises(DataError, match=r"has no split 'half'; its splits: .*train"):
        inspect_pairs(tmp_path, split="half")


@pytest.mark.parametrize(
    ("files", "read"),
    [
        ({"train.jsonl": 3, "test.parquet": 2, "dev.csv": 1}, 3),
        ({"train.parquet": 3, "corpus.jsonl": 2}, 3),
        ({"train.jsonl": 3, "dataset_infos.json": 2, "_notes.jsonl": 1}, 3),
        ({"part-0.parquet": 3, "_temporary/0/part-1.parquet": 2}, 3),
        ({"part-0.parquet": 3, "test.jsonl": 2}, None),
        ({"train.csv": 3, "more.parquet": 2}, None),
    ],
)
def test_splits_of_several_formats(files, read, tmp_path):
    for number, (name, count) in enumerate(files.items()):
        rows = [f"{number} {i}" for i in range(count)]
        table, path = texts(anchor=rows, positive=[f"of {each}" for each in rows]), tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".parquet":
            pq.write_table(table, path)
        elif path.suffix == ".csv":
            pa_csv.write_csv(table, path)
        else:
            path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    if read is None:
        with pytest.raises(DataError, match=r"names a split and (part-0|more)\.parquet none"):
            inspect_pairs(tmp_path)
        return
    assert len(inspect_pairs(tmp_path)) == read
    if "dev.csv" in files:
        assert len(inspect_pairs(tmp_path, split="dev")) == len(inspect_pairs(tmp_path, split="validation")) == 1


def test_folders_whose_splits_are_not_clear_are_refused(tmp_path):
    hub_folder(tmp_path / "a", "flat")
    pq.write_table(texts(anchor=["a"], positive=["b"]), tmp_path / "a" / "more.parquet")
    with pytest.raises(DataError, match=r"names a split and more\.parquet none"):
        inspect_pairs(tmp_path / "a")
    hub_folder(tmp_path / "b" / "en", "data")
    hub_folder(tmp_path / "b" / "de", "data")
    with pytest.raises(DataError, match=r"the files of split '.*' lie in .*: give one of these folders"):
        inspect_pairs(tmp_path / "b")
    (tmp_path / "c").mkdir()
    with pytest.raises(DataError, match="the folder is empty"):
        inspect_pairs(tmp_path / "c")
    (tmp_path / "c" / "notes.txt").touch()
    with pytest.raises(DataError, match=r"the folder holds notes\.txt; give a folder of parquet shards"):
        inspect_pairs(tmp_path / "c")
    pq.write_table(texts(anchor=["a"], positive=["b"]), tmp_path / "one.parquet")
    with pytest.raises(DataError, match="has no splits: leave `split` out, got 'train'"):
        inspect_pairs(tmp_path / "one.parquet", split="train")


def test_shards_are_read_in_natural_order(tmp_path):
    for i in (0, 2, 10):
        pq.write_table(texts(anchor=[f"a{i}"], positive=[f"p{i}"]), tmp_path / f"part-{i}.parquet")
    inspect_pairs(tmp_path).clean(tmp_path / "clean.out")
    assert pq.read_table(tmp_path / "clean.out")["anchor"].to_pylist() == ["a0", "a2", "a10"]


def test_files_of_lines_and_tables_of_other_libraries_are_read(tmp_path):
    rows = {"anchor": ["a, b", 'say "c"', "d"], "positive": ["e\nf", "g", "h"], "label": [1, 0, 1]}
    table = texts(**rows)
    lines = "".join(json.dumps(row) + "\n" for row in table.to_pylist())
    (tmp_path / "pairs.jsonl").write_text(lines)
    with gzip.open(tmp_path / "pairs.jsonl.gz", "wt") as file:
        file.write(lines)
    for name, delimiter in (("csv", ","), ("tsv", "\t")):
        with (tmp_path / f"pairs.{name}").open("w", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter)
            writer.writerows([rows, *zip(*rows.values(), strict=True)])
    with pa.ipc.new_stream(str(tmp_path / "pairs.arrow"), table.schema) as writer:
        writer.write_table(table)
    expected = inspect_pairs(table)
    given = [tmp_path / f"pairs.{each}" for each in ("jsonl", "jsonl.gz", "csv", "tsv", "arrow")]
    given += [table.to_pandas(), table.to_pylist(), {"test": table[:1], "train": table}]
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    data = datasets.Dataset.from_dict({name: values[::-1] for name, values in rows.items()})
    given += [data.select([2, 1, 0]), datasets.DatasetDict({"train": data.select([2, 1, 0]), "test": data})]
    given[-1].save_to_disk(str(tmp_path / "saved"))
    given[-2].save_to_disk(str(tmp_path / "one"))
    given += [tmp_path / "saved", tmp_path / "one"]
    for each in given:
        found = inspect_pairs(each)
        assert found.rows.equals(expected.rows)
        found.clean(tmp_path / "clean.parquet")
        assert pq.read_table(tmp_path / "clean.parquet")["positive"].to_pylist() == ["e\nf", "h"]


def test_a_file_of_another_kind_is_said_to_be_one(tmp_path):
    (tmp_path / "a.parquet").write_text("anchor,positive\n")
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as parquet: it is no parquet file") as found:
        inspect_pairs(tmp_path / "a.parquet")
    assert "corrupt" not in str(found.value)
    (tmp_path / "a.jsonl").write_text("no json")
    with pytest.raises(DataError, match=r"a\.jsonl cannot be read as JSON"):
        inspect_pairs(tmp_path / "a.jsonl")


# Negatives of other rows


def refilled(found, file):
    found.clean(file)
    return pq.read_table(file)


def test_bad_negatives_are_refilled_by_texts_below_the_positive(table, embeddings, tmp_path):
    positives = embeddings[1]
    data = table.append_column("negative", pa.array([list(each) for each in positives]))  # each row's own positive
    found = inspect_pairs(data, floor=-1)
    assert found.rows["bad_negatives"].to_pylist() == [1] * 120
    clean = refilled(found, tmp_path / "clean.parquet")
    new = np.array(clean["negative"].to_pylist(), np.float32)
    a, p, n = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (
        *(np.array(clean[name].to_pylist(), np.float32) for name in ("anchor", "positive")), new
    ))  # fmt: skip
    own, other = (a * p).sum(1), (a * n).sum(1)
    reliable = found.rows.filter(found.rows["kept"])["reliable"].to_numpy(zero_copy_only=False)
    edges = own - found.facts["guide"]["margin"] * np.abs(own)
    assert (other[reliable] <= edges[reliable] + 1e-5).all()
    every = a @ p.T
    allowed = np.where(every <= edges[:, None] - 1e-5, every, -2).max(axis=1)
    assert other[reliable] == pytest.approx(allowed[reliable], abs=2e-2)  # the hardest of those
    assert {tuple(row) for row in new} <= {tuple(row) for row in positives}
    assert found.facts["mined_negatives"]["refilled"] == 120


def test_without_a_guide_other_rows_positives_are_drawn(tmp_path):
    data = texts(
        anchor=[f"a{i}" for i in range(50)], positive=[f"p{i // 2}" for i in range(50)],
        negative_1=[f"P{i // 2}" if i % 2 else "n" for i in range(50)], negative_2=pa.nulls(50, pa.string()),
    )  # fmt: skip
    found = inspect_pairs(data)
    clean = refilled(found, tmp_path / "clean.parquet").to_pylist()
    assert len(clean) == 50
    for row in clean:
        assert None not in row.values()
        assert len({row["positive"], row["negative_1"], row["negative_2"]}) == 3
        assert row["negative_1"] == "n" or row["negative_1"].startswith("p")
    keys = found.rows["negative_keys"].to_pylist()
    assert [set(each) for each in keys] == [
        set(ps.text_keys([row["negative_1"], row["negative_2"]]).tolist()) for row in clean
    ]
    again = refilled(inspect_pairs(data), tmp_path / "again.parquet").to_pylist()
    assert again == clean
    assert refilled(inspect_pairs(data, seed=1), tmp_path / "other.parquet").to_pylist() != clean


def test_a_row_that_nothing_can_be_refilled_for_is_left_out(tmp_path):
    data = texts(anchor=["a", "b"], positive=["p", "P"], negative=["n", "p"])
    found = inspect_pairs(data)
    assert reasons(found, 1) >= {"bad negatives", "no negative left"}
    assert refilled(found, tmp_path / "clean.parquet").to_pylist() == [
        {"anchor": "a", "positive": "p", "negative": "n"}
    ]


def test_positives_that_may_be_wrong_are_left_out_on_demand(words):
    colours = ["red", "blue", "green", "grey", "black", "white", "pink", "brown", "cyan", "lime"]
    anchors, positives = [f"{each}?" for each in colours], [f"a {each} one" for each in colours]
    data = texts(anchor=anchors, positive=[*positives[:9], "nothing"])
    options = {"encoder": words(*colours, "nothing"), "cap": 0.05}
    found = inspect_pairs(data, **options)
    assert found.facts["clean_rows"] == 10
    less = inspect_pairs(data, **options, wrong_positives="drop")
    assert less.facts["clean_rows"] == 10 - int(found.findings.wrong.sum())
    assert any("`wrong_positives=drop` leaves them out" in line for line in notes(found.summary)) == bool(
        found.findings.wrong.any()
    )


def test_nothing_found_comes_with_a_reason():
    rng = np.random.default_rng(0)
    features = np.linalg.qr(rng.standard_normal((64, 64)))[0][:40]
    found = inspect_pairs(pa.table({"anchor": list(features), "positive": list(features + 0.01)}))
    assert found.facts["false_negatives"]["rows_with_some"] == 0
    assert any(
        line.startswith(
            "There are no likely false negatives by the guide: no different text of another row is more similar than"
        )
        for line in notes(found.summary)
    )


def test_false_negatives_by_the_guide_and_by_identical_texts_are_told_apart():
    rng = np.random.default_rng(0)
    features = np.linalg.qr(rng.standard_normal((64, 64)))[0][:40]
    features[1] = features[0]
    other = features + 0.01 * rng.standard_normal(features.shape)
    other[1] = other[0]  # one positive of two anchors that are equal, and of a third
    other[2] = other[0]
    summary = inspect_pairs(pa.table({"anchor": list(features), "positive": list(other)})).summary
    found = dict(numbers(summary))
    assert int(found["rows with false negatives by identical texts"]) == (summary.findings.pairing.twins > 0).sum() > 0
    assert "rows with likely false negatives by the guide" in found
    assert "pairs that must not share a batch" in found
    names = [name for name, _ in expectations(summary)]
    assert names[:2] == ["by identical texts", "likely, by identical texts or by the guide"]


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
        inspect_pairs(names, guide_features=guide, output=tmp_path / "out")
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
        ({"anchor": [[1.0, 2.0], [1.0]], "positive": [[1.0], [1.0]]}, "row 1 has 1 dimensions, the rows before it 2"),
        ({"anchor": [[1.0, 2.0]], "positive": [[1.0]]}, "columns have 2 and 1 dimensions"),
    ],
)
def test_what_are_no_pairs_is_refused(data, message, tmp_path):
    data = pa.table({name: pa.array(each, None if each else pa.string()) for name, each in data.items()})
    with pytest.raises((DataError, PairsError), match=message):
        inspect_pairs(data, output=tmp_path / "out")
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


@pytest.mark.parametrize("names", ["negative,negative", "positive", "negative,anchor"])
def test_a_column_has_one_use(names):
    data = texts(anchor=["a", "b"], positive=["c", "d"], negative=["e", "f"])
    with pytest.raises(DataError, match=r"`negatives` names column '.*', which has another use"):
        inspect_pairs(data, negatives=names)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"margin": 0.1}, "`margin` is an option of a guide: give `guide_model`"),
        ({"near": 0.9}, "`near` is an option of a guide"),
        ({"judged_positives": "relabel"}, "`judged_positives` is an option of a judge: give `judge`"),
        ({"judge_floor": 0.3}, "`judge_floor` is an option of a judge"),
        ({"wrong_positives": "drop"}, "`wrong_positives` needs a guide or a judge"),
        ({"leaks": "keep"}, "`leaks` is about an evaluation set: give it as `against`"),
        ({"labelled_negatives": "keep"}, "`labelled_negatives` is about labels"),
        ({"corpus": ["a text"], "bad_negatives": "drop"}, "`corpus` gives texts for bad mined negatives"),
        ({"corpus": ["a text"], "negatives": "none"}, "`corpus` gives texts for bad mined negatives"),
        ({"anchor": ""}, "anchor is empty: give a name, or leave it out"),
        ({"judge": ""}, "judge is empty: give a name"),
    ],
)
def test_settings_that_nothing_would_use_are_refused(settings, message):
    with pytest.raises(PairsError, match=message):
        inspect_pairs(texts(anchor=["a", "b"], positive=["c", "d"], negative=["e", "f"]), **settings)


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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"config": {"margin": 0.1}}, r"config must be a PairsConfig, got dict: PairsConfig\(\*\*settings\)"),
        ({"encoder": "minilm"}, "the name of a model is `guide_model`"),
        ({"encoder": object()}, r"encoder must have a method encode\(texts\), got <object"),
        ({"judge": 5}, "judge must be a name, a CrossEncoder, or a function of .* pairs, got int"),
    ],
)
def test_arguments_of_another_type_are_refused_in_words(arguments, message):
    with pytest.raises(TypeError, match=message):
        inspect_pairs(texts(anchor=["a", "b"], positive=["c", "d"], negative=["e", "f"]), **arguments)


def test_damaged_and_missing_files_are_refused(tmp_path):
    pq.write_table(texts(anchor=["a"] * 999, positive=["b"] * 999), tmp_path / "pairs.parquet")
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "pairs.parquet").read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cut\.parquet cannot be read as parquet"):
        inspect_pairs(tmp_path / "cut.parquet", output=tmp_path / "out")
    with pytest.raises(DataError, match="no pairs at"):
        inspect_pairs(tmp_path / "none.parquet")
    with pytest.raises(TypeError, match=r"pairs: give a path, a table of pyarrow, .* got list"):
        inspect_pairs(["a"])
    assert not (tmp_path / "out").exists()


# What is written


def test_the_folder_has_its_old_name_for_one_more_release(table, tmp_path):
    with pytest.warns(DeprecationWarning, match="`out` is `output` since 0.3"):
        inspect_pairs(table, out=tmp_path / "found")
    assert (tmp_path / "found" / "clean.parquet").exists()
    with pytest.raises(TypeError, match=r"it is `output` since 0.3"):
        inspect_pairs(table, out=tmp_path / "a", output=tmp_path / "b")


def test_everything_is_saved_and_nothing_is_left_over(table, tmp_path):
    data = table.append_column("note", pa.array(map(str, range(120))))
    pq.write_table(data, tmp_path / "pairs.parquet")
    found = inspect_pairs(tmp_path / "pairs.parquet", output=tmp_path / "out")
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
    inspect_pairs(table, output=out)
    before = (out / "pairs.json").read_bytes()
    with pytest.raises(PairsError, match="holds a finished inspection: use `overwrite=True`, or another folder"):
        inspect_pairs(table, output=out)
    inspect_pairs(table, output=out, overwrite=True, cap=0.2)
    assert (out / "pairs.json").read_bytes() != before
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "file").touch()
    with pytest.raises(PairsError, match="exists and is not empty"):
        inspect_pairs(table, output=tmp_path / "some")
    with pytest.raises(PairsError, match="is a file: name a folder"):
        inspect_pairs(table, output=tmp_path / "some" / "file")


def test_the_same_seed_gives_the_same_tables(table):
    first, second = (inspect_pairs(table, sample=50, seed=3) for _ in range(2))
    assert first.rows.equals(second.rows)
    assert first.conflicts.equals(second.conflicts)
    assert first.facts == second.facts


def test_keywords_are_settings(table):
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'margn': did you mean 'margin'"):
        inspect_pairs(table, margn=0.1)


# Encoders of two sides


class Sides:
    """An encoder that says which of its three ways a text came by."""

    def __init__(self, prompts=None):
        self.calls, self.prompts = [], prompts

    def encode(self, texts, batch_size=None):
        self.calls.append(("encode", texts, batch_size))
        return np.random.default_rng(0).standard_normal((len(texts), 4))

    def encode_query(self, texts):
        self.calls.append(("query", texts, None))
        return np.random.default_rng(1).standard_normal((len(texts), 4))

    def encode_document(self, texts):
        self.calls.append(("document", texts, None))
        return np.random.default_rng(2).standard_normal((len(texts), 4))


TWO = {"anchor": ["a?", "b?"], "positive": ["a", "b?"]}


def test_anchors_are_encoded_as_queries_where_the_encoder_has_prompts():
    encoder = Sides({"query": "query: ", "document": ""})
    inspect_pairs(texts(**TWO), encoder=encoder)
    assert encoder.calls == [("query", ["a?", "b?"], None), ("document", ["a"], None)]
    plain = Sides({"query": "", "document": ""})
    inspect_pairs(texts(**TWO), encoder=plain)
    assert plain.calls == [("encode", ["a?", "b?", "a"], None)]


def test_prompts_of_the_user_stand_before_the_texts():
    encoder = Sides({"query": "", "document": ""})
    inspect_pairs(texts(**TWO), encoder=encoder, query_prompt="Q: ", document_prompt="D: ")
    assert encoder.calls == [("encode", ["Q: a?", "Q: b?"], None), ("encode", ["D: a"], None)]


@pytest.mark.parametrize(
    "option", [{"query_prompt": "x"}, {"document_prompt": "x"}, {"guide_device": "cpu"}, {"guide_batch_size": 2}]
)
def test_options_of_an_encoder_need_one(option):
    with pytest.raises(PairsError, match="give `guide_model`, or leave it out"):
        inspect_pairs(texts(**TWO), **option)


def test_a_batch_size_and_a_device_reach_a_model_that_is_loaded(monkeypatch):
    sentence = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    encoder, made = Sides({}), []
    monkeypatch.setattr(sentence, "SentenceTransformer", lambda place, device: made.append(device) or encoder)
    encoder.prompts = {"query": ""}
    inspect_pairs(texts(**TWO), guide_model="some/model", guide_device="cpu", guide_batch_size=7)
    assert (made, encoder.calls[0][2]) == (["cpu"], 7)


def test_a_sparse_guide_is_compared_and_a_guide_of_tokens_is_refused():
    torch = pytest.importorskip("torch")

    class Sparse:
        def encode(self, texts):
            return torch.eye(len(texts)).to_sparse()

    class MultiVectorEncoder(Sparse):
        pass

    found = inspect_pairs(texts(**TWO), encoder=Sparse())
    assert found.rows["similarity"].to_pylist() == [0.0, 1.0]
    with pytest.raises(PairsError, match="an embedding for each token"):
        inspect_pairs(texts(**TWO), encoder=MultiVectorEncoder())
