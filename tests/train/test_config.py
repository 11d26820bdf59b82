import re

import pytest

from pairsift import Treatment
from pairsift.data import SimCLRViews
from pairsift.train import TrainConfig
from pairsift.train.config import SYNONYMS, ConfigError


@pytest.mark.parametrize(
    ("name", "near"),
    [("epoch", "epochs"), ("batchsize", "batch_size"), ("band_strt", "band_start"), ("Temperature", "temperature")],
)
def test_unknown_fields_are_errors_with_the_nearest_known_name(name, near):
    with pytest.raises(ConfigError, match=f"unknown field {name!r}: did you mean {near!r}"):
        TrainConfig.build({name: 1})


@pytest.mark.parametrize(("name", "ours"), SYNONYMS.items())
def test_names_of_other_trainers_lead_to_ours(name, ours):
    assert ours in TrainConfig.model_fields
    with pytest.raises(ConfigError, match=f"^unknown field {name!r}: did you mean {ours!r}"):
        TrainConfig.build({name: 1})
    with pytest.raises(ValueError, match=f"unknown field {name!r}: did you mean {ours!r}"):
        TrainConfig(**{name: 1})


def test_gradient_accumulation_is_refused():
    for name in ("accumulate_grad_batches", "gradient_accumulation_steps"):
        with pytest.raises(ConfigError, match=f"^unknown field {name!r}, got 2: gradient accumulation does not"):
            TrainConfig.build({name: 2})
    assert "accumulate_grad_batches" not in TrainConfig.model_fields


def test_a_field_like_no_other_lists_what_there_is():
    with pytest.raises(ConfigError, match="known fields: data, label_column"):
        TrainConfig.build({"zzz": 1})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"accumulate_grad_batches": 4}, "got 4: gradient accumulation does not enlarge the batch"),
        ({"band_start": 0.3, "band_stop": 0.2}, "must exceed its start .*, got start=0.3, stop=0.2"),
        ({"band_start": 0.2, "band_stop": 0.2}, "start=0.2, stop=0.2"),
        ({"band_stop": 1.5}, "0 < start < stop <= 1"),
        ({"resume": True, "overwrite": True}, "exclude each other"),
        ({"warmup_epochs": 30, "treatment": "margin"}, "warmup_epochs=30 leaves no epoch of 30"),
        ({"precision": "fp8"}, "precision"),
        ({"treatment": "magic"}, "treatment.*got 'magic'"),
        ({"batch_size": 1}, "batch_size.*got 1"),
        ({"epochs": 0}, "epochs.*got 0"),
        ({"lr": "fast"}, "lr.*got 'fast'"),
        ({"mix": 1.5}, "mix.*got 1.5"),
        ({"temperature": 0}, "temperature.*got 0"),
        ({"momentum": 1.0}, "momentum.*got 1.0"),
        ({"method": "moco", "queue_size": 256}, "queue_size=256 does not hold the 512 keys of one step"),
        ({"method": "moco", "batch_size": 4, "bn_splits": 5}, "bn_splits=5 leaves groups of one among the 8 keys"),
        (
            {"batch_size": 6, "devices": 2, "nodes": 2},
            "batch_size=6 leaves fewer than two images for some of 4 processes",
        ),
        ({"batch_size": 64, "method": "moco", "bn_splits": 20, "devices": 4}, "among the 32 keys of a process"),
        ({"devices": 0}, "devices.*got 0"),
        ({"nodes": -1}, "nodes.*got -1"),
        ({"mini_batch_size": 0}, "mini_batch_size.*got 0"),
        ({"chunk": 8}, "unknown field 'chunk': its name is 'mini_batch_size' since 0.3"),
        ({"method": "byol"}, "method.*got 'byol'"),
        ({"mu": 0}, "mu.*got 0"),
        (
            {"same_class_weight": 1.0},
            "same_class_weight=1.0 needs the probability .* set `select='affinity'`, got select='band'",
        ),
        ({"guide": "x.npy", "select": "random"}, "guide=x.npy needs the probability"),
        ({"same_class_weight": -0.5}, "same_class_weight.*got -0.5"),
        ({"confidence": 0.5}, "confidence.*got 0.5"),
        ({"confidence": 1}, "confidence.*got 1"),
        ({"flagged_share": 0}, "flagged_share.*got 0"),
        ({"refit_every": 0}, "refit_every.*got 0"),
        ({"select": "affinity", "method": "moco"}, "for `method='simclr'`, got method='moco': queued keys carry codes"),
        ({"select": "affinity", "method": "spectral"}, "got method='spectral': its loss has no denominator"),
        ({"select": "affinity", "devices": 2}, "over 2 processes needs a `guide`: each would keep a bank of its own"),
        ({"select": "affinity", "epochs": 5}, "affinity_start=5 must be from 1 .* to 4, below epochs=5"),
        ({"select": "affinity", "affinity_start": 0}, "affinity_start=0 must be from 1 .before the first epoch"),
        (
            {"select": "affinity", "same_class_weight": 1.0, "warmup_epochs": 30},
            "warmup_epochs=30 leaves no epoch of 30",
        ),
        ({"treatment": "auto", "warmup_epochs": 30}, "warmup_epochs=30 leaves no epoch of 30"),
        (
            {"treatment": "auto", "select": "band"},
            "treatment='auto' chooses pairs by `select='affinity'`, got .*'band'",
        ),
        ({"treatment": "auto", "margin": 0.1}, "treatment='auto' chooses margin itself, got 0.1: leave it out"),
        ({"treatment": "auto", "same_class_weight": 1.0}, "treatment='auto' chooses same_class_weight itself"),
        ({"treatment": "auto", "guide": None, "epochs": 5}, "affinity_start=5 must be from 1 .* to 4, below epochs=5"),
        ({"treatment": "auto", "guide": None, "devices": 2}, "over 2 processes needs a `guide`"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(ConfigError, match=message):
        TrainConfig.build(values)


def test_several_bad_values_are_told_at_once():
    with pytest.raises(ConfigError, match=r"epochs: .*; lr: "):
        TrainConfig.build({"epochs": -1, "lr": -1})


def test_yaml_round_trip(tmp_path):
    config = TrainConfig(
        data="x.parquet", treatment="combined", epochs=7, lr=0.125, run_dir=tmp_path / "run", resume=True
    )
    config.save(tmp_path / "config.yaml")
    again = TrainConfig.load(tmp_path / "config.yaml")
    assert again == config.model_copy(update={"resume": False})  # what to do about an old run is not a setting of it
    assert TrainConfig.load(tmp_path / "config.yaml", epochs=9).epochs == 9


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1, 2]", "must map field names to values, got list"), ("a: [", "cannot be read"), ("", "got NoneType"),
     ("epoch: 3", "did you mean 'epochs'")],
)  # fmt: skip
def test_bad_yaml_is_refused(tmp_path, text, message):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)):
        TrainConfig.load(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.yaml cannot be read"):
        TrainConfig.load(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("none", None),
        ("removal", Treatment(removal="exclude")),
        ("margin", Treatment(margin=0.2)),
        ("temperature", Treatment(temperature_scale=0.5)),
        ("combined", Treatment(margin=0.2, temperature_scale=0.5)),
    ],
)
def test_the_treatment_is_the_named_one(name, expected):
    config = TrainConfig(treatment=name, margin=0.2, temperature_scale=0.5, removal="exclude")
    assert config.pair_treatment() == expected


