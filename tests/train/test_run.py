import numpy as np
import pytest
import torch

from pairsift.data import ImageSet
from pairsift.train import ImageEncoder, Run, build_encoder, pretrain
from pairsift.train.run import RunError


@pytest.fixture
def run(config):
    return Run.start(config(seed=3))


def test_start_writes_configuration_and_versions(run, config):
    assert run.config() == config(seed=3)
    assert {file.name for file in run.path.iterdir()} == {"config.yaml", "versions.json", "checkpoints"}
    assert Run.open(run.path) == run


def test_an_existing_run_is_refused_continued_or_replaced(run, config):
    (run.path / "note.txt").write_text("mine")
    with pytest.raises(RunError, match="continue it with `resume=True`, replace it with `overwrite=True`"):
        Run.start(config())
    assert Run.start(config(seed=3, resume=True)) == run
    assert (run.path / "note.txt").exists()
    Run.start(config(overwrite=True))
    assert not (run.path / "note.txt").exists()


def test_checking_changes_nothing(run, config):
    (run.path / "note.txt").write_text("mine")
    Run.check(config(overwrite=True))
    assert (run.path / "note.txt").exists()
    Run.check(config("new"))
    assert not (run.path.parent / "new").exists()


def test_a_folder_that_is_no_run_is_not_overwritten(tmp_path, config):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"meow")
    with pytest.raises(RunError, match="something else than a run"):
        Run.start(config("photos", overwrite=True))
    assert (tmp_path / "photos" / "cat.png").exists()
    (tmp_path / "empty").mkdir()
    assert Run.start(config("empty")).config_file.exists()


def test_places_that_cannot_be_written(tmp_path, config):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="is a file"):
        Run.start(config("file"))
    with pytest.raises(RunError, match="cannot be written"):
        Run.start(config("file/below"))
    with pytest.raises(RunError, match="cannot be written"):
        Run.start(config("/proc/run"))


def test_the_directory_is_checked_before_anything_is_loaded(run, config):
    with pytest.raises(RunError, match="exists"):
        pretrain(config(data="no/such/data.parquet"))


def test_nothing_to_resume(config):
    with pytest.raises(RunError, match="nothing to resume"):
        Run.start(config("new", resume=True))


def test_what_is_no_run_cannot_be_opened(tmp_path):
    with pytest.raises(RunError, match="is not a run directory"):
        Run.open(tmp_path)


def test_the_encoder_comes_back_with_its_normalisation(run):
    encoder = ImageEncoder(build_encoder("resnet-small"), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)).eval()
    run.save_encoder(encoder, {"encoder": "resnet-small"})
    again = run.load_encoder()
    images = torch.rand(4, 3, 8, 8)
    torch.testing.assert_close(again(images), encoder(images), atol=0, rtol=0)
    assert not any(parameter.requires_grad for parameter in again.parameters())


def test_encoders_that_cannot_be_loaded(run):
    with pytest.raises(RunError, match="has no encoder yet: finish the run"):
        run.load_encoder()
    run.save_encoder(ImageEncoder(build_encoder("resnet-small")), {"encoder": "resnet-small"})
    with pytest.raises(RunError, match="cannot be loaded"):
        run.load_encoder(torch.nn.Flatten())
    run.encoder_file.write_bytes(run.encoder_file.read_bytes()[:1000])
    with pytest.raises(RunError, match="cannot be loaded"):
        run.load_encoder()


def test_a_damaged_checkpoint_is_named(config, small):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 3, 8, 8), dtype=np.uint8)
    images = ImageSet(pixels, rows=np.arange(64))
    settings = config(epochs=1)
    result = pretrain(settings, images=images, encoder=small())
    result.run.last_checkpoint.write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(RunError, match=r"last\.ckpt cannot be read .* restore it from an epoch-"):
        pretrain(settings.model_copy(update={"resume": True}), images=images, encoder=small())
