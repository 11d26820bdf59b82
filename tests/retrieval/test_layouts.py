"""Training data as its own tools write it: read as pairs, cleaned, and written back in the same layout."""

import csv
import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairsift.data import DataError
from pairsift.retrieval import inspect_pairs

N = 12


def query(i):
    return f"what is thing number {i} for"


def answer(i, k=0):
    return f"thing {i} serves purpose {i * 7 + k} of kind {k}"


def records():
    """Twelve queries, each with two answers; record 3 has its own answer as a negative, record 7 repeats record 2."""
    rows = [
        {"query": query(i), "pos": [answer(i), answer(i, 1)], "neg": [answer(i + 1), answer(i + 2)]} for i in range(N)
    ]
    rows[3]["neg"][1] = answer(3, 1).upper()
    rows[7] = dict(rows[2])
    rows[N - 1]["neg"] = ["another text altogether"]
    return rows


def jsonl(path, rows):
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def lines(path):
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    return [json.loads(line) for line in data.decode().splitlines()]


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz"])
@pytest.mark.parametrize("scores", [False, True])
def test_flag_embedding_comes_back_as_it_came(tmp_path, name, scores):
    rows = records()
    if scores:
        for row in rows:
            row |= {"pos_scores": [0.9, 0.8], "neg_scores": [0.1 * (k + 1) for k in range(len(row["neg"]))]}
    for row in rows:
        row |= {"prompt": "Represent this sentence", "type": "normal"}
    found = inspect_pairs(jsonl(tmp_path / name, rows), output=tmp_path / "out")
    assert found.facts["rows"] == 2 * N
    assert found.facts["duplicates"]["rows"]["repeats"] == 2
    assert pq.read_table(tmp_path / "out" / "clean.parquet").num_rows == 2 * N - 2
    clean = lines(tmp_path / "out" / "clean" / name)
    expected = [dict(row) for i, row in enumerate(rows) if i != 7]
    expected[3] = expected[3] | {"neg": expected[3]["neg"][:1]}
    if scores:
        expected[3] |= {"neg_scores": expected[3]["neg_scores"][:1]}
    assert clean == expected
    again = inspect_pairs(tmp_path / "out" / "clean" / name)
    assert again.facts["mined_negatives"]["bad"] == again.facts["duplicates"]["rows"]["repeats"] == 0


def test_a_record_loses_one_positive_and_gains_another(tmp_path):
    rows = records()[:3]
    rows[0]["pos"].append("   ")
    rows[1]["neg"] = [answer(1, 5)]

    def judge(pairs):
        numbers = [(a.split()[4], b.split()[1] if "thing" in b else "") for a, b in pairs]
        return [float(a == b) for a, b in numbers]

    found = inspect_pairs(
        jsonl(tmp_path / "a.jsonl", rows), judge=judge, judged_positives="relabel", output=tmp_path / "out"
    )
    clean = lines(tmp_path / "out" / "clean" / "a.jsonl")
    assert clean[0]["pos"] == rows[0]["pos"][:2]
    assert clean[1]["pos"] == [*rows[1]["pos"], answer(1, 5)]
    assert answer(1, 5) not in clean[1]["neg"]
    assert len(clean[1]["neg"]) == 1
    assert found.facts["clean_rows"] == 6 + 1


def test_tevatron_comes_back_with_its_passages(tmp_path):
    def passage(text, i, title=""):
        return {"docid": f"d{i}", "title": title, "text": text}

    rows = [
        {"query_id": str(i), "query": row["query"],
         "positive_passages": [passage(text, 100 * i + k, "Things") for k, text in enumerate(row["pos"])],
         "negative_passages": [passage(text, 500 + 10 * i + k) for k, text in enumerate(row["neg"])]}
        for i, row in enumerate(records())
    ]  # fmt: skip
    rows[3]["negative_passages"][1] = passage(answer(3, 1), 301, "Things")
    found = inspect_pairs(jsonl(tmp_path / "train.jsonl", rows), output=tmp_path / "out")
    assert [column.name for column in found._source.columns.all] == ["query", "positive_passages", "negative_passages"]
    clean = lines(tmp_path / "out" / "clean" / "train.jsonl")
    expected = [row for i, row in enumerate(rows) if i != 7]
    expected[3] = expected[3] | {"negative_passages": expected[3]["negative_passages"][:1]}
    assert clean == expected
    flat = pq.read_table(tmp_path / "out" / "clean.parquet")
    assert flat["positive_passages"][0].as_py() == f"Things {answer(0)}"
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, tmp_path / "train.parquet")
    inspect_pairs(tmp_path / "train.parquet", output=tmp_path / "two")
    assert pq.read_table(tmp_path / "two" / "clean" / "train.parquet").to_pylist() == expected


