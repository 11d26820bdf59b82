"""What the studies of small encoders are made of, against what is known exactly."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import torch

from lab import StudyError
from lab.bound_order import orders, over_groups
from lab.frames import mlp, noisy
from lab.mixtures import Mixture
from lab.quantities import label_free, lidar, rankme, spectral_gap, uniformity
from lab.running import same_runs
from lab.small_encoders import Training, controls, excess_at, run
from lab.studies import gaussians, label_free_choice, purity, selection_feature
from lab.vectors import load_vectors


def test_levels_of_a_mixture_are_those_of_normal_clouds():
    mixture = Mixture(share=0.2, overlap=0.0)
    graph = mixture.graph(mixture.draw(600, 0), noise=1.0)
    # E exp(-|x|^2 / 4) for x ~ N(mu, 2 I) in five dimensions; the means are 3.5 sqrt(2) apart.
    alpha = 2**-2.5
    beta = alpha * math.exp(-2 * 3.5**2 / 8)
    assert graph.alpha == pytest.approx(alpha, rel=0.03)
    assert graph.beta == pytest.approx(beta, rel=0.06)
    assert graph.gamma == graph.beta
    assert (graph.n, graph.n_d, graph.r) == (600, 120, 4)


def test_difficult_examples_raise_gamma_and_the_labelling_error():
    levels, errors = [], []
    for overlap in (0.0, 0.35, 0.5):
        mixture = Mixture(overlap=overlap)
        graph = mixture.graph(mixture.draw(400, 0), 1.0)
        levels.append(graph.gamma - graph.beta)
        errors.append(mixture.labelling_error(1.0))
    assert levels == sorted(levels)
    assert errors == sorted(errors)
    assert levels[0] == 0 < levels[1]


def test_the_labelling_error_is_that_of_the_best_classifier():
    mixture = Mixture(classes=2, dimensions=2, share=0.0, overlap=0.0)
    # Two clouds 3.5 sqrt(2) apart, with standard deviation sqrt(2) each way.
    exact = NormalDist().cdf(-3.5 * math.sqrt(2) / 2 / math.sqrt(2))
    assert mixture.labelling_error(1.0) == pytest.approx(exact, abs=0.004)


def test_a_mixture_plants_what_it_says():
    drawn = Mixture(share=0.3, overlap=0.5).draw(50, 3)
    assert drawn.x.shape == (250, 5)
    assert np.bincount(drawn.y).tolist() == [50] * 5
    assert np.bincount(drawn.y[drawn.difficult]).tolist() == [15] * 5
    again = Mixture(share=0.3, overlap=0.5).draw(50, 3)
    assert np.array_equal(drawn.x, again.x)


def test_quantities_of_features_that_are_known():
    rng = np.random.default_rng(0)
    square = np.linalg.qr(rng.standard_normal((40, 6)))[0].astype(np.float32)
    assert rankme(square) == pytest.approx(6, rel=1e-5)
    assert rankme(np.ones((40, 6), np.float32)) == pytest.approx(1, rel=1e-3)
    two = np.repeat(np.array([[1, 0], [-1, 0]], np.float32), [1, 1], axis=0)
    assert uniformity(two) == pytest.approx(-8)  # |f - f'|^2 = 4
    clusters = np.eye(3, 5, dtype=np.float32)[np.arange(60) % 3]
    assert spectral_gap(clusters, 3) == pytest.approx(1, abs=1e-6)  # eigenvalues 1, 1, 1, 0, ...
    views = np.zeros((60, 4, 5))
    views[..., :3] = rng.standard_normal((60, 1, 3))
    views += 0.01 * rng.standard_normal(views.shape)
    assert 2.5 < lidar(views.astype(np.float32)) < 3.3


def test_label_free_quantities_leave_the_generator_alone():
    encoder = mlp(5, hidden=128).eval()
    x = torch.randn(300, 5, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    found = label_free(encoder, lambda rows: noisy(rows, 0.3), x, 4)
    assert torch.equal(torch.rand(1), expected)
    assert found == label_free(encoder, lambda rows: noisy(rows, 0.3), x, 4)
    assert all(value is None or math.isfinite(value) for value in found.values())


def test_a_run_follows_from_its_seed():
    setting = {"set": "digits", "select": "band", "margin": 0.03, "temperature_scale": 0.6}
    first, again, other = (run(setting, seed, "smoke") for seed in (0, 0, 1))
    assert first == again
    assert first["linear"] != other["linear"] or first["alpha"] != other["alpha"]
    assert {excess_at(0), excess_at(1)} <= first.keys()


@pytest.mark.parametrize("select", ["none", "all", "band", "random", "oracle"])
def test_what_is_selected(select):
    """The loss of a batch with its pairs treated is that of the pairs that the selection is said to be."""
    torch.manual_seed(0)
    z0, z1, h0, h1 = torch.randn(4, 20, 8)
    y, rows = torch.arange(20) % 4, torch.arange(20)
    training = Training("digits", select=select, removal="exclude", high=0.1, low=0.3)
    value = training.objective(0)(z0, z1, h0, h1, y, rows)
    plain = Training("digits").objective(0)(z0, z1, h0, h1, y, rows)
    if select == "none":
        assert value == plain
    elif select == "all":
        assert value == pytest.approx(0, abs=1e-6)  # nothing but the positive is left
    else:
        assert value < plain
    if select == "oracle":
        alone = training.objective(0)(z0, z1, h0, h1, torch.zeros(20).long(), rows)
        assert alone == pytest.approx(float(plain))  # one class: no pair is of different ones


def test_planted_pairs_are_difficult_and_of_different_classes():
    codes = torch.tensor([0, 1, 5, 6, 5])  # classes 0, 1, and the difficult of 0, 1, 0
    pairs = gaussians._planted(codes)
    assert pairs.shape == (10, 10)
    assert pairs.nonzero()[:, 0].unique().tolist() == [2, 3, 4, 7, 8, 9]
    assert pairs[2].nonzero().squeeze(1).tolist() == [3, 8]


def test_every_table_has_its_controls():
    names = {arm.name for arm in controls(Training("", select="band"))}
    assert {"plain", "tau 0.1", "all pairs", "random pairs, as many", "oracle"} <= names


def test_the_same_run_of_two_studies_is_one_setting():
    first, second = (
        {str(sorted(arm.setting.items())) for arm in each.arms("cpu")} for each in (purity, selection_feature)
    )
    assert first <= second


def test_runs_are_shared_only_by_studies_with_one_function(tmp_path):
    assert same_runs(gaussians.STUDY, "smoke", tmp_path) == {}


def test_sets_have_the_sizes_that_are_asked_for(monkeypatch):
    monkeypatch.delenv("PAIRSIFT_DATA", raising=False)
    data = load_vectors("digits", "cpu")
    assert (len(data.x), len(data.held_x), data.classes) == (1000, 250, 10)
    assert len(data.test_x) == 1797 - 1250
    np.testing.assert_allclose(data.x.mean(axis=0), 0, atol=1e-4)
    with pytest.raises(StudyError, match="PAIRSIFT_DATA is not set"):
        load_vectors("pendigits", "cpu")


def rows_of(errors, bounds, pays=0.0):
    return [
        {"group": "g", "arm": arm, "seed": seed, "settings": {}, "measures": {
            "error": error, "bound": bounds[arm], "removal_pays": pays, "temperature_pays": pays}}
        for arm, values in errors.items() for seed, error in enumerate(values)
    ]  # fmt: skip


def test_orders_count_only_what_an_interval_tells():
    errors = {"plain": [10, 11, 12], "margin": [8, 9.1, 9.9], "temperature": [11, 9, 13]}
    (order,) = orders(rows_of(errors, {"plain": 1.0, "margin": 0.5, "temperature": 0.5}), list(errors))
    assert order.theory == "margin = temperature < plain"
    assert order.measured == "margin < plain"
    assert order.crossings["Thm 4.5"] == (False, "no difference (+0.00 ± 4.30)")


def test_rank_correlations_are_seed_by_seed():
    plain = [
        {"group": group, "arm": "plain", "seed": seed, "settings": {}, "measures": {"error": error, "bound": bound}}
        for seed in (0, 1)
        for group, bound, error in (("a", 1, 3), ("b", 2, 4 + seed), ("c", 3, 5))
    ]
    mean, _ = over_groups(plain)
    assert mean == pytest.approx((1 + math.sqrt(3) / 2) / 2)
    rows = [
        {"group": "s", "arm": str(i), "seed": 0, "settings": {}, "measures": {"linear": i, "knn20": -i, "rankme": i**2}}
        for i in range(6)
    ]
    assert label_free_choice.correlations(rows, "s", "rankme") == [pytest.approx(1)]
    assert label_free_choice.correlations(rows, "s", "rankme", "knn20") == [pytest.approx(-1)]
    assert label_free_choice.correlations(rows[:4], "s", "rankme") == []
