import errno
import json
import os
import stat

import pytest
import torch
from safetensors.torch import save_file

from pairsift._base.files import give_usual_modes, remove_unfinished, replacing, write_json, write_tensors


def test_files_are_whole_or_not_there(tmp_path):
    file = tmp_path / "result.json"
    write_json(file, {"a": 1})

    def half():
        with replacing(file) as temporary:
            temporary.write_text("half of it")
            raise RuntimeError("cut")

    with pytest.raises(RuntimeError, match="cut"):
        half()
    assert json.loads(file.read_text()) == {"a": 1}
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_failing_disk_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "result.json"
    write_json(file, 1)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_json(file, 2)
    assert file.read_text() == "1\n"
    assert os.listdir(tmp_path) == ["result.json"]


def test_content_is_on_the_disk_before_it_takes_the_place(tmp_path, monkeypatch):
    """A machine that stops between any two of these steps leaves the old file or the whole new one."""
    steps, fsync, replace = [], os.fsync, os.replace

    def synced(descriptor):
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else f"file of {os.fstat(descriptor).st_size}"
        steps.append(f"fsync {kind}")
        fsync(descriptor)

    def replaced(old, new):
        steps.append("replace")
        replace(old, new)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_json(tmp_path / "result.json", "whole")
    assert steps == ["fsync file of 8", "replace", "fsync folder"]


def test_a_write_that_is_lost_on_its_way_to_the_disk_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "result.json"
    write_json(file, 1)

    def lost(descriptor):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", lost)
    with pytest.raises(OSError, match="Input/output"):
        write_json(file, 2)
    assert file.read_text() == "1\n"
    assert os.listdir(tmp_path) == ["result.json"]


def test_a_file_system_without_synced_folders_will_do(tmp_path, monkeypatch):
    fsync = os.fsync

    def files_only(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    write_json(tmp_path / "result.json", 1)
    assert (tmp_path / "result.json").read_text() == "1\n"


def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path):
    (tmp_path / "below").mkdir()
    kept = {"a.tmp", ".a.tmp", ".a.1.tmp.txt", "below"}
    for name in (*kept - {"below"}, ".a.json.17.tmp", "below/.last.ckpt.4.tmp"):
        (tmp_path / name).write_text("")
    remove_unfinished(tmp_path)
    assert set(os.listdir(tmp_path)) == kept
    assert not os.listdir(tmp_path / "below")


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_every_file_follows_the_umask(tmp_path, mask, mode):
    (tmp_path / "model").mkdir()
    model = tmp_path / "model" / "model.safetensors"
    save_file({"weight": torch.zeros(2)}, model)  # which their owner alone may read, whatever the umask
    before = os.umask(mask)
    try:
        write_tensors(tmp_path / "map.safetensors", {"weight": torch.zeros(2)}, {})
        write_json(tmp_path / "result.json", 1)
        give_usual_modes(tmp_path / "model")
    finally:
        os.umask(before)
    for file in (tmp_path / "map.safetensors", tmp_path / "result.json", model):
        assert stat.S_IMODE(file.stat().st_mode) == mode
    assert os.listdir(tmp_path / "model") == ["model.safetensors"]
