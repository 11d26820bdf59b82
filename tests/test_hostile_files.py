"""Files from strangers: refused in a line or two, without running what they bring or taking the memory they claim."""

import io
import os
import pickle
import re
import shutil
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.torch
import torch
from conftest import encode, write_parquet
from mixtures import midpoints
from PIL import Image

import pairsift
from pairsift import cli
from pairsift.data import DataError, load_images, open_features
from pairsift.same_class import Affinity
from pairsift.train import ConfigError
from pairsift.train.policy import OwnFeaturesPolicy
from pairsift.train.run import check_plain

QUICK = ["--per-class", "8", "--image-size", "8", "--batch-size", "32", "--epochs", "1", "--device", "cpu"]
QUICK += ["--threads", "1", "--no-progress"]


class Payload:
    """What pickle would run: a file appears."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path):
    """Where a payload that was run leaves its mark; it is shown to work, then must never be there again."""
    place = tmp_path / "run-by-a-payload"
    pickle.loads(pickle.dumps(Payload(place)))
    assert place.is_dir()
    place.rmdir()
    yield place
    assert not place.exists()


@pytest.fixture
def refused(monkeypatch):
    """A command that fails in a line or two; returns its words."""

    def command(*arguments):
        err = io.StringIO()
        monkeypatch.setattr(sys, "stderr", err)
        assert cli.guarded([str(argument) for argument in arguments], False) != 0
        words = err.getvalue().strip()
        assert "Traceback" not in words
        last = words[words.index("error: ") :]
        assert len(last.splitlines()) <= 2, last
        return last

    return command


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "run"
    assert cli.guarded(["train", "digits:train", *QUICK, "-o", str(path)], False) == 0
    return path


@pytest.fixture
def run(trained, tmp_path):
    """A finished run that a test may damage."""
    return shutil.copytree(trained, tmp_path / "run")


def features_file(path, n=300):
    features, _, _ = midpoints(n)
    pq.write_table(pa.table({"features": pa.array(list(features.astype(np.float32)))}), path)
    return path


# What pickle would run


def test_a_checkpoint_that_brings_a_program(run, refused, mark):
    last = run / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    torch.save(content | {"hyper_parameters": Payload(mark)}, last)
    words = refused("train", "--resume", "--output", run)
    assert "last.ckpt cannot be read safely" in words
    assert "--overwrite" in words
    last.write_bytes(pickle.dumps(Payload(mark)))
    assert "last.ckpt cannot be read" in refused("train", "--resume", "--output", run)


def test_a_run_that_goes_on_reads_no_program_either(trained, tmp_path, refused, mark):
    """Not finished: here Lightning reads the checkpoint, too."""
    run = tmp_path / "cut"
    assert cli.guarded(["train", "digits:train", *QUICK, "--epochs", "2", "-o", str(run)], False) == 0
    last = run / "checkpoints" / "last.ckpt"
    half = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save(half | {"callbacks": half["callbacks"] | {"Metrics": Payload(mark)}}, last)
    assert "cannot be read safely" in refused("train", "--resume", "--output", run)


def change(state, name):
    """The state with one tensor gone, one more, or one of another shape."""
    first = next(iter(state))
    return {
        "gone": {key: value for key, value in state.items() if key != first},
        "more": {**state, "a.more": torch.zeros(1)},
        "shape": {**state, first: torch.zeros(7)},
        "kind": {**state, first: "text"},
    }[name]


@pytest.mark.parametrize("name", ["gone", "more", "shape", "kind"])
def test_a_checkpoint_of_another_encoder(run, refused, name):
    last = run / "checkpoints" / "last.ckpt"
    content = torch.load(last, weights_only=True)
    torch.save(content | {"state_dict": change(content["state_dict"], name)}, last)
    words = refused("train", "--resume", "--output", run)
    assert "resume with the encoder that the run was started with" in words
    assert "last.ckpt has" in words


class Stateful(torch.nn.Flatten):
    """An encoder that keeps something beside its tensors."""

    def __init__(self, state):
        super().__init__()
        self.state = state

    def get_extra_state(self):
        return self.state


def test_what_could_not_be_read_again_is_refused_before_training(tmp_path):
    config = pairsift.TrainConfig(epochs=1, batch_size=32, run_dir=tmp_path / "run", device="cpu", progress=False)
    with pytest.raises(ConfigError, match=r"'encoder\.backbone\._extra_state' is a dict.* keep it in a buffer"):
        pairsift.pretrain(config, images=load_images("digits:train", per_class=8), encoder=Stateful({"seen": 1}))
    check_plain({"a": torch.zeros(2), "b": {"seen": [1, 2.5, None, "x", (True, torch.zeros(2))]}})
    with pytest.raises(ConfigError, match=r"extra state 'b' cannot be read again from a checkpoint"):
        check_plain({"b": {"file": [Path("x")]}})


def test_an_affinity_that_an_earlier_version_wrote_as_bytes_is_read(tmp_path):
    config = pairsift.TrainConfig(select="affinity", treatment="auto")
    evidence = OwnFeaturesPolicy(config, 60, 4, print)
    evidence.selector.affinity = Affinity(torch.rand(60, 5))
    state = evidence.get_extra_state()
    assert isinstance(state["affinity"], torch.Tensor)
    other = OwnFeaturesPolicy(config, 60, 4, print)
    for affinity in (state["affinity"], safetensors.torch.save({"codes": state["affinity"]})):
        other.set_extra_state(state | {"affinity": affinity})
        assert torch.equal(other.selector.affinity.codes, evidence.selector.affinity.codes)
    other.set_extra_state(state | {"affinity": None})
    assert not other.ready


@pytest.mark.parametrize("content", [{}, [1], {"global_step": 1}, {"global_step": "1"}])
def test_a_checkpoint_of_something_else(run, refused, content):
    torch.save(content, run / "checkpoints" / "last.ckpt")
    assert "last.ckpt cannot be read as a checkpoint of a run" in refused("train", "--resume", "--output", run)


def test_nothing_in_the_source_reads_pickles():
    for file in Path(pairsift.__file__).parent.rglob("*.py"):
        text = file.read_text()
        for bad in ("weights_only=False", "allow_pickle=True", "pickle.load", "yaml.load(", "yaml.unsafe_load"):
            assert bad not in text, file
        for call in re.findall(r"(?<!safetensors\.)torch\.load\(.*|ckpt_path=.*", text):
            assert "weights_only=True" in call, file


@pytest.mark.parametrize("command", ["train", "scan"])
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_of_objects(tmp_path, refused, mark, command, suffix):
    file, name = tmp_path / f"x.{suffix}", "images" if command == "train" else "features"
    array = np.array([Payload(mark)] * 3, dtype=object)
    np.save(file, array, allow_pickle=True) if suffix == "npy" else np.savez(file, **{name: array})
    assert "bject" in refused(command, file, "-o", tmp_path / "out")
    file.write_bytes(pickle.dumps(Payload(mark)))
    assert "cannot be read as a numpy file" in refused(command, file, "-o", tmp_path / "out")


@pytest.mark.parametrize("command", ["train", "scan"])
def test_a_configuration_that_brings_a_program(tmp_path, refused, mark, command):
    file = tmp_path / "config.yaml"
    file.write_text(f"seed: !!python/object/apply:os.mkdir ['{mark}']\n")
    words = refused(
        command, *(() if command == "train" else (features_file(tmp_path / "x.parquet"),)), "--config", file
    )
    assert "config.yaml cannot be read as a configuration" in words


# What is cut short or no such file


@pytest.mark.parametrize("text", ["a: [1,", "\tx: y", "- 1\n- 2", "a: b: c", "\x00", "x: *nowhere", b"\xff\xfe\xfa"])
def test_a_malformed_configuration(tmp_path, refused, text):
    file = tmp_path / "config.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert "config.yaml" in refused("train", "--config", file)


@pytest.mark.parametrize("length", [0, 7, 1000])
def test_a_cut_encoder(run, refused, tmp_path, length):
    file = run / "encoder.safetensors"
    file.write_bytes(file.read_bytes()[:length])
    assert "encoder.safetensors cannot be loaded" in refused("embed", run, "digits:test", "-o", tmp_path / "x.parquet")


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_cut_parquet(tmp_path, refused, keep):
    features = features_file(tmp_path / "x.parquet")
    features.write_bytes(features.read_bytes()[: int(keep * features.stat().st_size)])
    assert "cannot be read as parquet" in refused("scan", features, "-o", tmp_path / "out")
    images = tmp_path / "images.parquet"
    write_parquet(images, [encode(np.zeros((8, 8), np.uint8))] * 40, label=[0, 1] * 20)
    images.write_bytes(images.read_bytes()[: int(keep * images.stat().st_size)])
    assert "cannot be read as parquet" in refused("train", images, "-o", tmp_path / "run")
    texts = tmp_path / "texts.parquet"
    pq.write_table(pa.table({"text": ["a good day"] * 50}), texts)
    texts.write_bytes(texts.read_bytes()[: int(keep * texts.stat().st_size)])
    assert "cannot be read as parquet" in refused("text-views", texts, "-o", tmp_path / "views.parquet")


def test_parquet_with_damage_inside(tmp_path, refused):
    file = features_file(tmp_path / "x.parquet")
    content = bytearray(file.read_bytes())
    content[4:400] = bytes(396)
    file.write_bytes(content)
    assert "cannot be read as parquet" in refused("scan", file, "-o", tmp_path / "out")


@pytest.mark.parametrize("text", ["{", "[1]", "null", '"x"', b"\xff\xfe"])
def test_malformed_facts_of_an_unfinished_scan(tmp_path, refused, text):
    parts = tmp_path / "out" / "parts"
    parts.mkdir(parents=True)
    (parts / "settings.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    words = refused("scan", features_file(tmp_path / "x.parquet"), "-o", tmp_path / "out")
    assert "unfinished scan" in words
    assert "--overwrite" in words


@pytest.mark.parametrize("text", ["{", "[1]", "null", b"\xff\xfe"])
def test_malformed_facts_of_a_scan(tmp_path, text):
    features, _, _ = midpoints(300)
    pairsift.scan(features, 5, threads=1).save(tmp_path)
    (tmp_path / "scan.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match="does not hold a finished scan"):
        pairsift.Scan.load(tmp_path)


# What claims to be huge


def png_header(width, height):
    """A PNG that says so, with a few bytes of pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


