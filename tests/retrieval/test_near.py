"""Near-duplicates by spelling and by a guide, and what an evaluation set shares with the pairs."""

import json
from itertools import combinations, pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairsift.data import DataError
from pairsift.retrieval import PairsConfig, PairsError, inspect_pairs
from pairsift.retrieval.near import Spelling
from pairsift.retrieval.report import notes

WORDS = [
    "account", "balance", "branch", "budget", "cashier", "cheque", "credit", "currency", "deposit", "dollar",
    "exchange", "expense", "finance", "funding", "gateway", "holder", "income", "interest", "invoice", "ledger",
    "lending", "merchant", "mortgage", "network", "overdraft", "payment", "pension", "portfolio", "premium", "profit",
    "purchase", "receipt", "refund", "reserve", "salary", "savings", "security", "statement", "transfer", "treasury",
    "trustee", "voucher", "wallet",
]  # fmt: skip


def sentences(n, length, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, length)) for _ in range(n)]


def shingles(text):
    """Three-letter parts of the words of a short text; word pairs of a long one."""
    words = "".join(each if each.isalnum() else " " for each in text.casefold().replace("'", "")).split()
    if len(words) >= 48:
        return set(pairwise(words))
    return {part for word in words for part in [f" {word} "[i : i + 3] for i in range(len(word))]}


@pytest.mark.parametrize("length", [6, 60])
def test_pairs_alike_are_those_of_sets_compared_one_by_one(length):
    rng = np.random.default_rng(1)
    texts = sentences(60, length)
    for text in texts[:60]:
        words = text.split()
        for _ in range(length // 20 + 1):
            words[rng.integers(len(words))] = rng.choice(WORDS)
        texts.append(" ".join(words).title() + "!")
    found = Spelling([texts[:50], texts[50:]]).alike(0.7)
    ours = {(int(a), int(b)): float(c) for a, b, c in zip(found.first, found.second, found.similarity, strict=True)}
    sets = [shingles(text) for text in texts]
    scores = {(i, j): len(sets[i] & sets[j]) / len(sets[i] | sets[j]) for i, j in combinations(range(120), 2)}
    expected = {pair: score for pair, score in scores.items() if score >= 0.7}
    assert len(expected) > 15
    assert ours == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "near"),
    [
        ("Where is my new card?", "WHERE IS MY NEW CARD!!", True),
        ("I can't find my new card", "I cant find my new card...", True),
        ("Where is my new card, please", "please where is my new card", True),
        ("How do I activate the account", "How do I activaet the account", True),
        ("Where is my passport", "Where is my password", False),
        ("What does IOC stand for", "What does IBM stand for", False),
        ("Send 500 pounds to my savings", "Send 900 pounds to my savings", False),
        ("???", "!!!", False),
        ("\u041a\u0430\u0440\u0442\u0430", "\u043a\u0430\u0440\u0442\u0430!", True),
    ],
)  # fmt: skip
def test_texts_are_near_by_spelling(first, second, near):
    found = inspect_pairs(pa.table({"anchor": [first, second, "other"], "positive": ["a b c", "d e f", "g h i"]}))
    assert found.facts["near_duplicates"]["anchors"]["pairs"] == near
    assert found.facts["duplicates"]["anchors"]["repeats"] == 0 or first.casefold() == second.casefold()


class Beginning:
    """An encoder of the first `max_seq_length` words alone."""

    def __init__(self, reads):
        self.max_seq_length = reads

    def encode(self, texts):
        rng = {}
        out = np.zeros((len(texts), 64), np.float32)
        for row, text in enumerate(texts):
            for word in text.split()[: self.max_seq_length]:
                out[row] += rng.setdefault(
                    word, np.random.default_rng(sum(word.encode()) + len(word)).standard_normal(64)
                )
        return out


def test_a_header_that_fills_what_the_guide_reads_makes_no_near_duplicates():
    header = sentences(1, 40, 9)[0]
    answers = [f"{header} {each}" for each in sentences(80, 60, 1)]
    answers[70:75] = [f"Hello, {each}." for each in answers[:5]]
    table = pa.table({"anchor": sentences(80, 8, 2), "positive": answers})
    found = inspect_pairs(table, encoder=Beginning(40), cap=1.0)
    near = found.facts["near_duplicates"]["positives"]
    assert near["pairs"] == 5
    assert found.facts["text_lengths"]["longer_than_the_guide_reads"] == 80
    assert "longer than the guide reads" in found.rows["reasons"][0].as_py()
    assert any("80 texts are longer than the guide reads" in line for line in notes(found.summary))
    whole = inspect_pairs(table, encoder=Beginning(400), cap=1.0)
    assert whole.facts["text_lengths"]["longer_than_the_guide_reads"] == 0