def test_class_mates_are_part_of_the_treatment():
    soft = {"select": "affinity", "same_class_weight": 0.5}
    assert TrainConfig(**soft).pair_treatment() == Treatment(same_class_weight=0.5)
    assert TrainConfig(**soft, treatment="margin").pair_treatment() == Treatment(margin=0.03, same_class_weight=0.5)
    assert TrainConfig(select="affinity").pair_treatment() is None


def test_auto_selects_by_affinity_and_treats_nothing_before_it_has_decided(tmp_path):
    config = TrainConfig(treatment="auto")
    assert (config.select, config.pair_treatment()) == ("affinity", None)
    config.save(tmp_path / "config.yaml")
    assert TrainConfig.load(tmp_path / "config.yaml") == config
    for method in ("moco", "spectral"):  # stays off there, and says so
        assert TrainConfig(treatment="auto", method=method).pair_treatment() is None


def test_images_are_treated_by_auto_unless_told_otherwise():
    config = TrainConfig()
    assert (config.treatment, config.select, str(config.guide)) == ("auto", "affinity", "patches")
    for method in ("moco", "spectral", "mixed", "exact"):
        assert TrainConfig(method=method).treatment == "none"
    assert TrainConfig(positives="temporal").treatment == "none"
    by_hand = TrainConfig(select="random"), TrainConfig(select="affinity", same_class_weight=1.0)
    assert [each.treatment for each in by_hand] == ["none", "none"]
    with pytest.raises(ConfigError, match=r"treatment='auto' chooses margin itself, got 0\.1"):
        TrainConfig(margin=0.1)


def test_a_guide_is_there_from_the_start_and_for_every_process():
    config = TrainConfig(select="affinity", guide="x.npy", affinity_start=0, epochs=2, devices=2)
    assert str(config.guide) == "x.npy"


def test_the_temperature_follows_from_method_and_treatment_unless_it_is_set():
    temperatures = {name: TrainConfig(method=name).temperature for name in ("simclr", "moco", "spectral")}
    assert temperatures == {"simclr": 0.2, "moco": 0.2, "spectral": 0.5}
    assert TrainConfig(treatment="combined").temperature == 0.5
    assert TrainConfig(temperature=0.4).temperature == 0.4
    assert TrainConfig(method="moco", temperature=0.4).temperature == 0.4


def test_views_carry_every_setting():
    config = TrainConfig(
        crop_min=0.3, flip=0.1, jitter=0.2, brightness=0.3, contrast=0.4, saturation=0.5, hue=0.2, grey=0.6
    )
    assert config.view_policy() == SimCLRViews(
        crop_scale=(0.3, 1.0), flip=0.1, jitter=0.2, brightness=0.3, contrast=0.4, saturation=0.5, hue=0.2, grey=0.6
    )
