import json
import math
import os
import signal
import warnings

import kornia
import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from training_runs import VIEWS, At, crash, interrupt, numbers, same, weights

from pairsift.data import DataError, ImageSet, subset
from pairsift.train import Interrupted, Run, embed, pretrain
from pairsift.train.data import training_images
from pairsift.train.module import NonFiniteLossError


@pytest.fixture
def train(config, digits, small):
    """Train on the digits; returns the run's path."""

    def run(name="run", images=digits, views=VIEWS, encoder=small, **changes):
        settings = config(name, **changes)
        pretrain(settings, images=images, encoder=None if encoder is None else encoder(), views=views)
        return settings.run_dir

    return run


def test_a_run_directory_holds_what_it_should(train, digits):
    path = train(encoder=None, epochs=2, treatment="combined", checkpoint_every=2, save_features=True, mix=0.25, seed=5)
    run = Run.open(path)
    config = run.config()
    assert (config.treatment, config.epochs, config.seed) == ("combined", 2, 5)
    versions = json.loads((path / "versions.json").read_text())
    assert versions["seed"] == 5
    assert versions["torch"] == torch.__version__.split("+")[0] or versions["torch"] == torch.__version__
    assert {file.name for file in run.checkpoints.iterdir()} == {"last.ckpt", "epoch-0002.ckpt"}
    assert list((path / "tensorboard").glob("events.*"))
    rows = numbers(path)
    assert [(row["epoch"], row["step"]) for row in rows] == [("1", "3"), ("2", "6")]
    for row in rows:
        assert float(row["loss"]) > 0
        assert 0 < float(row["flagged"]) < 0.1
        assert 0 <= float(row["different"]) <= 1
        assert 0.8 < float(row["different_base"]) < 1
    mixed = np.loadtxt(path / "mixed.csv", skiprows=1, dtype=int)
    assert len(mixed) == 24
    table = pq.read_table(run.features_file)
    assert table.column_names == ["row", "features", "label", "mixed"]
    assert sorted(np.flatnonzero(table["mixed"].to_numpy())) == sorted(np.searchsorted(digits.rows, mixed))
    features = np.stack(table["features"].to_numpy())
    assert features.shape == (96, 128)
    encoder = run.load_encoder()
    assert not encoder.training
    clean = np.flatnonzero(~table["mixed"].to_numpy())
    np.testing.assert_allclose(embed(encoder, subset(digits, clean)), features[clean], atol=1e-5)
    assert not any(file.name.endswith(".tmp") for file in path.rglob("*"))


def test_seeds_and_treatments_decide_the_weights(train):
    first = weights(train("a", treatment="combined"))
    assert same(first, weights(train("b", treatment="combined")))
    assert not same(first, weights(train("c", treatment="combined", seed=1)))
    assert not same(first, weights(train("d")))
    assert not same(first, weights(train("e", treatment="combined", select="random")))


@pytest.mark.parametrize("method", ["simclr", "spectral", "moco", "mixed"])
def test_warmup_trains_plain_first(train, method):
    plain = numbers(train("plain", epochs=3, method=method))
    delayed = numbers(train("delayed", epochs=3, method=method, treatment="margin", margin=0.5, warmup_epochs=2))
    assert [row["loss"] for row in delayed[:2]] == [row["loss"] for row in plain[:2]]
    assert delayed[2]["loss"] != plain[2]["loss"]


@pytest.mark.parametrize("call", [9, 12], ids=["in the middle of an epoch", "in the last step of an epoch"])
@pytest.mark.parametrize("action", [interrupt, crash])
@pytest.mark.parametrize(
    "method",
    [
        {"select": "random"},
        {"method": "spectral"},
        {"method": "moco", "queue_size": 100, "select": "random"},
        {"method": "mixed", "temperature": 0.1},
    ],
    ids=["simclr", "spectral", "moco", "mixed"],
)
def test_a_resumed_run_is_the_uninterrupted_one(train, call, action, method):
    """Step 5 of 9 lies inside the second epoch, step 6 ends it; a crash goes back to the last whole epoch."""
    settings = {"treatment": "combined", "precision": "fp32", **method}
    whole = train("whole", **settings)
    error = Interrupted if action is interrupt else RuntimeError
    with pytest.raises(error, match="stopped after" if action is interrupt else "power cut"):
        train("cut", views=At(call, action), **settings)
    path = train("cut", resume=True, **settings)
    assert same(weights(whole), weights(path))
    assert numbers(whole) == numbers(path)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_while_processes_agree_whether_to_stop_is_not_lost(train, monkeypatch):
    calls = []

    def agree(self, decision, all=True):
        calls.append(decision)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return decision

    monkeypatch.setattr(SingleDeviceStrategy, "reduce_boolean_decision", agree)
    with pytest.raises(Interrupted):
        train()
    assert calls[:3] == [False, False, True]


def test_resuming_a_finished_run_changes_nothing(train):
    path = train()
    before, rows = weights(path), numbers(path)
    assert train(resume=True) == path
    assert same(before, weights(path))
    assert rows == numbers(path)


def test_a_resumed_run_needs_the_same_settings(train):
    train(epochs=1)
    with pytest.raises(ValueError, match=r"other settings: lr \(0.05, now 0.1\)"):
        train(epochs=1, resume=True, lr=0.1)
    train(epochs=1, resume=True, progress=True, checkpoint_every=1)


