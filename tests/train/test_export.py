"""The folder for the Hub holds what is needed to use the encoder, and nothing of the machine of the run."""

import json

import numpy as np
import pytest
import torch

from pairsift.data import load_images
from pairsift.train import Run, RunError, embed, export_encoder, pretrain


@pytest.fixture
def finished(config, tmp_path):
    def make(name="run", **changes):
        settings = config(name, **{"data": "digits:train", "per_class": 10, "epochs": 1, **changes})
        return pretrain(settings).run

    return make


@pytest.mark.parametrize("changes", [{}, {"method": "exact", "filters": 20, "views": 2, "per_class": 30}])
def test_an_exported_encoder_gives_the_same_features(finished, tmp_path, changes):
    run = finished(**changes)
    folder = export_encoder(run, tmp_path / "shared" / "digits")
    assert {file.name for file in folder.iterdir()} == {"README.md", "config.json", "model.safetensors"}
    images = load_images("digits:test", per_class=5)
    given, again = (embed(each.load_encoder(), images) for each in (run, Run.open(folder)))
    assert np.array_equal(given, again)
    assert f"# (N, {given.shape[1]}) float32" in (folder / "README.md").read_text()


def test_the_card_shows_settings_and_decisions_but_no_place(finished, tmp_path):
    run = finished(treatment="auto")
    folder = export_encoder(run, tmp_path / "digits")
    card, settings = (folder / "README.md").read_text(), json.loads((folder / "config.json").read_text())
    assert card.startswith("---\nlibrary_name: pairsift\n")
    assert "| treatment | auto |" in card
    assert "The treatment `auto` decided: stays off" in card
    assert f"torch {torch.__version__}" in card
    assert str(tmp_path) not in card + json.dumps(settings)
    assert settings["data"] == "digits:train"


def test_a_frame_encoder_is_exported_too(config, tmp_path):
    frames = tmp_path / "frames.npy"
    rng = np.random.default_rng(0)
    import pyarrow as pa
    import pyarrow.parquet as pq

    values = [rng.standard_normal((12, 6)).astype(np.float32).tolist() for _ in range(40)]
    pq.write_table(pa.table({"frames": values}), frames.with_suffix(".parquet"))
    settings = config(data=str(frames.with_suffix(".parquet")), positives="temporal", epochs=1)
    folder = export_encoder(pretrain(settings).run, tmp_path / "out")
    assert Run.open(folder).load_encoder()(torch.zeros(2, 6)).shape[0] == 2


def test_what_cannot_be_exported_is_refused_before_anything_is_written(finished, config, small, tmp_path):
    run = finished()
    full = tmp_path / "full"
    full.mkdir()
    (full / "other").touch()
    with pytest.raises(RunError, match="full exists and is not empty: choose another folder"):
        export_encoder(run, full)
    own = pretrain(config("own", data="digits:train", per_class=10, epochs=1), encoder=small()).run
    with pytest.raises(RunError, match="an encoder of your own"):
        export_encoder(own, tmp_path / "own-exported")
    unfinished = Run.start(config("unfinished", data="digits:train"))
    with pytest.raises(RunError, match="has no encoder yet"):
        export_encoder(unfinished, tmp_path / "unfinished-exported")
    assert not (tmp_path / "own-exported").exists()
    assert not (tmp_path / "unfinished-exported").exists()
