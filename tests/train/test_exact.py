"""`method="exact"`: a run without gradient steps that opens, embeds, resumes and guides like any other."""

import numpy as np
import pytest
import torch

from pairsift import TrainConfig, pretrain
from pairsift.data import SimCLRViews, load_images
from pairsift.evaluate import knn
from pairsift.spectral import PatchEncoder, SpectralError
from pairsift.spectral.patches import ImageViews
from pairsift.train import ConfigError, Interrupted, Run, embed
from pairsift.train import exact as exact_module

DIGITS = {"data": "digits:train", "per_class": 40, "flip": 0.0, "grey": 0.0, "hue": 0.0, "crop_min": 0.4}
SMALL = {"method": "exact", "filters": 30, "views": 3, "batch_size": 16, "progress": False}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    config = TrainConfig(**DIGITS, **SMALL, run_dir=tmp_path_factory.mktemp("exact") / "run", save_features=True)
    lines = []
    return pretrain(config, say=lines.append), config, lines


def test_it_beats_its_own_pixels(finished):
    result, _, lines = finished
    test = load_images("digits:test")
    images = result.images

    def pixels(these):
        return these.images.reshape(len(these), -1).astype(np.float32)

    ours = knn(embed(result.encoder, images), images.labels, embed(result.encoder, test), test.labels, k=5)
    theirs = knn(pixels(images), images.labels, pixels(test), test.labels, k=5)
    assert ours > theirs
    assert ours > 0.95
    assert any("dimensions, ridge" in line and "held-out pairs" in line for line in lines)


def test_the_run_opens_like_any_other(finished):
    result, config, _ = finished
    run = Run.open(config.run_dir)
    encoder = run.load_encoder()
    rows = torch.rand(3, 3, 8, 8)
    torch.testing.assert_close(encoder(rows), result.encoder(rows))
    assert run.metrics_file.read_text().startswith("ridge,dimensions")
    assert run.features_file.exists()
    assert result.metrics[0]["held_out_pairs"] == 120  # three folds of a tenth


def test_a_finished_run_resumes_to_itself_and_another_run_gives_the_same(finished, tmp_path):
    result, config, _ = finished
    lines = []
    again = pretrain(config.model_copy(update={"resume": True}), say=lines.append)
    assert any("is finished" in line for line in lines)
    other = pretrain(TrainConfig(**DIGITS, **SMALL, run_dir=tmp_path / "other"))
    rows = torch.rand(3, 3, 8, 8)
    assert torch.equal(again.encoder(rows), result.encoder(rows))
    assert torch.equal(other.encoder(rows), result.encoder(rows))


def test_ctrl_c_leaves_a_run_that_resumes(finished, tmp_path, monkeypatch):
    result, _, _ = finished
    config = TrainConfig(**DIGITS, **SMALL, run_dir=tmp_path / "run")

    def stopped(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(exact_module.PatchEncoder, "fit", stopped)
        with pytest.raises(Interrupted, match="before the map was solved"):
            pretrain(config)
    again = pretrain(config.model_copy(update={"resume": True}))
    rows = torch.rand(3, 3, 8, 8)
    assert torch.equal(again.encoder(rows), result.encoder(rows))


def test_views_are_made_the_same_again():
    images = load_images("digits:train", per_class=25).images
    encoder = PatchEncoder(filters=10, dimensions=4)
    stream = ImageViews(encoder, images, SimCLRViews(), 3, 0)
    ((_, block, _),) = stream.blocks()
    rows = np.array([0, 130, 131, 249])
    np.testing.assert_array_equal(stream.taken(rows)[0], block[rows])


def test_two_layers_and_mirror_images(tmp_path):
    images = load_images("digits:train", per_class=25)
    encoder, fitted = PatchEncoder.fit(
        images.images, SimCLRViews(), filters=20, views=2, layers=2, dimensions=32, mirrored=True
    )
    rows = torch.rand(4, 3, 8, 8)
    assert encoder.raw(rows).shape == (4, 2 * 20 * 9)
    torch.testing.assert_close(encoder(rows), encoder(rows.flip(3)))
    assert fitted.held_out.chosen.power == 1.0
    named = PatchEncoder.named(encoder.name)
    named.load_state_dict(encoder.state_dict())
    assert torch.equal(named(rows), encoder(rows))


@pytest.mark.slow  # fits 400 filters
def test_exact_features_guide_another_run(tmp_path):
    lines = []
    config = TrainConfig(
        data="digits:train", per_class=25, treatment="auto", guide="exact", epochs=2, batch_size=64, progress=False,
        run_dir=tmp_path / "guided",
    )  # fmt: skip
    pretrain(config, say=lines.append)
    assert any(line.startswith("guide:") for line in lines)


def test_a_guide_has_the_views_of_the_run(tmp_path, monkeypatch):
    """Digits are no views of their mirror images, so features of both must not be averaged."""
    asked = {}

    def fit(images, policy, **settings):
        asked.update(settings, policy=policy)
        raise SpectralError("stopped here")

    monkeypatch.setattr(exact_module.PatchEncoder, "fit", fit)
    lines = []
    config = TrainConfig(**DIGITS, guide="exact", epochs=1, progress=False, run_dir=tmp_path / "guided")
    pretrain(config, say=lines.append)
    assert any("no guide can be made of these images: stopped here" in line for line in lines)
    assert asked["mirrored"] is False
    assert asked["policy"] == config.view_policy()


def test_few_images_are_not_measured_by_a_batch(tmp_path):
    """There are no batches."""
    config = TrainConfig(data="digits:train", per_class=10, method="exact", progress=False, run_dir=tmp_path / "few")
    with pytest.raises(SpectralError, match="100 images are too few to hold some out"):
        pretrain(config)


def test_settings_that_do_not_go_together_are_refused():
    for changed in ({"treatment": "margin"}, {"devices": 2}, {"positives": "temporal"}):
        with pytest.raises(ConfigError, match="exact"):
            TrainConfig(**DIGITS, **SMALL, **changed)
    with pytest.raises(ConfigError, match="filters=50 is for"):
        TrainConfig(filters=50)
    images = load_images("digits:train", per_class=10).images
    with pytest.raises(SpectralError, match="too few to hold some out"):
        PatchEncoder.fit(images, SimCLRViews())
    with pytest.raises(SpectralError, match=r"\(N, 3, H, W\) uint8, got float32 of shape"):
        PatchEncoder.fit(images.astype(np.float32), SimCLRViews())
    with pytest.raises(SpectralError, match="at least 2 views"):
        PatchEncoder.fit(np.repeat(images, 3, axis=0), SimCLRViews(), views=1)
    with pytest.raises(ValueError, match="names no patch encoder"):
        PatchEncoder.named("patches:1-2")
    with pytest.raises(SpectralError, match="layers must be"):
        PatchEncoder(layers=3)
