"""The studies of selection, on a few digits for two epochs."""

import numpy as np
import pytest

from lab import selection_training as trainings
from lab.studies import selection, selection_quality


def run(arms, arm, **more):
    """Measures of an arm at smoke scale."""
    setting = {"set": "cifar10", "temperature": 0.5, "per_class": 500, "epochs": 20, **arms[arm], **more}
    return trainings.run(setting, 0, "smoke")


@pytest.mark.parametrize("arm", ["second", "guide", "oracle", "random", "affinity", "shuffled"])
def test_every_arm_is_trained_and_measured(arm, monkeypatch):
    pixels = trainings.images_of("digits", 30).images[:, 0].reshape(300, -1).astype(np.float32)
    monkeypatch.setattr(trainings, "image_features", lambda images: pixels)
    found = run(selection.ARMS, arm)
    assert 20 < found["linear"] <= 100
    assert found["epoch"] == [1, 2]
    if arm == "oracle":
        assert found["different"][-1] == 1
    if arm in ("oracle", "random"):
        assert found["flagged"][-1] == pytest.approx(0.15, abs=0.01)
    if arm == "guide":
        assert found["estimated"][-1] is not None


def test_errors_of_labels_are_seen_in_what_is_flagged():
    arms = ["flags", "flags-100", "flags-missed-50", "judged-0.7", "judged-1", "mates-0.9"]
    different = {arm: run(selection_quality.ARMS, arm)["different"][-1] for arm in arms}
    assert different["flags"] == different["judged-1"] == different["flags-missed-50"] == 1
    assert different["flags-100"] < 0.75  # a tenth of all pairs, beside 15 %
    assert different["flags-100"] < different["judged-0.7"] < 1


@pytest.mark.parametrize("arm", ["hard-negatives", "debiased", "cancellation"])
def test_other_losses_flag_nothing(arm):
    assert run(selection_quality.ARMS, arm)["different"][-1] is None


def test_a_result_has_the_settings_that_its_arm_is_run_with():
    arms = {(arm.group, arm.name): arm.setting for arm in selection.STUDY.of_scale("cpu")}
    assert arms["cifar10, tau 0.2", "patches"]["guide"] == "patches"
    assert arms["imagenette, tau 0.2", "plain"] == {
        "set": "imagenette", "temperature": 0.2, "per_class": 500, "epochs": 20, "precision": "bf16",
    }  # fmt: skip
