"""The logger of a run is Lightning's own; a missing package is named before any data is loaded."""

import csv
import importlib.util

import pytest

from pairsift.train import ConfigError, pretrain


def test_the_csv_logger_writes_the_means_of_every_epoch(config, digits):
    run = pretrain(config(logger="csv"), images=digits).run
    with (run.path / "csv" / "metrics.csv").open() as file:
        logged = [float(row["train/loss"]) for row in csv.DictReader(file)]
    with run.metrics_file.open() as file:
        own = [float(row["loss"]) for row in csv.DictReader(file)]
    assert logged == pytest.approx(own)


def test_a_run_without_a_logger_goes_on_with_another(config, digits):
    run = pretrain(config(logger="none"), images=digits).run
    assert not (run.path / "tensorboard").exists()
    resumed = pretrain(config(logger="csv", resume=True), images=digits)
    assert resumed.run.encoder_file.is_file()


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_missing_logger_is_named(config, name, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda each, *more: None if each == name else found(each, *more))
    with pytest.raises(ConfigError, match=f"logger: {name} is not installed: pip install {name}"):
        pretrain(config(logger=name, data="no-such-file"))
