"""Training with pairs judged by an affinity: of the run's own bank, or of a guide."""

import numpy as np
import pytest
from training_runs import VIEWS, At, crash, interrupt, numbers, same, weights

from pairsift.data import DataError, load_images, subset
from pairsift.evaluate import knn
from pairsift.pairs import GivenMasks, Selector
from pairsift.same_class import Affinity, AffinityError, patch_features
from pairsift.train import Interrupted, PairPolicy, pretrain
from pairsift.train.policy import OwnFeaturesPolicy, build_policy

SOFT = {"select": "affinity", "same_class_weight": 1.0, "confidence": 0.6}


@pytest.fixture(scope="session")
def many():
    """384 digits: enough to tell classes by."""
    return subset(load_images("digits:train"), np.arange(384))


@pytest.fixture
def guide(tmp_path, many):
    """The pixels of the images."""
    file = tmp_path / "guide.npy"
    np.save(file, many.images[:, 0].reshape(len(many), -1).astype(np.float32) / 255)
    return file


@pytest.fixture
def train(config, many, small):
    """Train on the digits; returns the run's path and what was said."""

    def run(name="run", images=many, views=VIEWS, **changes):
        settings = config(name, **{"batch_size": 96, **SOFT, **changes})
        said = []
        pretrain(settings, images=images, encoder=small(), views=views, say=said.append)
        return settings.run_dir, said

    return run


def test_the_own_bank_selects_from_the_first_fit_on(train):
    plain, _ = train("plain", select="band", same_class_weight=0, epochs=4)
    run, said = train("bank", treatment="combined", epochs=4, affinity_start=2, refit_every=1)
    rows, before = numbers(run), numbers(plain)
    assert [row["loss"] for row in rows[:2]] == [row["loss"] for row in before[:2]]
    assert rows[2]["loss"] != before[2]["loss"]
    assert [row["flagged"] == "" for row in rows] == [True, True, False, False]
    fits = [line for line in said if "estimated to be of one class" in line]
    assert [line.split(":")[0] for line in fits] == ["epoch 3", "epoch 4"]


def test_class_mates_alone_change_the_loss(train):
    settings = {"epochs": 3, "affinity_start": 2}
    off, on = (numbers(train(str(power), same_class_weight=power, **settings)[0]) for power in (0.0, 1.0))
    assert [row["loss"] for row in on[:2]] == [row["loss"] for row in off[:2]]
    assert float(on[2]["loss"]) < float(off[2]["loss"])
    # Without treatment pairs are judged all the same.
    assert off[2]["estimated"] != ""


def test_a_guide_selects_from_the_first_step_on(train, guide):
    run, said = train(guide=guide, treatment="combined", confidence=0.95, epochs=2)
    # The most similar pairs, of which the flagged ones are those judged to be of two classes.
    nearest, _ = train("nearest", select="band", same_class_weight=0, band_start=0.003, band_stop=0.15, epochs=2)
    for row, unjudged in zip(numbers(run), numbers(nearest), strict=True):
        assert 0.95 <= float(row["estimated"]) <= 1
        assert float(row["different"]) > float(unjudged["different"]) + 0.02
    assert any(line.startswith("guide: ") and "estimated to be of one class" in line for line in said)


def test_patches_of_the_images_are_a_guide(train, many):
    run, said = train(guide="patches", treatment="combined", epochs=1)
    assert any(line.startswith("guide: ") for line in said)
    features = patch_features(many.images, seed=0)
    assert knn(features[:192], many.labels[:192], features[192:], many.labels[192:], k=5) > 0.6  # a tenth by chance
    assert float(numbers(run)[0]["estimated"]) > 0.6


@pytest.mark.parametrize("call", [19, 24], ids=["in the middle of an epoch", "in the last step of an epoch"])
@pytest.mark.parametrize("action", [interrupt, crash])
@pytest.mark.parametrize("guided", ["", "file"])
def test_a_resumed_run_is_the_uninterrupted_one(train, guide, guided, call, action):
    """The third epoch of four steps is cut; the affinity is of its start, or of that of the second."""
    settings = {"treatment": "combined", "epochs": 4, "affinity_start": 1, "refit_every": 2}
    settings |= {"guide": guide if guided == "file" else guided} if guided else {}
    whole, _ = train("whole", **settings)
    with pytest.raises(Interrupted if action is interrupt else RuntimeError):
        train("cut", views=At(call, action), **settings)
    cut, _ = train("cut", resume=True, **settings)
    assert same(weights(whole), weights(cut))
    assert numbers(whole) == numbers(cut)
    assert numbers(whole)[-1]["estimated"] != ""


def test_a_resumed_run_has_the_same_patches(train, guide):
    test_a_resumed_run_is_the_uninterrupted_one(train, guide, "patches", 19, interrupt)


def test_what_cannot_be_fitted_stays_off_and_says_why_once(train, monkeypatch):
    def fails(features, *, seed=0):
        raise AffinityError("all rows are alike")

    monkeypatch.setattr(Affinity, "fit", fails)
    run, said = train(treatment="combined", epochs=4, affinity_start=1, refit_every=1)
    plain, _ = train("plain", select="band", same_class_weight=0, epochs=4)
    assert [line for line in said if "all rows are alike" in line] == [
        "epoch 2: pairs are not treated, because all rows are alike"
    ]
    assert same(weights(run), weights(plain))


def test_a_bad_guide_or_bank_is_refused_and_leaves_nothing(train, guide, many, config):
    np.save(guide, np.load(guide)[1:])
    with pytest.raises(DataError, match="383 rows, and there are 384 training images"):
        train(guide=guide)
    np.save(guide, np.ones((384, 6), np.float32))
    with pytest.raises(AffinityError):
        train(guide=guide)
    with pytest.raises(DataError, match=r"a bank of 384 x 16 features takes 3\.7e-05 GB, and memory_gb=1e-05 GB"):
        train(memory_gb=1e-5, affinity_start=1)
    assert not config().run_dir.exists()


def test_evidence_of_ones_own(config, many, small):
    seen = []

    class Unlike(Selector):
        """Flags pairs of images at odd and at even positions."""

        def masks(self, h, keys=None, own=None, *, rows=None, key_rows=None, precision="fp32"):
            seen.append((h.shape, rows.shape))
            return GivenMasks(rows[:, None] % 2 != (rows if keys is None else key_rows) % 2)

    class Odd(PairPolicy):
        def __init__(self):
            super().__init__()
            self.selector = Unlike()

    settings = config(select="affinity", treatment="margin", batch_size=96, epochs=2, affinity_start=1)
    result = pretrain(settings, images=many, encoder=small(), policy=Odd())
    assert seen[0] == ((192, 16), (192,))
    assert 0.4 < result.metrics[0]["flagged"] < 0.6
    assert result.metrics[0]["estimated"] == ""
    with pytest.raises(ValueError, match="a policy needs select='affinity', got select='band'"):
        pretrain(config("other"), images=many, encoder=small(), policy=Odd())


def test_evidence_by_the_configuration(config, many):
    assert build_policy(config(), many, 16, print) is None
    evidence = build_policy(config(select="affinity", epochs=9), many, 16, print)
    assert isinstance(evidence, OwnFeaturesPolicy)
    assert evidence.bank.rows.shape == (384, 16)
    assert not evidence.ready
    assert (evidence.selector.probability, evidence.selector.share) == (0.8, 0.15)
