"""The script for a GPU, tried on the CPU."""

import json

import numpy as np
import pytest
import torch

from lab import gpu_minutes
from lab.rows import read


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    file = tmp_path_factory.mktemp("gpu") / "digits.npz"
    gpu_minutes.pack("digits:train", "digits:test", file, per_class=20, test_per_class=10)
    return file


def test_packed_images_are_small_whole_and_balanced(data):
    with np.load(data) as file:
        assert file["train_x"].dtype == np.uint8
        assert file["train_x"].shape[:2] == (200, 3)
        assert np.bincount(file["test_y"]).tolist() == [10] * 10


def test_a_file_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_minutes, "MOST_MB", 0.01)
    with pytest.raises(ValueError, match="take fewer images"):
        gpu_minutes.pack("digits:train", "digits:test", tmp_path / "x.npz", per_class=20)
    assert not (tmp_path / "x.npz").exists()


def test_every_part_is_measured_and_written_in_the_schema(data, tmp_path):
    output = tmp_path / "gpu.jsonl"
    gpu_minutes.main([
        "run", str(data), "--device", "cpu", "--minutes", "0.3", "--sizes", "64", "--side", "64",
        "--encoder", "resnet-small", "--batch", "50", "-o", str(output),
    ])  # fmt: skip
    rows = read(output)
    parts = {part: [row["measures"] for row in rows if row["group"] == part] for part in
             ("rate", "equality", "loss", "train")}  # fmt: skip
    assert {part: len(found) for part, found in parts.items()} == {"rate": 1, "equality": 9, "loss": 5, "train": 3}
    assert max(row["value"] for row in parts["equality"]) < 1e-5
    assert max(row["gradient"] for row in parts["equality"]) < 1e-4
    whole = [row["gradient_apart"] for row in parts["loss"] if "gradient_apart" in row]
    assert len(whole) == 3
    assert whole[0] < 1e-5  # the cross entropy of the whole matrix
    assert whole[-1] < 1e-5  # whole matrices, treated
    assert all(row["steps"] >= 1 and row["share_of_rate"] > 0 for row in parts["train"])
    assert all(0 <= row["knn20"] <= 100 and 0 <= row["linear"] <= 100 for row in parts["train"])


def test_a_run_that_is_cut_short_keeps_what_it_has(data, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(gpu_minutes, "measure_losses", stop)
    with pytest.raises(KeyboardInterrupt):
        gpu_minutes.main(["run", str(data), "--device", "cpu", "--side", "64", "-o", str(tmp_path / "gpu.jsonl")])
    assert [json.loads(line)["group"] for line in (tmp_path / "gpu.jsonl").open()].count("equality") == 9


def test_without_a_gpu_nothing_is_measured(data, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no CUDA GPU"):
        gpu_minutes.main(["run", str(data), "-o", str(tmp_path / "gpu.jsonl")])
    assert not (tmp_path / "gpu.jsonl").exists()


def test_batches_hold_every_image_once_before_any_comes_again():
    rows = torch.cat(list(gpu_minutes.batches(100, 50, 4)))
    assert sorted(rows[:100].tolist()) == list(range(100))
    assert len(rows) == 200
