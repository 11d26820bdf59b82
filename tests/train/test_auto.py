"""`treatment="auto"`: decided at every fit, said, kept, and the same in a resumed run."""

import json

import numpy as np
import pytest
from training_runs import VIEWS, At, crash, interrupt, numbers, same, weights

from pairsift.data import DataError, load_images, subset
from pairsift.same_class import Affinity, AffinityError, Estimate
from pairsift.train import ConfigError, Interrupted, PairPolicy, Run, TrainConfig, pretrain
from pairsift.train.policy import OwnFeaturesPolicy, build_policy

AUTO = {
    "treatment": "auto",
    "temperature": 0.2,
    "guide": None,
    "epochs": 4,
    "affinity_start": 1,
    "refit_every": 2,
    "batch_size": 96,
}
ON = {"margin": 0.03, "temperature_scale": 0.6, "removal": None, "same_class_weight": 1.0}
OFF = {"margin": 0.0, "temperature_scale": 1.0, "removal": None, "same_class_weight": 0.0}


@pytest.fixture(scope="session")
def many():
    """384 digits: enough to tell classes by."""
    return subset(load_images("digits:train"), np.arange(384))


@pytest.fixture
def train(config, many, small):
    """Train on the digits; returns the run's path and what was said."""

    def run(name="run", images=many, views=VIEWS, **changes):
        settings, said = config(name, **{**AUTO, **changes}), []
        pretrain(settings, images=images, encoder=small(), views=views, say=said.append)
        return settings.run_dir, said

    return run


@pytest.fixture
def guide(tmp_path, many):
    """The pixels of the images."""
    file = tmp_path / "guide.npy"
    np.save(file, many.images[:, 0].reshape(len(many), -1).astype(np.float32) / 255)
    return file


@pytest.fixture
def eager(monkeypatch):
    """Features of a few steps on a few digits are treated, too: they cluster far less clearly than the rule asks."""
    for name in ("LEAST_AUROC", "LEAST_AUROC_OF_GUIDE"):
        monkeypatch.setattr(f"pairsift.same_class.decision.{name}", 0.5)


def decisions(run):
    return [json.loads(line) for line in Run(run).decisions_file.read_text().splitlines()]


def test_pairs_are_treated_from_the_first_fit_on_as_with_the_treatment_named(train, eager):
    run, said = train()
    made = decisions(run)
    assert [row["epoch"] for row in made] == [2, 4]
    for row in made:
        assert row["on"]
        assert row["treatment"] == ON
        assert row["estimate"]["rows"] == 384
        assert f"epoch {row['epoch']}: {row['reason']}" in said
        assert row["reason"].startswith("treating ")
    named, _ = train("named", treatment="combined", select="affinity", same_class_weight=1.0)
    assert same(weights(run), weights(named))
    assert numbers(run) == numbers(named)
    assert not Run(named).decisions_file.exists()


def test_what_would_hurt_stays_off_but_is_watched(train):
    run, said = train()
    plain, _ = train("plain", treatment="none")
    assert same(weights(run), weights(plain))
    assert [(row["on"], row["treatment"]) for row in decisions(run)] == [(False, OFF)] * 2
    assert sum("stays off: features hardly cluster" in line for line in said) == 2
    assert [row["estimated"] != "" for row in numbers(run)] == [False, True, True, True]


def test_a_decision_may_change_at_the_next_fit(train, monkeypatch):
    answers = iter([0.0, 0.5])
    monkeypatch.setattr(
        "pairsift.train.policy.estimate",
        lambda selector, features, seed, guide: Estimate(384, next(answers), 0.9, 0.9, 0.1),
    )
    run, _ = train()
    assert [row["on"] for row in decisions(run)] == [False, True]
    plain, _ = train("plain", treatment="none")
    losses, before = ([row["loss"] for row in numbers(each)] for each in (run, plain))
    assert losses[:3] == before[:3]
    assert losses[3] != before[3]


def test_what_cannot_be_fitted_stays_off_and_says_why(train, monkeypatch):
    def fails(features, *, seed=0):
        raise AffinityError("all rows point in the same direction")

    monkeypatch.setattr(Affinity, "fit", fails)
    run, said = train()
    assert [row["reason"] for row in decisions(run)] == ["stays off: all rows point in the same direction"] * 2
    assert decisions(run)[0]["estimate"] is None
    assert "epoch 2: stays off: all rows point in the same direction" in said


