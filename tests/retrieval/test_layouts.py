"""Training data as its own tools write it: read as pairs, cleaned, and written back in the same layout."""

import csv
import gzip
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairsift.data import DataError
from pairsift.retrieval import inspect_pairs
from pairsift.retrieval.layouts import csv_rows

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
    numbered = [line.replace("q", "00") for line in (beir / "qrels" / "train.tsv").read_text().splitlines()[1:]]
    (beir / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\n" + "\n".join(numbered))
    queries = (beir / "queries.jsonl").read_text()
    (beir / "queries.jsonl").write_text(queries + queries.replace('"q', '"00'))
    assert inspect_pairs(beir, split="dev").facts["rows"] == N + 1  # ids are no numbers
    test = inspect_pairs(beir, split="test")
    assert (test.facts["usable_rows"], test.facts["labels"]["negative"]) == (1, 1)
    (beir / "qrels" / "train.tsv").write_text("query-id\tcorpus-id\tscore\nq99\t1\t1\n")
    with pytest.raises(DataError, match=r"1 ids are not in queries.jsonl, the first 'q99'"):
        inspect_pairs(beir)


FLAT = {"anchor": [*map(query, range(N)), query(0)], "positive": [*map(answer, range(N)), answer(0)],
        "negative_1": [answer(i + 1) for i in range(N)] + [answer(1)], "id": list(range(N + 1))}  # fmt: skip


FLAT_ROWS = pa.table(FLAT).to_pylist()


def written(path, rows):
    """Write rows of texts in the format of a file's name; the text of the file."""
    names, text = list(rows[0]), io.StringIO()
    if ".json" in path.name:
        text.write(
            "".join(json.dumps(row) + "\n" for row in rows) if "l" in path.suffixes[0] else json.dumps(rows, indent=2)
        )
    else:
        write = csv.writer(text, delimiter="\t" if ".tsv" in path.name else ",", lineterminator="\n")
        write.writerows([names, *([row[name] for name in names] for row in rows)])
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return text.getvalue()


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl", "a.json", "a.csv.gz", "a.jsonl.gz"])
def test_what_does_not_change_comes_back_letter_by_letter(tmp_path, name):
    """Arrow would read 007 and 1.10 as numbers, a date as a time, and an absent field as null."""
    rows = [
        {"id": f"00{i}", "version": "1.10", "date": "2024-01-01", "missing": "nan", "query": query(i) + ',\n"so?"',
         "positive": answer(i), "negative": answer(i + 1)}
        for i in range(N)
    ]  # fmt: skip
    rows.append(rows[2])
    rows[3] = rows[3] | {"negative": answer(3).upper()}
    if ".json" in name:
        rows[1] |= {"big": 2**70, "meta": {"a": 1}}
        rows[4] |= {"meta": {"b": "2024-01-01"}}
        del rows[5]["version"]
    text = written(tmp_path / name, rows)
    inspect_pairs(tmp_path / name, output=tmp_path / "out")
    data = (tmp_path / "out" / "clean" / name).read_bytes()
    back = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
    if ".json" in name:
        clean = json.loads(back) if name == "a.json" else [json.loads(line) for line in back.split("\n") if line]
    else:
        clean = list(csv.DictReader(io.StringIO(back, newline=""), delimiter="\t" if "tsv" in name else ","))
    assert clean[3]["negative"] not in (answer(3), answer(3).upper())
    assert clean == [row if i != 3 else row | {"negative": clean[3]["negative"]} for i, row in enumerate(rows[:N])]
    assert back.startswith(text[: text.index("thing number 3")])
    if name == "a.jsonl":
        assert pq.read_table(tmp_path / "out" / "clean.parquet")["date"].to_pylist() == ["2024-01-01"] * N


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
def test_line_ends_and_the_mark_of_unicode_come_back(tmp_path, name):
    rows = [{"query": query(i), "positive": answer(i), "negative": answer(i + (i != 3))} for i in range(N)]
    text = "\ufeff" + written(tmp_path / name, rows).replace("\n", "\r\n")
    (tmp_path / name).write_bytes(text.encode())
    inspect_pairs(tmp_path / name, output=tmp_path / "out")
    back = (tmp_path / "out" / "clean" / name).read_bytes().decode()
    assert len(back.split("\r\n")) == len(text.split("\r\n"))
    assert back.count("\r\n") == back.count("\n")
    assert back.split("\r\n")[:3] == text.split("\r\n")[:3]
    assert back != text


def test_quotes_that_do_not_match_are_refused(tmp_path):
    (tmp_path / "a.tsv").write_text("query-id\tcorpus-id\tscore\n1\t2\n")
    with pytest.raises(DataError, match="line 2 has 2 cells and the head 3"):
        list(csv_rows(tmp_path / "a.tsv"))


@pytest.mark.parametrize("writer", [pa.ipc.new_file, pa.ipc.new_stream])
def test_arrow_files_and_streams_come_back_as_they_came(tmp_path, writer):
    table = pa.table(FLAT)
    with writer(str(tmp_path / "a.arrow"), table.schema) as out:
        out.write_table(table)
    inspect_pairs(tmp_path / "a.arrow", output=tmp_path / "out")
    read = pa.ipc.open_file if writer is pa.ipc.new_file else pa.ipc.open_stream
    assert read(str(tmp_path / "out" / "clean" / "a.arrow")).read_all() == table.slice(0, N)


def test_files_of_one_name_in_several_folders_all_come_back(tmp_path):
    for part in ("lang=en", "lang=de"):
        (tmp_path / part).mkdir()
        table = pa.table(FLAT | {"anchor": [f"{part} {each}" for each in FLAT["anchor"]]})
        pq.write_table(table, tmp_path / part / "0.parquet", compression="zstd")
    inspect_pairs(tmp_path / "*" / "*.parquet", output=tmp_path / "out")
    for part in ("lang=en", "lang=de"):
        file = pq.ParquetFile(tmp_path / "out" / "clean" / part / "0.parquet")
        assert file.read()["anchor"].to_pylist() == [f"{part} {each}" for each in FLAT["anchor"][:N]]
        assert file.schema_arrow.names == list(FLAT)
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"


def test_a_relabelled_row_is_the_last_of_its_own_file(tmp_path):
    for part in range(2):
        rows = [{"query": query(i), "positive": answer(i), "negative": answer(i, 5) if i == 1 else answer(i + 1),
                 "id": f"0{i}"} for i in range(3 * part, 3 * part + 3)]  # fmt: skip
        (tmp_path / "in").mkdir(exist_ok=True)
        jsonl(tmp_path / "in" / f"{part}.jsonl", rows)
    inspect_pairs(
        tmp_path / "in", judge=lambda pairs: [float(a.split()[4] == b.split()[1]) for a, b in pairs],
        judged_positives="relabel", output=tmp_path / "out",
    )  # fmt: skip
    first, second = (lines(tmp_path / "out" / "clean" / f"{part}.jsonl") for part in range(2))
    assert [row["id"] for row in first] == ["00", "01", "02", "01"]
    assert (first[3]["positive"], first[1]["positive"]) == (answer(1, 5), answer(1))
    assert [row["id"] for row in second] == ["03", "04", "05"]


@pytest.mark.parametrize("passages", [False, True])
def test_records_are_refilled_from_a_corpus(tmp_path, passages):
    rows = [{"query": query(i), "pos": [answer(i)], "neg": [answer(i)]} for i in range(N)]
    if passages:
        rows = [
            row | {name: [{"docid": i, "title": "", "text": text} for text in row[name]] for name in ("pos", "neg")}
            for i, row in enumerate(rows)
        ]
    corpus = [f"a text about matter {i} of the corpus" for i in range(200)]
    inspect_pairs(jsonl(tmp_path / "a.jsonl", rows), corpus=corpus, output=tmp_path / "out")
    new = [row["neg"][0] for row in lines(tmp_path / "out" / "clean" / "a.jsonl")]
    mined = [each for each in new if (each["text"] if passages else each) in corpus]
    assert len(mined) > N // 2
    if passages:
        assert all((each.get("docid"), each["title"]) == (None, "") for each in mined)


def test_records_say_where_their_positives_lie(tmp_path):
    rows = records()
    rows[1]["pos"] = []
    found = inspect_pairs(jsonl(tmp_path / "a.jsonl", rows)).rows
    joined = list(zip(found["record"].to_pylist(), found["place"].to_pylist(), strict=True))
    assert joined == [(i, k) for i in range(N) for k in range(2) if (i, k) != (1, 1)]


@pytest.mark.parametrize("labels", ["labels", "scores"])
def test_lists_of_labelled_texts_come_back_without_wrong_ones(tmp_path, labels):
    """`mine_hard_negatives` writes them as "labeled-list"; the negatives must not pass for positives."""
    value = (0, 1) if labels == "labels" else (0.2, 0.9)
    rows = [
        {"query": query(i), "answer": [answer(i), answer(i + 1), answer(i + 2)], labels: [value[1], value[0], value[0]]}
        for i in range(N)
    ]
    rows[3]["answer"][2] = answer(3).upper()
    rows[7] = rows[2]
    found = inspect_pairs(jsonl(tmp_path / "a.jsonl", rows), output=tmp_path / "out")
    assert (found.facts["usable_rows"], found.facts["labels"]["negative"]) == (N, 2 * N)
    expected = [row for i, row in enumerate(rows) if i != 7]
    expected[3] = rows[3] | {"answer": rows[3]["answer"][:2], labels: rows[3][labels][:2]}
    assert lines(tmp_path / "out" / "clean" / "a.jsonl") == expected
    assert inspect_pairs(tmp_path / "a.jsonl", label="none").facts["labels"] is None
    rows[5][labels] = rows[5][labels][:2]
    with pytest.raises(DataError, match=f"row 5: '{labels}' has other numbers than 'answer' has texts.*label='none'"):
        inspect_pairs(jsonl(tmp_path / "a.jsonl", rows))


@pytest.mark.parametrize("listed", [False, True])
def test_negatives_with_scores_are_not_replaced(listed):
    """`mine_hard_negatives` writes a list of scores for the positive and each negative."""
    rows = []
    for i in range(N):
        mined = [answer(i + 1), answer(3) if i == 3 else answer(i + 2)]
        some = {"negatives": mined} if listed else {"negative_1": mined[0], "negative_2": mined[1]}
        rows.append({"query": query(i), "positive": answer(i), **some, "scores": [0.9, 0.3, 0.2]})
    said = []
    found = inspect_pairs(rows, say=said.append)
    assert found.rows["kept"].to_pylist() == [i != 3 for i in range(N)]
    assert any("column 'scores' holds a score for each negative" in line for line in said)


def test_lists_that_are_written_as_texts_are_refused(tmp_path):
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    rows = [{"query": query(i), "positive": answer(i), "negatives": [answer(i), "it's"]} for i in range(N)]
    pandas.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(DataError, match="column 'negatives' holds lists that are written as texts: give lists"):
        inspect_pairs(tmp_path / "a.csv")
    assert len(inspect_pairs([row | {"negatives": "[sic] a text [1]"} for row in rows])) == N


def test_shards_of_json_with_other_numbers_are_one_table(tmp_path):
    for part, value in enumerate((1, 0.5)):
        row = {"query": query(part), "positive": answer(part), "weight": value}
        (tmp_path / "in").mkdir(exist_ok=True)
        jsonl(tmp_path / "in" / f"{part}.jsonl", [row])
    assert len(inspect_pairs(tmp_path / "in")) == 2


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
    shards = [f"train-0000{part}-of-00002.parquet" for part in range(2)]
    assert sorted(each.name for each in clean.iterdir()) == ["test-00000-of-00001.parquet", *shards]
    assert pq.read_table(clean / "test-00000-of-00001.parquet") == table.slice(0, 3)
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
    assert back["test"].to_dict() == data.select(range(3)).to_dict()


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
    assert len(passed) <= 13, "\n".join(sorted(passed))
