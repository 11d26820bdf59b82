"""Old names: four kinds work for one release and warn, the others are errors that give the new name."""

import dataclasses

import pytest
import torch
import yaml

import pairsift as ps
from pairsift.integrations.solo_learn import simclr_loss_func
from pairsift.train import ConfigError, Run, TrainConfig
from pairsift.train.config import RENAMED

BAND, TREATMENT = ps.RankBand(0.1, 0.5), ps.Treatment(0.1)
LOSSES = [
    ps.losses.NTXentLoss, ps.losses.SpectralLoss, ps.losses.TwoTowerLoss, ps.losses.LabelledNTXentLoss,
    ps.losses.MixedContrastiveLoss, lambda **settings: ps.losses.MoCoLoss(16, 4, **settings),
]  # fmt: skip


@pytest.mark.parametrize("make", LOSSES)
def test_band_is_the_selector(make):
    with pytest.warns(DeprecationWarning, match="band= is called selector= now") as caught:
        old = make(band=BAND, treatment=TREATMENT)
    assert caught[0].filename == __file__  # Python shows it by default only for lines of the user
    assert old.selector == make(selector=BAND, treatment=TREATMENT).selector == BAND
    with pytest.raises(TypeError, match="gather= is called gather_distributed= now"):
        make(gather=False)
    with pytest.raises(TypeError, match="has no argument 'gahter'"):
        make(gahter=False)


def test_functions_take_old_names_too():
    z, rows = torch.randn(8, 4), torch.arange(4).repeat(2)
    with pytest.warns(DeprecationWarning, match="band="):
        old = simclr_loss_func(z, rows, h=z, band=BAND, treatment=TREATMENT)
    assert old == simclr_loss_func(z, rows, h=z, selector=BAND, treatment=TREATMENT)


def test_edges_of_a_band_and_the_weight_of_a_treatment():
    with pytest.warns(DeprecationWarning, match="high= is called start= now"):
        assert ps.RankBand(high=0.1, low=0.5) == BAND
    with pytest.warns(DeprecationWarning, match="low= is called stop= now"):
        assert ps.RankBand(0.1, low=0.5) == BAND
    with pytest.raises(TypeError, match=r"RankBand.stop must be a number in \(0, 1\], got None"):
        ps.RankBand(0.1)
    with pytest.raises(TypeError, match="RankBand has no argument 'lo'"):
        ps.RankBand(0.1, lo=0.5)
    with pytest.warns(DeprecationWarning, match="class_mates= is called same_class_weight= now"):
        assert ps.Treatment(0.1, class_mates=1) == ps.Treatment(0.1, same_class_weight=1)
    assert dataclasses.replace(BAND, stop=1.0) == ps.RankBand(0.1, 1.0)
    assert dataclasses.replace(TREATMENT, margin=0.2) == ps.Treatment(0.2)


def test_settings_of_the_engine():
    with pytest.raises(TypeError, match="Engine: gather= is called gather_distributed= now"):
        ps.losses.Engine(gather=False)
    assert not ps.losses.NTXentLoss(gather_distributed=False).engine.gather_distributed
    with pytest.raises(TypeError, match="mini_batch_size"):
        ps.train.encode_in_chunks(torch.nn.Identity(), torch.ones(4, 2), chunk=2)


def test_old_settings_are_errors_and_runs_of_version_two_are_read(tmp_path):
    values = {
        "chunk": 8, "class_mates": 0.5, "key_groups": 2, "memory": 1.5, "pos_high": 0.1, "pos_low": 0.3,
    }  # fmt: skip
    assert values.keys() == RENAMED.keys()
    for name, value in values.items():
        with pytest.raises(ConfigError, match=f"unknown field '{name}': its name is '{RENAMED[name]}' since 0.3"):
            TrainConfig(**{name: value})
    settings = {"select": "affinity", "accumulate_grad_batches": 1}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values | settings))
    found = Run.open(tmp_path).config()
    assert found == TrainConfig(**{RENAMED[name]: value for name, value in values.items()}, select="affinity")
    found.save(tmp_path / "config.yaml")
    assert not RENAMED.keys() & yaml.safe_load((tmp_path / "config.yaml").read_text()).keys()
