"""Whether treating would pay, by simulated and by real features."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import pairsift as ps
from pairsift.same_class import Affinity, AffinityError, ConfidentNegatives, Estimate, estimate
from pairsift.same_class.decision import LEAST_AUROC, LEAST_ROWS
from pairsift.treatments import Decision, Treatment

COMBINED = Treatment(0.03, 0.6, same_class_weight=1.0)


def found(features, **options):
    return estimate(ConfidentNegatives(Affinity.fit(features), **options), features)


def measured(**changes):
    return Estimate(**{"rows": 2000, "clusterability": 0.2, "base": 0.9, "purity": 0.92, "flagged": 0.15, **changes})


def test_digits_are_treated_and_the_numbers_are_those_of_the_selector():
    pixels, labels = load_digits(return_X_y=True)
    features = (pixels / 16).astype(np.float32)
    affinity = Affinity.fit(features)
    selector = ConfidentNegatives(affinity, probability=0.9, share=0.1)
    result = estimate(selector, features)
    decision = result.decide()
    assert decision.on
    assert decision.treatment == COMBINED == Treatment.auto(result)
    assert decision.treatment.same_class_weight == 1
    masks = selector.masks(torch.from_numpy(features), rows=torch.arange(len(features)))
    pairs = masks.whole()
    assert result.rows == len(features) == 1797
    assert result.flagged == pytest.approx(pairs.float().mean().item())
    assert result.purity == pytest.approx(masks.purity())
    first, second = np.triu_indices(len(features), 1)
    assert result.base == pytest.approx(1 - affinity.probability(first, second).mean(), abs=1e-4)
    assert 0.75 < result.auroc <= 1  # .94 in truth
    true = (labels[:, None] != labels)[pairs.numpy()].mean()
    assert decision.reason.startswith(
        f"treating {result.flagged:.1%} of pairs: {result.purity:.1%} of the treated pairs are estimated"
    )
    assert true > 0.95


@pytest.mark.parametrize("shape", ["white", "decaying", "one cluster", "few dimensions"])
@pytest.mark.parametrize("seed", [0, 1])
def test_noise_of_any_shape_stays_off(shape, seed):
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((1000, 16 if shape == "few dimensions" else 64))
    if shape == "decaying":
        noise /= np.arange(1, 65)
    if shape == "one cluster":
        noise = 3 * rng.standard_normal(64) + 0.1 * noise
    result = found(noise)
    assert abs(result.clusterability) < 0.04
    decision = result.decide()
    assert not decision.on
    assert decision.reason.startswith("stays off: features hardly cluster (clusterability ")
    assert Treatment.auto(result).is_neutral


def test_clusterability_grows_as_clusters_part():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 1500)
    centres = rng.standard_normal((10, 32))
    clear = [found(far * centres[labels] + rng.standard_normal((1500, 32))).auroc for far in (0.0, 0.7, 1.0, 1.5)]
    assert clear == sorted(clear)
    assert clear[1] < LEAST_AUROC < clear[2]


def test_copies_are_no_clusters():
    noise = np.random.default_rng(0).standard_normal((600, 32))
    noise[:60] = noise.mean(axis=0)  # images that a run has not seen yet
    result = found(noise)
    assert result.rows == 541
    assert not result.decide().on


def test_few_different_rows_stay_off():
    rng = np.random.default_rng(0)
    copies = rng.standard_normal((150, 16)).repeat(4, axis=0)
    result = found(copies)
    assert result.rows == 150
    assert result.decide().reason == "stays off: 150 different rows are too few to tell near from far (200 are not)"
    assert not result.decide().on
    # Whether ARPACK finds directions in the noise of so few rows depends on the processor.
    try:
        assert not found(np.random.default_rng(0).standard_normal((20, 16)).repeat(50, axis=0)).decide().on
    except AffinityError as error:
        assert "most rows are copies of a few" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("changes", "treatment", "words"),
    [
        (
            {},
            COMBINED,
            "treating 15.0% of pairs: 92.0% of the treated pairs are estimated to be of different classes "
            "(all pairs: 90.0%); same-class pairs weigh by P(different), AUROC about 0.70",
        ),
        (
            {"purity": 0.86},
            COMBINED,
            "86.0% of the treated pairs are estimated to be of different classes (all pairs: 90.0%)",
        ),
        (
            {"purity": None, "flagged": 0.0},
            Treatment(same_class_weight=1.0),
            "treating same-class pairs only, because no pair is",
        ),
        (
            {"clusterability": LEAST_AUROC - 0.51},
            Treatment(),
            "AUROC of about 0.68, and treating pays from about",
        ),
        ({"clusterability": -0.1}, Treatment(), "stays off: features hardly cluster (clusterability -0.10, noise 0)"),
        ({"rows": LEAST_ROWS - 1}, Treatment(), "stays off: 199 different rows are too few"),
    ],
)
def test_the_rule(changes, treatment, words):
    decision = measured(**changes).decide()
    assert decision.treatment == treatment
    assert decision.on == (treatment != Treatment())
    assert words in decision.reason


def test_the_same_features_give_the_same_decision():
    features = torch.randn(3000, 12, generator=torch.Generator().manual_seed(1))
    selector = ConfidentNegatives(Affinity.fit(features))
    assert estimate(selector, features, seed=3) == estimate(selector, features.double(), seed=3)
    assert estimate(selector, features).rows == 2000


def test_an_affinity_of_other_features_is_refused():
    features = np.random.default_rng(0).standard_normal((300, 8))
    with pytest.raises(AffinityError, match="was not fitted to these 300 rows: set selector"):
        estimate(ConfidentNegatives(), features)
    with pytest.raises(AffinityError, match="was not fitted to these 299 rows"):
        estimate(ConfidentNegatives(Affinity.fit(features)), features[1:])


def test_auto_takes_any_estimate():
    class Never:
        def decide(self):
            return Decision(Treatment(), "stays off: never")

    assert ps.Treatment.auto(Never()) == Treatment()