@pytest.fixture
def little_memory():
    """The process may take 2 GB more than it has; who asks for more gets a MemoryError."""
    if not Path("/proc/self/statm").exists():
        pytest.skip("how much memory the process has is not told here")
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has + 2 * 10**9, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("size", [[], ["--image-size", "8"]])
def test_a_picture_of_fifty_thousand_pixels_square(tmp_path, refused, little_memory, size):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.png").write_bytes(png_header(50_000, 50_000))
    words = refused("train", folder, *size, "-o", tmp_path / "run")
    assert "row 0 cannot be decoded" in words
    assert "2500000000 pixels" in words
    assert "--skip-corrupt" in words


def test_a_huge_picture_beside_a_scan_is_no_picture(tmp_path):
    features, _, _ = midpoints(100)
    (tmp_path / "images").mkdir()
    for i in range(100):
        (tmp_path / "images" / f"{i:03d}.png").write_bytes(png_header(50_000, 50_000))
    found = pairsift.scan(features, 5, threads=1)
    with pytest.raises(ValueError, match=r"none of .* images can be read"):
        found.report(tmp_path / "page.html", tmp_path / "images")
    most = int(found.scores.argmax())
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / f"{most:03d}.png")
    found.report(tmp_path / "page.html", tmp_path / "images")
    text = (tmp_path / "page.html").read_text()
    assert text.count("no image") >= 40
    assert "data:image/png" in text


