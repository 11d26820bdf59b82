"""Rules that every clean file of pairs keeps, whatever the table and the settings."""

import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

import pairsift as ps
from pairsift.data import DataError
from pairsift.retrieval import DistinctBatchSampler, inspect_pairs

WORDS = st.sampled_from(["a", "A ", "b", "c", "d", "e", "f", "g", "h", "i", "j"])
CELLS = st.one_of(st.none(), st.just(""), WORDS, WORDS, WORDS)


class Letters:
    """An encoder of one direction for each letter and a little of all, so that texts are alike by their letter."""

    def encode(self, texts):
        letters = [text.strip().lower() for text in texts]
        return np.array([[0.2 + (each == other) for other in "abcdefghij"] for each in letters], np.float32)


@st.composite
def tables(draw):
    n, listed = draw(st.integers(1, 14)), draw(st.booleans())
    columns = {name: draw(st.lists(CELLS, min_size=n, max_size=n)) for name in ("anchor", "positive")}
    kinds = {"anchor": pa.string(), "positive": pa.string()}
    if listed:
        lists = st.one_of(st.none(), st.lists(CELLS, max_size=3))
        columns["negatives"], kinds["negatives"] = draw(st.lists(lists, min_size=n, max_size=n)), pa.list_(pa.string())
    else:
        for i in range(draw(st.integers(0, 2))):
            columns[f"negative_{i}"] = draw(st.lists(CELLS, min_size=n, max_size=n))
            kinds[f"negative_{i}"] = pa.string()
    if draw(st.booleans()):
        values = draw(st.sampled_from([[0, 1], [None, 0, 1], [-1, 1], [0.2, 0.7, 1.0]]))
        columns["label"] = draw(st.lists(st.sampled_from(values), min_size=n, max_size=n))
        kinds["label"] = pa.float64()
    columns["note"], kinds["note"] = list(range(n)), pa.int64()
    return pa.table({name: pa.array(values, kinds[name]) for name, values in columns.items()})


def key(text):
    return None if text is None or not text.strip() else int(ps.text_keys([text])[0])


def negatives(row):
    return [key(each) for each in (row.get("negatives") or [])] + [
        key(value) for name, value in row.items() if name.startswith("negative_")
    ]


def known_positives(rows):
    """By the key of each anchor, the keys of its positives and of itself."""
    known = {}
    for row in rows:
        label, anchor, positive = row.get("label", 1), key(row["anchor"]), key(row["positive"])
        if label is not None and label >= 0.5 and anchor is not None and positive is not None:
            known.setdefault(anchor, {anchor}).add(positive)
    return known


@settings(max_examples=150)
@given(table=tables(), guided=st.booleans(), mode=st.sampled_from(["refill", "drop", "null"]), seed=st.integers(0, 3))
def test_a_clean_file_holds_what_its_settings_say(table, guided, mode, seed):
    options = {"bad_negatives": mode, "seed": seed, "threads": 1} | ({"encoder": Letters()} if guided else {})
    try:
        found = inspect_pairs(table, **options)
    except DataError as error:
        if "has both an anchor and a positive" not in str(error):
            raise
        return
    with tempfile.TemporaryDirectory() as folder:
        assert found.clean(Path(folder, "clean.parquet")) == found.summary.clean_rows
        clean = pq.read_table(Path(folder, "clean.parquet"))
    assert clean.schema.names == table.schema.names
    whole, rows = table.to_pylist(), clean.to_pylist()
    assert [row["note"] for row in rows] == np.flatnonzero(found.rows["kept"].to_numpy()).tolist()
    known = known_positives(whole)
    for row in rows:
        before, after = negatives(whole[row["note"]]), negatives(row)
        assert key(row["positive"]) in known[key(row["anchor"])]
        assert not set(after) & known[key(row["anchor"])]
        if mode == "null":
            assert set(after) <= {*before, None}
        elif mode == "refill" or "negatives" not in row:
            assert None not in after
        if mode == "refill" and "negatives" not in row:
            added = [each for each in after if each not in before]
            assert len(set(added)) == len(added)
    if rows:
        texts = clean.drop(["note"])
        by_row, by_text = (DistinctBatchSampler.from_inspection(found, 3, data, seed=seed) for data in (None, texts))
        for sampler in (by_row, by_text):
            assert sorted(row for batch in sampler for row in batch) == list(range(len(rows)))
        if mode != "drop":
            anchors = found.rows.filter(found.rows["kept"])["anchor_key"].to_pylist()
            assert anchors == [key(row["anchor"]) for row in rows]
