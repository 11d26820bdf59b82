import json
import os

import pytest

from pairsift.files import replacing, write_json


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