# Against an evaluation set


@pytest.fixture
def train():
    questions, answers = sentences(60, 8, 3), sentences(60, 12, 4)
    return pa.table({"anchor": questions, "positive": answers})


def leaking(train, tmp_path, name="test.jsonl", **rows):
    """An evaluation set: question 5 in capitals, answer 7, question 9 in another order, and new ones."""
    asked = train["anchor"].to_pylist()
    new = [asked[5].upper(), train["positive"][7].as_py(), " ".join(reversed(asked[9].split())), *sentences(20, 8, 77)]
    file = tmp_path / name
    file.write_text("".join(json.dumps({"query": text, "id": i} | rows) + "\n" for i, text in enumerate(new)))
    return file


@pytest.mark.parametrize("guided", [False, True])
def test_rows_with_texts_of_an_evaluation_set_are_left_out(train, tmp_path, guided):
    more = {"encoder": Beginning(100), "cap": 1.0} if guided else {}
    file = leaking(train, tmp_path)
    found = inspect_pairs(train, against=file, **more)
    facts = found.facts["evaluation"]
    assert facts == {
        "against": str(file),
        "texts": 23,
        "same_rows": 2,
        "near_rows": 1,
        "near_pairs": facts["near_pairs"],
    }
    rows = found.rows["reasons"].to_pylist()
    assert [i for i, each in enumerate(rows) if "in the evaluation set" in each] == [5, 7]
    assert [i for i, each in enumerate(rows) if "near the evaluation set" in each] == [9]
    assert found.clean(tmp_path / "clean.parquet") == 57
    assert not set(pq.read_table(tmp_path / "clean.parquet")["anchor"].to_pylist()) & {
        train["anchor"][row].as_py() for row in (5, 7, 9)
    }
    gallery = next(each for each in found.galleries if "evaluation" in each.heading)
    assert (gallery.total, gallery.action) == (3, "They are left out.")
    kept = inspect_pairs(train, against=file, leaks="keep", **more)
    assert kept.facts["clean_rows"] == 60
    # Texts of the evaluation set are no candidates: everything else is as without them.
    without = inspect_pairs(train, **more).facts
    assert {name: kept.facts[name] for name in ("false_negatives", "near_duplicates", "duplicates")} == {
        name: without[name] for name in ("false_negatives", "near_duplicates", "duplicates")
    }


def test_the_queries_of_a_beir_folder_and_embeddings_are_an_evaluation_set(train, tmp_path):
    folder = tmp_path / "beir"
    folder.mkdir()
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "1", "text": train["anchor"][3].as_py() + "!"}) + "\n")
    (folder / "corpus.jsonl").write_text(json.dumps({"_id": "1", "title": "", "text": train["positive"][4].as_py()}))
    found = inspect_pairs(train, against=folder)
    assert found.facts["evaluation"]["same_rows"] + found.facts["evaluation"]["near_rows"] == 1
    rng = np.random.default_rng(0)
    a, p = rng.standard_normal((2, 100, 16)).astype(np.float32)
    pq.write_table(pa.table({"anchor": [a[8], a[2] + 1e-3 * p[0]]}), tmp_path / "test.parquet")
    found = inspect_pairs(pa.table({"anchor": list(a), "positive": list(p)}), against=tmp_path / "test.parquet")
    assert (found.facts["evaluation"]["same_rows"], found.facts["evaluation"]["near_rows"]) == (1, 1)


def test_evaluation_sets_and_corpora_may_be_tables_and_lists(train, tmp_path):
    file = leaking(train, tmp_path)
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    texts = [row["query"] for row in rows]
    expected = inspect_pairs(train, against=file)
    assert expected.facts["evaluation"]["same_rows"] > 0
    for given in (rows, pa.Table.from_pylist(rows), texts, {"query": texts}):
        found = inspect_pairs(train, against=given)
        assert found.facts["evaluation"] == expected.facts["evaluation"] | {"against": "`against`"}
        assert found.rows == expected.rows
    bad = pa.table({"anchor": ["a b c", "d e f"], "positive": ["p", "q"], "negative": ["p", "q"]})
    new = inspect_pairs(bad, corpus=["one", "two", "three"])
    assert new.facts["mined_negatives"]["refilled"] == 2
    assert any("and texts of the corpus" in line for line in notes(new.summary))
    with pytest.raises(DataError, match="`against` holds no rows"):
        inspect_pairs(train, against=[])
    with pytest.raises(TypeError, match=r"`against`: give a path, a table .*got int"):
        inspect_pairs(train, against=5)
    with pytest.raises(TypeError, match="give `against` as an object or as a setting, got both"):
        inspect_pairs(train, PairsConfig(against=file), against=texts)