def test_nan_stops_with_the_step_and_keeps_the_last_good_checkpoint(train):
    with pytest.raises(NonFiniteLossError, match=r"at step 4 \(epoch 1\).*the last good checkpoint is kept"):
        train(views=At(9, lambda views: views * math.nan))
    path = train("whole")
    checkpoint = torch.load(path.parent / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 3
    tensors = [value for value in checkpoint["state_dict"].values() if isinstance(value, torch.Tensor)]
    assert all(torch.isfinite(value).all() for value in tensors)
    assert same(weights(train(resume=True)), weights(path))


def test_diverged_weights_are_not_saved(train):
    """A step size that overflows in the very last step leaves no loss to notice it by."""
    with pytest.raises(NonFiniteLossError):
        train(lr=1e38, epochs=2, lr_warmup_epochs=0)
    assert not (Run(train("other").parent / "run").encoder_file).exists()


def test_a_kornia_pipeline_and_any_module_will_do(train, digits):
    policy = kornia.augmentation.AugmentationSequential(kornia.augmentation.RandomResizedCrop((8, 8), scale=(0.5, 1.0)))
    path = train(views=policy)
    assert same(weights(path), weights(train("again", views=policy)))
    with pytest.raises(ValueError, match="an encoder of your own: pass it"):
        Run(path).load_encoder()


def test_without_labels_nothing_is_said_about_classes(train, digits):
    unlabelled = ImageSet(digits.images, rows=digits.rows)
    rows = numbers(train(images=unlabelled, treatment="margin"))
    assert {row["different"] for row in rows} == {""}
    assert all(float(row["flagged"]) > 0 for row in rows)


def test_a_processor_that_emulates_bf16_is_told(train, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    with pytest.warns(UserWarning, match="has no bf16 and emulates it, many times slower than fp32; use fp32"):
        train(precision="bf16", epochs=1)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "precision:")
        train(precision="bf16", epochs=1, overwrite=True)


def test_bf16_learns_too(train):
    rows = numbers(train(precision="bf16", epochs=6, lr=0.3))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"]) - 0.1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 97}, r"batch_size=97 is larger than the data \(96 images\)"),
        ({"precision": "fp16"}, "fp16 needs a GPU, got device cpu"),
        ({"device": "cuda"}, "cuda is not available"),
        ({"encoder": "resnet9000"}, "unknown encoder 'resnet9000'"),
    ],
)
def test_what_cannot_be_trained_is_refused_and_leaves_nothing(config, digits, changes, message):
    if changes.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a GPU here, so cuda is not refused")
    settings = config(**changes)
    with pytest.raises(ValueError, match=message):
        pretrain(settings, images=digits)
    assert not settings.run_dir.exists()


def test_dropped_rows_are_left_out_after_mixing(config, digits, tmp_path):
    file = tmp_path / "drop.csv"
    file.write_text("row\n" + "".join(f"{row}\n" for row in digits.rows[:40]))
    everything = training_images(config(mix=0.5), digits)
    kept = training_images(config(mix=0.5, drop=file), digits)
    assert 0 < everything.mixed[40:].sum() < 56
    np.testing.assert_array_equal(kept.mixed, everything.mixed[40:])
    np.testing.assert_array_equal(kept.images, everything.images[40:])
    with pytest.raises(DataError, match=r"batch_size=64 is larger than the data \(56 images\)"):
        training_images(config(drop=file, batch_size=64), digits)


def test_one_class_is_refused(config, digits):
    one = subset(digits, np.flatnonzero(digits.labels == 3))
    with pytest.raises(ValueError, match="images have one label"):
        pretrain(config(batch_size=2), images=one)
    with pytest.raises(ValueError, match="nothing to train on"):
        pretrain(config())


def test_a_full_disk_spares_what_was_saved(train, monkeypatch):
    import lightning

    save = lightning.Trainer.save_checkpoint
    full = {"name": "epoch-"}

    def fails(self, path, *rest, **options):
        if full["name"] in str(path):
            raise OSError(28, "No space left on device")
        save(self, path, *rest, **options)

    monkeypatch.setattr(lightning.Trainer, "save_checkpoint", fails)
    with pytest.warns(UserWarning, match="checkpoint of epoch 2 was not kept: .*No space left"):
        path = train(checkpoint_every=2)
    assert Run(path).encoder_file.exists()

    def fill(views):
        full["name"] = "last"
        return views

    with pytest.raises(OSError, match="No space left"):
        train("cut", views=At(7, fill))
    full["name"] = "nothing"
    assert same(weights(train("cut", resume=True)), weights(path))


@pytest.mark.parametrize("changes", [{}, {"method": "moco", "queue_size": 64}, {"method": "spectral"}])
def test_another_default_dtype_of_torch_changes_nothing(train, changes):
    plain = train("plain", encoder=None, epochs=1, **changes)
    try:
        torch.set_default_dtype(torch.float64)
        wide = train("wide", encoder=None, epochs=1, **changes)
        assert torch.get_default_dtype() == torch.float64
        encoder = Run.open(wide).load_encoder()
    finally:
        torch.set_default_dtype(torch.float32)
    assert same(weights(wide), weights(plain))
    assert {value.dtype for value in encoder.state_dict().values()} == {torch.float32, torch.int64}


def test_an_encoder_in_another_precision_embeds_and_trains(train, digits, small):
    plain, wide = small(), small().double()
    wide.load_state_dict(plain.state_dict())
    np.testing.assert_allclose(embed(wide, digits), embed(plain, digits), atol=1e-5)
    assert same(
        weights(train("wide", encoder=lambda: wide, epochs=1)), weights(train("plain", encoder=lambda: plain, epochs=1))
    )


def test_settings_that_are_no_configuration_are_refused():
    with pytest.raises(TypeError, match=r"got dict: give pairsift.TrainConfig\(data="):
        pretrain({"data": "digits:train"})