def test_a_refilled_passage_is_one_of_the_set(tmp_path):
    rows = [
        {"query": query(i), "positive_passages": [{"docid": f"p{i}", "title": "", "text": answer(i)}],
         "negative_passages": [{"docid": f"p{i}", "title": "", "text": answer(i)}]}
        for i in range(N)
    ]  # fmt: skip
    inspect_pairs(jsonl(tmp_path / "train.jsonl", rows), output=tmp_path / "out")
    clean = lines(tmp_path / "out" / "clean" / "train.jsonl")
    known = {row["positive_passages"][0]["docid"]: row["positive_passages"][0] for row in rows}
    for i, row in enumerate(clean):
        (passage,) = row["negative_passages"]
        assert passage == known[passage["docid"]]
        assert passage["docid"] != f"p{i}"


@pytest.fixture
def beir(tmp_path):
    folder = tmp_path / "beir"
    (folder / "qrels").mkdir(parents=True)
    jsonl(folder / "queries.jsonl", [{"_id": f"q{i}", "text": query(i), "metadata": {}} for i in range(N)])
    jsonl(
        folder / "corpus.jsonl",
        [{"_id": str(i), "title": "", "text": answer(i % N), "metadata": {}} for i in range(N + 1)],
    )
    head = "query-id\tcorpus-id\tscore\n"
    (folder / "qrels" / "train.tsv").write_text(head + "".join(f"q{i}\t{i}\t1\n" for i in range(N)) + f"q0\t{N}\t1\n")
    (folder / "qrels" / "test.tsv").write_text(head + "q1\t4\t2\nq2\t5\t0\n")
    return folder