@pytest.mark.parametrize("call", [19, 24], ids=["in the middle of an epoch", "in the last step of an epoch"])
@pytest.mark.parametrize("action", [interrupt, crash])
@pytest.mark.parametrize("guided", [False, True])
def test_a_resumed_run_is_the_uninterrupted_one(train, eager, guide, guided, call, action):
    settings = {"guide": guide} if guided else {}
    whole, _ = train("whole", **settings)
    with pytest.raises(Interrupted if action is interrupt else RuntimeError):
        train("cut", views=At(call, action), **settings)
    cut, _ = train("cut", resume=True, **settings)
    assert same(weights(whole), weights(cut))
    assert numbers(whole) == numbers(cut)
    assert decisions(whole) == decisions(cut)
    assert decisions(cut)[-1]["on"]


def test_a_guide_is_judged_before_the_first_step(train, eager, guide):
    run, _ = train(guide=guide)
    (made,) = decisions(run)
    assert (made["epoch"], made["on"], made["treatment"]) == (1, True, ON)
    named, _ = train("named", treatment="combined", select="affinity", same_class_weight=1.0, guide=guide)
    assert same(weights(run), weights(named))


def test_patches_are_the_guide_unless_another_is_named(train, guide):
    settings = {name: value for name, value in AUTO.items() if name != "guide"}
    assert str(TrainConfig.build(settings).guide) == "patches"
    assert TrainConfig.build(settings | {"guide": guide}).guide == guide
    run, _ = train("patches", images=load_images("digits:train"), guide="patches", epochs=1)
    (made,) = decisions(run)
    assert (made["epoch"], made["on"], made["estimate"]["guide"]) == (1, True, True)
    run, said = train("few", guide="patches", epochs=1)
    assert [row["on"] for row in decisions(run)] == [False]
    assert any("treating pays from about 0.55 on" in line for line in said)


def test_images_that_make_no_guide_are_not_treated(train, many, monkeypatch):
    def fails(images, **settings):
        raise AffinityError("all patches are alike")

    monkeypatch.setattr("pairsift.train.policy.patch_features", fails)
    run, said = train(guide="patches", epochs=1)
    (made,) = decisions(run)
    assert (made["on"], made["treatment"]) == (False, OFF)
    assert any("no guide can be made of these images: all patches are alike" in line for line in said)
    with pytest.raises(AffinityError, match="all patches are alike"):
        train("named", treatment="combined", select="affinity", guide="patches", epochs=1)


def test_a_guide_of_noise_stays_off(train, guide):
    np.save(guide, np.random.default_rng(0).standard_normal((384, 40)).astype(np.float32))
    noise, said = train("noise", guide=guide)
    assert [row["on"] for row in decisions(noise)] == [False]
    assert any(line.startswith("epoch 1: stays off: features hardly cluster") for line in said)
    plain, _ = train("plain", treatment="none")
    assert same(weights(noise), weights(plain))


def test_a_guide_of_other_images_is_an_error_before_training(train, guide, config):
    np.save(guide, np.load(guide)[1:])
    with pytest.raises(DataError, match="383 rows, and there are 384 training images"):
        train(guide=guide)
    np.save(guide, np.ones((384, 6), np.float32))
    with pytest.raises(AffinityError, match="same direction"):
        train(guide=guide)
    assert not config().run_dir.exists()


@pytest.mark.parametrize(
    ("method", "why"),
    [("moco", "queued keys carry codes from an outdated fit"), ("spectral", "its loss has no")],
)
def test_methods_without_judged_pairs_stay_off_and_say_why(train, method, why):
    settings = {"method": method, "epochs": 2, "lr": 0.01}
    run, said = train(**settings)
    plain, _ = train("plain", treatment="none", **settings)
    assert same(weights(run), weights(plain))
    (made,) = decisions(run)
    assert not made["on"]
    assert made["reason"].startswith(f"stays off: method={method!r} cannot select by affinity, because {why}")
    assert f"epoch 1: {made['reason']}" in said


def test_auto_decides_by_evidence_of_its_own(config, many):
    with pytest.raises(ConfigError, match="treatment='auto' has a policy of its own"):
        pretrain(config(**AUTO), images=many, policy=PairPolicy())
    assert isinstance(build_policy(config(**AUTO), many, 16, print), OwnFeaturesPolicy)
