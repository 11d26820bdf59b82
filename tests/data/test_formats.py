"""Features in files that their own tools wrote, and in the objects that these tools hold."""

import gzip
import json
import pickle

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import torch

from pairsift.data import DataError, open_features
from pairsift.data.features import as_table
from pairsift.data.tables import open_table

N = 20
X = np.random.default_rng(0).standard_normal((N, 4)).astype(np.float32)
NAMES = ["b", "a"] * (N // 2)
PATHS = [f"{i}.png" for i in range(N)]


def check(source, labels=True, paths=True, **options):
    """The features of a source are X, and its labels and paths are those of X."""
    found = open_features(source, **options)
    assert found.shape == X.shape
    np.testing.assert_allclose(np.concatenate([block for _, block in found.blocks(7)]), X, atol=1e-6)
    np.testing.assert_allclose(found.take(np.array([3, 9])), X[[3, 9]], atol=1e-6)
    if labels:
        assert [found.class_names[label] for label in found.labels] == NAMES
    if paths:
        assert list(found.paths) == PATHS
    return found


def listed():
    return pa.table({"emb": pa.array(list(X)), "label": NAMES, "path": PATHS})


def wide():
    return pa.table({f"d{i}": X[:, i] for i in range(4)} | {"label": NAMES, "path": PATHS})


# pandas


@pytest.fixture
def frames():
    pd = pytest.importorskip("pandas", reason="pandas is not installed")
    return {"list": listed().to_pandas(), "wide": wide().to_pandas(), "pandas": pd}


@pytest.mark.parametrize("shape", ["list", "wide"])
def test_frames_of_pandas(frames, tmp_path, shape):
    frame = frames[shape]
    check(frame)
    check(frame.assign(label=frame.label.astype("category")))
    check(frame.convert_dtypes())
    check(frame.set_index(frames["pandas"].Index(range(100, 100 + N), name="number")))
    frame.to_parquet(tmp_path / "f.parquet")
    frame.to_feather(tmp_path / "f.feather")
    for name in ("f.parquet", "f.feather"):
        check(tmp_path / name)
    for name in ("f.jsonl", "f.jsonl.gz", "f.ndjson.bz2"):
        frame.to_json(tmp_path / name, orient="records", lines=True, double_precision=12)
        check(tmp_path / name)
    frame.to_json(tmp_path / "f.json", orient="records", double_precision=12)
    check(tmp_path / "f.json")


def test_text_files_of_pandas(frames, tmp_path):
    for name, options in {"f.csv": {}, "f.tsv": {"sep": "\t"}, "f.csv.gz": {}}.items():
        frames["wide"].to_csv(tmp_path / name, index=False, **options)
        check(tmp_path / name)
    frames["list"].assign(emb=[json.dumps(row.tolist()) for row in X]).to_csv(tmp_path / "l.csv", index=False)
    check(tmp_path / "l.csv")
    frames["wide"].to_csv(tmp_path / "i.csv")
    with pytest.warns(UserWarning, match="the column without a name is the index of a pandas frame"):
        check(tmp_path / "i.csv")
    long = frames["pandas"].DataFrame({"emb": [np.arange(2000.0)] * 3})
    long.to_csv(tmp_path / "cut.csv")
    with pytest.raises(DataError, match=r"row 0, column 'emb' .* which NumPy has shortened"):
        open_features(tmp_path / "cut.csv")


def test_series(frames):
    pd = frames["pandas"]
    check(pd.Series(list(X)), labels=False, paths=False)
    with pytest.raises(DataError, match=r"\(N, D\) matrix, got shape \(2,\)"):
        open_features(pd.Series([1.0, 2.0]))


# polars


def test_frames_of_polars(tmp_path):
    pl = pytest.importorskip("polars", reason="polars is not installed")
    for kind in (pl.Array(pl.Float32, 4), pl.List(pl.Float64)):
        frame = pl.DataFrame({"emb": pl.Series(X.tolist(), dtype=kind), "label": NAMES, "path": PATHS})
        for each in (frame, frame.lazy(), frame.with_columns(pl.col("label").cast(pl.Categorical))):
            check(each)
        check(frame["emb"], labels=False, paths=False)
        frame.write_parquet(tmp_path / "f.parquet")
        frame.write_ipc(tmp_path / "f.arrow")
        frame.write_ipc(tmp_path / "packed.arrow", compression="zstd")
        frame.write_ipc_stream(tmp_path / "stream.arrow")
        frame.write_ndjson(tmp_path / "f.jsonl")
        for name in ("f.parquet", "f.arrow", "packed.arrow", "stream.arrow", "f.jsonl"):
            check(tmp_path / name)


# datasets


@pytest.fixture
def dataset():
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    features = datasets.Features({
        "emb": datasets.Sequence(datasets.Value("float32")), "label": datasets.ClassLabel(names=["a", "b"]),
        "path": datasets.Value("string"),
    })  # fmt: skip
    codes = [["a", "b"].index(name) for name in NAMES]
    return datasets.Dataset.from_dict({"emb": X.tolist(), "label": codes, "path": PATHS}, features)


def test_data_sets_of_datasets(dataset, tmp_path):
    import datasets

    check(dataset)
    turned = list(range(N))[::-1]
    check(dataset.select(turned).select(turned))
    check(dataset.with_format("torch"))
    dataset.to_parquet(tmp_path / "f.parquet")
    dataset.to_json(tmp_path / "f.jsonl")
    check(tmp_path / "f.parquet")
    assert open_features(tmp_path / "f.jsonl").labels.tolist() == [1, 0] * (N // 2)
    dataset.save_to_disk(tmp_path / "one")
    dataset.save_to_disk(tmp_path / "many", num_shards=12)
    check(tmp_path / "one")
    found = check(tmp_path / "many")
    files, rows = found.locate(np.array([N - 1]))
    assert (found.files[files[0]].name, rows.tolist()) == ("data-00011-of-00012.arrow", [0])
    both = datasets.DatasetDict({"train": dataset, "test": dataset})
    both.save_to_disk(tmp_path / "both")
    check(tmp_path / "both" / "train")
    with pytest.raises(DataError, match="holds the splits test, train: name one, as"):
        open_features(tmp_path / "both")
    with pytest.raises(DataError, match="several splits: give one of them, 'train', 'test'"):
        open_features(both)
    (tmp_path / "many" / "data-00003-of-00012.arrow").unlink()
    with pytest.raises(DataError, match=r"many lacks data-00003-of-00012\.arrow"):
        open_features(tmp_path / "many")


# Arrow


def test_files_of_arrow(tmp_path):
    for name, table in (("list", listed()), ("wide", wide())):
        check(table)
        pa.feather.write_feather(table, tmp_path / f"{name}.feather")
        with pa.OSFile(str(tmp_path / f"{name}.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=6)
        check(tmp_path / f"{name}.feather")
        check(tmp_path / f"{name}.arrow")
    check(listed().to_batches()[0])
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(X)
    pq.write_table(pa.table({"emb": tensors, "label": NAMES, "path": PATHS}), tmp_path / "t.parquet")
    check(tmp_path / "t.parquet")
    maps = pa.FixedShapeTensorArray.from_numpy_ndarray(X.reshape(N, 2, 2))
    with pytest.raises(DataError, match="no feature columns"):
        open_features(pa.table({"maps": maps}))
    pq.write_to_dataset(listed(), tmp_path / "parts", partition_cols=["label"])
    assert open_features(tmp_path / "parts").class_names == ["a", "b"]


def test_numbers_in_text_may_be_whole(tmp_path):
    (tmp_path / "f.jsonl").write_text('{"v": [1, 0]}\n{"v": [0, 1]}\n')
    assert open_features(tmp_path / "f.jsonl").take(np.arange(2)).tolist() == [[1, 0], [0, 1]]
    (tmp_path / "f.csv").write_text("d0,d1,d2\n1,0.5,3\n2,1.5,\n")
    np.testing.assert_array_equal(open_features(tmp_path / "f.csv").take(np.arange(2)), [[1, 0.5, 3], [2, 1.5, np.nan]])
    # What is whole in one shard may be a fraction in the next.
    for name, rows in (("s-2", "1,0\n"), ("s-10", "0.5,1\n")):
        (tmp_path / f"{name}.csv").write_text("d0,d1\n" + rows)
    found = open_features(str(tmp_path / "s-*.csv"))
    assert found.take(np.arange(2)).tolist() == [[1, 0], [0.5, 1]]
    assert found.locate(np.array([1]))[0].tolist() == [1]


# Arrays


def test_files_of_arrays(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    numbers = [["a", "b"].index(name) for name in NAMES]
    tensors = {"h": torch.tensor(X), "labels": torch.tensor(numbers)}
    torch.save(tensors, tmp_path / "f.pt")
    torch.save(tensors["h"], tmp_path / "bare.pth")
    torch.save({"h": tensors["h"], "label": NAMES}, tmp_path / "named.pt")
    torch.save(list(tensors["h"]), tmp_path / "rows.pt")
    safetensors.save_file(tensors, tmp_path / "f.safetensors")
    np.savez(tmp_path / "f.npz", anything=X, labels=numbers, ids=np.arange(N), row=np.arange(N)[::-1])
    np.savez_compressed(tmp_path / "names.npz", anything=X, label=NAMES)
    for name in ("f.pt", "f.safetensors", "f.npz"):
        assert check(tmp_path / name, labels=False, paths=False).labels.tolist() == numbers
    assert open_features(tmp_path / "f.npz").rows.tolist() == list(range(N))[::-1]
    for name in ("named.pt", "names.npz"):
        check(tmp_path / name, paths=False)
    for name in ("bare.pth", "rows.pt"):
        check(tmp_path / name, labels=False, paths=False)
    half = {"h": torch.tensor(X).bfloat16()}
    torch.save(half, tmp_path / "half.pt")
    safetensors.save_file(half, tmp_path / "half.safetensors")
    for name in ("half.pt", "half.safetensors"):
        found = open_features(tmp_path / name).take(np.arange(N))
        np.testing.assert_array_equal(found, half["h"].float().numpy())


@pytest.mark.parametrize("kind", ["Flat", "IVF2,Flat", "HNSW4", "IDMap,Flat", "SQ8"])
def test_indexes_of_faiss(tmp_path, kind):
    faiss = pytest.importorskip("faiss", reason="faiss is not installed")
    index = faiss.index_factory(4, kind)
    index.train(X)
    ids = np.arange(N)[::-1] + 100
    index.add_with_ids(X, ids) if kind.startswith("IDMap") else index.add(X)
    faiss.write_index(index, str(tmp_path / "f.faiss"))
    if kind == "SQ8":
        with pytest.warns(UserWarning, match=r"f\.faiss keeps compressed vectors"):
            found = open_features(tmp_path / "f.faiss")
        np.testing.assert_allclose(found.take(np.arange(N)), X, atol=0.05)
        return
    found = check(tmp_path / "f.faiss", labels=False, paths=False)
    assert found.rows.tolist() == (ids.tolist() if kind.startswith("IDMap") else list(range(N)))


def test_the_array_is_named_where_there_are_several(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    torch.save({"a": torch.zeros(N, 4), "b": torch.tensor(X)}, tmp_path / "f.pt")
    safetensors.save_file({"a": torch.zeros(N, 4), "b": torch.tensor(X)}, tmp_path / "f.safetensors")
    np.savez(tmp_path / "f.npz", a=np.zeros((N, 4)), b=X)
    for name in ("f.pt", "f.safetensors", "f.npz"):
        with pytest.raises(DataError, match="2 arrays of features, a, b: name the one to read with `column`"):
            open_features(tmp_path / name)
        check(tmp_path / name, column="b", labels=False, paths=False)
        with pytest.raises(DataError, match=r"no array 'c' .* it holds: a, b"):
            open_features(tmp_path / name, column="c")


def test_folders_of_array_shards(tmp_path):
    for number, rows in ((2, slice(0, 7)), (10, slice(7, N))):
        np.save(tmp_path / f"s-{number}.npy", X[rows])
    found = check(tmp_path, labels=False, paths=False)
    files, rows = found.locate(np.array([6, 7]))
    assert ([found.files[i].name for i in files], rows.tolist()) == (["s-2.npy", "s-10.npy"], [6, 0])
    np.save(tmp_path / "s-11.npy", np.zeros((3, 5), np.float32))
    with pytest.raises(DataError, match=r"s-11\.npy holds float32 of shape \(3, 5\), .*s-2\.npy float32"):
        open_features(tmp_path)


def test_a_file_of_tensors_runs_no_code(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(open_features))
    for name in ("module.pt", "pickle.pt"):
        with pytest.raises(DataError, match="could run code: save a tensor, or a dict of tensors"):
            open_features(tmp_path / name)
    torch.save({"epoch": 3}, tmp_path / "state.pt")
    with pytest.raises(DataError, match=r"no \(N, D\) array"):
        open_features(tmp_path / "state.pt")


# Objects


def test_lists_and_tensors():
    dicts = [{"v": row.tolist(), "label": name, "path": path} for row, name, path in zip(X, NAMES, PATHS, strict=True)]
    check(dicts)
    for each in (X.tolist(), list(X), [torch.tensor(row) for row in X], torch.nn.Parameter(torch.tensor(X))):
        check(each, labels=False, paths=False)
    source = open_features(X)
    assert open_features(source) is source


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([[1.0, 2.0], [1.0]], r"row 1 has shape \(1,\), the rows before it \(2,\)"),
        ([], r"got shape \(0, 0\)"),
        ([["a", "b"]], "row 0 of features must be an array"),
        ([{"v": [1.0]}, {"v": "text"}], "a list that Arrow cannot hold"),
        (np.arange(4).reshape(2, 2), "floating point, got int64"),
    ],
)
def test_objects_without_features_are_refused(source, message):
    with pytest.raises(DataError, match=message):
        open_features(source)


@pytest.mark.parametrize("source", [5, object(), None, {1.0}])
def test_what_is_no_data_is_a_type_error(source):
    with pytest.raises(TypeError, match="features must be an"):
        open_features(source)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("f.jsonl", b'{"a": 1}\nnot json\n', "cannot be read as JSON"),
        ("f.json", b"[1, 2]", "holds no list of objects"),
        ("f.jsonl", b"", "cannot be read as JSON"),
        ("f.csv", b"a,b\n1,2\n3\n", "cannot be read as CSV: .* Expected 2 columns, got 1"),
        ("f.csv", b"", "cannot be read as CSV"),
        ("f.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0)[:-9], "cannot be read as CSV"),
        ("f.arrow", b"nonsense", "cannot be read as an Arrow file"),
        ("f.arrow", b"", "cannot be read as an Arrow file"),
        ("f.npy", b"nonsense", "cannot be read as a numpy file"),
        ("f.safetensors", b"nonsense", "cannot be read as safetensors"),
        ("f.pt", b"nonsense", "no file of torch.save"),
        ("f.faiss", b"nonsense", "cannot be read as an index of faiss"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        open_features(tmp_path / name)
    assert name in str(caught.value)


def test_patterns_that_find_nothing_or_too_much(tmp_path):
    with pytest.raises(DataError, match="finds no table files"):
        open_features(str(tmp_path / "*.parquet"))
    pq.write_table(listed(), tmp_path / "a.parquet")
    pa.csv.write_csv(wide(), tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"finds \.csv, \.parquet: it must find files of one format"):
        open_features(str(tmp_path / "a.*"))
    check(tmp_path)  # of a folder the first format that there is


def test_rows_may_lack_columns_that_later_ones_have(tmp_path):
    rows = [{"a": 1}, {"a": 2, "b": "x"}, {"c": 2**70}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    for found in (open_table(tmp_path / "a.json").read(["a", "b", "c"]), as_table(rows)):
        assert found.to_pydict() == {"a": [1, 2, None], "b": [None, "x", None], "c": [None, None, float(2**70)]}