def npz(path, name, shape, content):
    """An archive whose array claims a shape."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open(f"{name}.npy", "w") as file:
        file.write(header.getvalue())
        for block in content:
            file.write(block)
    return path


@pytest.mark.parametrize("command", ["train", "scan"])
def test_an_archive_that_claims_a_hundred_gigabytes(tmp_path, refused, little_memory, command):
    name = "images" if command == "train" else "features"
    file = npz(tmp_path / "x.npz", name, (10**6, 100, 1000), [b"few"])
    words = refused(command, file, "-o", tmp_path / "out")
    assert "claims 100,000,000,000 bytes and has 3" in words


def test_an_archive_that_unpacks_to_more_than_is_free(tmp_path, monkeypatch):
    """20 MB in 20 kB, on a machine with 10 MB free."""
    file = npz(tmp_path / "x.npz", "images", (20, 1000, 1000), [bytes(10**6)] * 20)
    assert file.stat().st_size < 30_000
    assert load_images(str(file)).images.shape == (20, 3, 1000, 1000)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 10**7})())
    with pytest.raises(DataError, match=r"takes 0.02 GB and 0.01 GB are free: save it as \.npy"):
        load_images(str(file))


def test_a_bare_array_that_claims_a_hundred_gigabytes(tmp_path, refused, little_memory):
    with (tmp_path / "x.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 100, 1000)}
        )
    assert "cannot be read as a numpy file" in refused("train", tmp_path / "x.npy", "-o", tmp_path / "out")


def test_honest_archives_are_read(tmp_path):
    features = np.random.default_rng(0).standard_normal((60, 4)).astype(np.float32)
    np.savez_compressed(tmp_path / "x.npz", features=np.asfortranarray(features), label=np.array(["a", "b"] * 30))
    source = open_features(tmp_path / "x.npz")
    np.testing.assert_array_equal(source.take(np.arange(60)), features)
    assert list(source.class_names) == ["a", "b"]