def test_an_evaluation_set_with_splits_is_compared_by_its_test_split(tmp_path):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    train = pa.table({"query": [f"question {word}" for word in "abcdef"], "positive": [*"uvwxyz"]})
    parts = {"train": ["question a", "question b"], "test": ["question c"], "dev": ["question d", "question e"]}
    saved = datasets.DatasetDict({name: datasets.Dataset.from_dict({"query": each}) for name, each in parts.items()})
    saved.save_to_disk(str(tmp_path / "saved"))
    beir = tmp_path / "beir"
    (beir / "qrels").mkdir(parents=True)
    texts = [text for each in parts.values() for text in each]
    (beir / "queries.jsonl").write_text(
        "".join(json.dumps({"_id": f"0{i}", "text": t}) + "\n" for i, t in enumerate(texts))
    )
    (beir / "corpus.jsonl").write_text(json.dumps({"_id": "001", "title": "", "text": "z"}) + "\n")
    for name, each in parts.items():
        judged = [f"0{texts.index(text)}\t001\t1\n" for text in each]
        (beir / "qrels" / f"{name}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(judged))
    for against in (saved, tmp_path / "saved", beir):
        for split, leaks in ((None, 1), ("dev", 2)):
            said = []
            found = inspect_pairs(train, against=against, against_split=split, say=said.append, spelling=1)
            assert found.facts["evaluation"]["same_rows"] == found.facts["evaluation"]["texts"] == leaks
            assert any(f"the split {split or 'test'!r} is read, not" in line for line in said)
        with pytest.raises(DataError, match="no split 'all'; its splits: "):
            inspect_pairs(train, against=against, against_split="all")
    with pytest.raises(DataError, match="has the splits train, dev: name one with `against_split`"):
        inspect_pairs(train, against=datasets.DatasetDict({each: saved[each] for each in ("train", "dev")}))
    with pytest.raises(PairsError, match="`against_split` names a part of a set of texts: give the set as `against`"):
        inspect_pairs(train, against_split="test")
    with pytest.raises(DataError, match="leave `corpus_split` out, got 'all'"):
        inspect_pairs(train, corpus=["a text"], corpus_split="all")


def test_evaluation_sets_that_cannot_be_compared_are_refused_in_words(train, tmp_path):
    with pytest.raises(DataError, match=r"no `against` at .*nothing\.jsonl"):
        inspect_pairs(train, against=tmp_path / "nothing.jsonl")
    file = leaking(train, tmp_path, "two.jsonl", title="a title")
    file.write_text(file.read_text().replace('"query"', '"asked"'))
    with pytest.raises(
        DataError, match=r"which column of texts is meant.*asked, id, title: name one with `against_col"
    ):
        inspect_pairs(train, against=file)
    with pytest.raises(DataError, match="column 'id' holds no texts"):
        inspect_pairs(train, against=file, against_column="id")
    assert inspect_pairs(train, against=file, against_column="asked").facts["evaluation"]["texts"] == 23
    np.save(tmp_path / "features.npy", np.ones((120, 4)))
    with pytest.raises(PairsError, match="has features of the pairs alone, and none of"):
        inspect_pairs(train, against=leaking(train, tmp_path), guide_features=tmp_path / "features.npy")
    with pytest.raises(PairsError, match="give the set as `against`"):
        inspect_pairs(train, against_column="asked")


def test_among_many_texts_those_that_are_nearly_alike_are_found(monkeypatch):
    monkeypatch.setattr("pairsift.retrieval.near._MANY_TEXTS", 10)
    texts = sentences(200, 12, 5)
    found = Spelling([texts + [f"{text} {WORDS[0]}" for text in texts]]).alike(0.8)
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    sets = [shingles(text) for text in texts]
    more = shingles(WORDS[0])
    near = {(i, 200 + i) for i in range(200) if len(sets[i]) >= 0.8 * len(sets[i] | more)}
    assert len(near & pairs) >= 0.98 * len(near) > 150