def test_a_folder_of_beir_comes_back(beir, tmp_path):
    found = inspect_pairs(beir, output=tmp_path / "out")
    assert found.facts["split"] == "train"
    assert found.facts["other_splits"] == ["test"]
    clean = tmp_path / "out" / "clean"
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        assert (clean / name).read_bytes() == (beir / name).read_bytes()
    with (clean / "qrels" / "train.tsv").open() as file:
        judged = list(csv.reader(file, delimiter="\t"))
    assert judged == [["query-id", "corpus-id", "score"], *([f"q{i}", str(i), "1"] for i in range(N))]  # q0 once
    test = inspect_pairs(beir, split="test")
    assert (test.facts["usable_rows"], test.facts["labels"]["negative"]) == (1, 1)
    (beir / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq99\t1\t1\n")
    with pytest.raises(DataError, match=r"1 ids are not in queries.jsonl, the first 'q99'"):
        inspect_pairs(beir)


FLAT = {"anchor": [*map(query, range(N)), query(0)], "positive": [*map(answer, range(N)), answer(0)],
        "negative_1": [answer(i + 1) for i in range(N)] + [answer(1)], "id": list(range(N + 1))}  # fmt: skip


FLAT_ROWS = pa.table(FLAT).to_pylist()


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.csv.gz", "a.tsv.gz", "a.arrow"])
def test_a_file_of_rows_comes_back_in_its_format(tmp_path, name):
    from pairsift.data.tables import open_table
    from pairsift.retrieval.layouts import write_as

    write_as(tmp_path / name, pa.table(FLAT))
    inspect_pairs(tmp_path / name, output=tmp_path / "out")
    clean = open_table(tmp_path / "out" / "clean" / name)
    assert clean.read(clean.schema.names).to_pydict() == {column: values[:N] for column, values in FLAT.items()}


def test_files_of_pandas_and_polars_come_back(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    pandas.DataFrame(FLAT).to_csv(tmp_path / "a.tsv", sep="\t", index=False)
    inspect_pairs(tmp_path / "a.tsv", output=tmp_path / "out")
    assert pandas.read_csv(tmp_path / "out" / "clean" / "a.tsv", sep="\t").equals(pandas.DataFrame(FLAT)[:N])


@pytest.mark.parametrize("suffix", ["arrow", "parquet"])
def test_views_of_texts_which_polars_writes_come_back(tmp_path, suffix):
    """Arrow can neither take nor filter rows of them."""
    view, n = pa.string_view(), N + 1
    rows = {
        "anchor": pa.array(FLAT["anchor"], view), "positive": pa.array(FLAT["positive"], view),
        "negatives": pa.array([[FLAT["positive"][i], f"another text {i}"] for i in range(n)], pa.large_list(view)),
        "kind": pa.DictionaryArray.from_arrays(pa.array([i % 2 for i in range(n)]), pa.array(["a", "b"], view)),
        "file": pa.array([b"bytes"] * n, pa.binary_view()),
        "known": pa.array([{"by": "me"}] * n, pa.struct({"by": view})),
    }  # fmt: skip
    table, path = pa.table(rows), tmp_path / f"a.{suffix}"
    if suffix == "arrow":
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    else:
        pq.write_table(table.drop_columns(["kind"]), path)
    found = inspect_pairs(path, output=tmp_path / "out")
    assert found.galleries
    clean = pq.read_table(tmp_path / "out" / "clean.parquet")
    if suffix == "arrow":
        with pa.ipc.open_file(tmp_path / "out" / "clean" / "a.arrow") as reader:
            assert reader.read_all().to_pylist() == clean.to_pylist()
    expected = [row | {"negatives": row["negatives"][1:]} for row in table.select(clean.column_names).to_pylist()]
    assert clean.to_pylist() == expected


def test_a_folder_of_the_hub_comes_back_by_split_and_shard(tmp_path):
    table = pa.table(FLAT)
    for part in range(2):
        (tmp_path / "hub" / "data").mkdir(parents=True, exist_ok=True)
        shard = table.slice(7 * part, 7)
        pq.write_table(shard, tmp_path / "hub" / "data" / f"train-0000{part}-of-00002.parquet")
    pq.write_table(table.slice(0, 3), tmp_path / "hub" / "data" / "test-00000-of-00001.parquet")
    inspect_pairs(tmp_path / "hub", output=tmp_path / "out")
    clean = tmp_path / "out" / "clean" / "data"
    assert sorted(each.name for each in clean.iterdir()) == [f"train-0000{part}-of-00002.parquet" for part in range(2)]
    parts = [pq.read_table(clean / f"train-0000{part}-of-00002.parquet")["id"].to_pylist() for part in range(2)]
    assert parts == [list(range(7)), list(range(7, N))]


def test_a_data_set_that_was_saved_comes_back(tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    data = datasets.Dataset.from_dict(FLAT)
    datasets.DatasetDict({"train": data, "test": data.select(range(3))}).save_to_disk(str(tmp_path / "saved"))
    inspect_pairs(tmp_path / "saved", output=tmp_path / "out")
    back = datasets.load_from_disk(str(tmp_path / "out" / "clean"))
    assert back["train"].to_dict() == {column: values[:N] for column, values in FLAT.items()}
    assert back["train"].features == data.features


def test_a_dict_of_columns_is_a_table_and_a_dict_of_tables_has_splits():
    def rows(data):
        return inspect_pairs(data).rows.drop_columns(["reasons"])

    assert rows(FLAT) == rows(pa.table(FLAT)) == rows({"train": FLAT_ROWS, "test": FLAT_ROWS[:3]})
    with pytest.raises(TypeError, match="a dict of columns, or a list of dicts, got list"):
        inspect_pairs([("a", "b")])


def test_nothing_is_written_twice_and_records_in_memory_come_back(tmp_path):
    pq.write_table(pa.table(FLAT), tmp_path / "a.parquet")
    inspect_pairs(tmp_path / "a.parquet", output=tmp_path / "one")
    assert not (tmp_path / "one" / "clean").exists()
    inspect_pairs(pa.Table.from_pylist(records()), output=tmp_path / "two")
    assert len(pq.read_table(tmp_path / "two" / "clean" / "records.parquet")) == N - 1
    inspect_pairs(pa.table(FLAT), output=tmp_path / "two", overwrite=True)
    assert not (tmp_path / "two" / "clean").exists()


def test_records_that_do_not_fit_are_refused(tmp_path):
    rows = records()
    rows[4]["pos_scores"] = [0.5]
    with pytest.raises(DataError, match="row 4: 'pos_scores' has other numbers than 'pos' has texts"):
        inspect_pairs(jsonl(tmp_path / "a.jsonl", rows))
    mixed = pa.table({"query": ["a"], "pos": [["b", "c"]], "neg": ["d"]})
    with pytest.raises(DataError, match="column 'pos' holds lists and column 'neg' none"):
        inspect_pairs(mixed)
    assert np.isfinite(inspect_pairs(mixed, negatives="none").facts["clean_rows"])


def test_pairs_pass_few_files_on_their_way_to_the_clean_ones(tmp_path):
    import sys
    from pathlib import Path

    import pairsift

    root, entered = Path(pairsift.__file__).parent, set()
    file = jsonl(tmp_path / "train.jsonl", [{name: str(FLAT[name][i]) for name in FLAT} for i in range(N + 1)])

    def note(frame, event, _):
        if event == "call" and frame.f_code.co_filename.startswith(str(root)):
            entered.add(Path(frame.f_code.co_filename).relative_to(root).as_posix())

    inspect_pairs(file)  # with all imports
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        inspect_pairs(file).clean(tmp_path / "clean.parquet")
    finally:
        sys.setprofile(before)
    passed = {each for each in entered if not each.startswith("_base/")}
    assert "retrieval/result.py" in passed
    assert len(passed) <= 12, sorted(passed)
