from dataclasses import replace

import numpy as np
import pytest

from lab.laboratory import ARMS, LaboratorySetting, run_laboratory
from lab.laboratory.arms import arms
from lab.rows import RESULTS, read
from lab.studies import noisy_graphs
from pairsift.pairs import RankBand
from pairsift.theory import SimilarityGraph, nystroem_features, population

SMALL = LaboratorySetting(n=20, r=2, n_d=5, gammas=(0.4, 0.19), epsilon=0.3)


def row(report, gamma, arm):
    (found,) = (row for row in report.rows if (row.gamma, row.arm) == (gamma, arm))
    return found


def flagged(setting, gamma, noise=3):
    return {name: pairs for name, pairs, _ in arms(setting, setting.graph(gamma), noise, chance=4)}


@pytest.fixture(scope="module")
def report():
    return run_laboratory(SMALL, draws=6, seed=7)


def test_every_gamma_and_arm_has_a_row(report):
    assert [(row.gamma, row.arm) for row in report.rows] == [(gamma, arm) for gamma in (0.4, 0.19) for arm in ARMS]
    assert report.accuracies.shape == (6, 2, len(ARMS))
    assert all(0 <= row.accuracy <= 1 and row.draws == 6 for row in report.rows)


def test_results_repeat_and_a_draw_does_not_depend_on_their_number(report):
    again = run_laboratory(SMALL, draws=6, seed=7)
    assert again == report  # rows, bit for bit
    np.testing.assert_array_equal(again.accuracies, report.accuracies)
    np.testing.assert_array_equal(run_laboratory(SMALL, draws=2, seed=7).accuracies, report.accuracies[:2])
    assert not np.array_equal(run_laboratory(SMALL, draws=2, seed=8).accuracies, report.accuracies[:2])


def test_gammas_and_treatments_share_noise_and_split(report):
    alone = run_laboratory(replace(SMALL, gammas=(0.4,), band=RankBand(0.5, 0.9)), draws=6, seed=7)
    names = list(ARMS)
    for arm in ("with", "without", "removal", "degree removal", "random removal", "oracle margin", "class drop"):
        np.testing.assert_array_equal(
            alone.accuracies[:, 0, names.index(arm)], report.accuracies[:, 0, names.index(arm)]
        )
    # The clean graph is the same whatever gamma, and is the control itself.
    without = report.accuracies[:, :, names.index("without")]
    np.testing.assert_array_equal(without[:, 0], without[:, 1])
    np.testing.assert_array_equal(without[:, 1], report.accuracies[:, 1, names.index("with")])


def test_neutral_treatments_change_nothing_at_all():
    report = run_laboratory(replace(SMALL, margin=0, temperature_scale=1), draws=4)
    neutral = [row for row in report.rows if row.arm.endswith(("margin", "temperature")) and "oracle" not in row.arm]
    assert len(neutral) == 2 * 8
    for row in neutral:
        assert (row.difference, row.half_width) == (0, 0)
    assert any(row.difference != 0 for row in report.rows)


def test_rows_are_means_and_t_intervals_of_the_paired_accuracies(report):
    names, table = list(ARMS), report.accuracies
    gains = table[:, :, names.index("temperature")] - table[:, :, names.index("with")]
    found = row(report, 0.4, "temperature")
    t = 2.570581835636314  # 97.5 % quantile with 5 degrees of freedom
    assert found.accuracy == pytest.approx(table[:, 0, names.index("temperature")].mean(), abs=1e-15)
    assert found.difference == pytest.approx(gains[:, 0].mean(), abs=1e-15)
    assert found.half_width == pytest.approx(t * gains[:, 0].std(ddof=1) / 6**0.5)
    over = gains[:, 0] - gains[:, 1]
    assert found.over_control == pytest.approx(over.mean(), abs=1e-15)
    assert found.over_control_half_width == pytest.approx(t * over.std(ddof=1) / 6**0.5)
    assert row(report, 0.19, "temperature").over_control is None


def test_one_draw_has_no_interval_and_no_control_no_comparison():
    report = run_laboratory(replace(SMALL, gammas=(0.3,)), draws=1)
    assert all(row.half_width is None and row.over_control is None for row in report.rows)


def test_without_noise_classes_separate():
    # Not in the control: there all degrees tie, and those of largest degree would be a whole class.
    report = run_laboratory(LaboratorySetting(epsilon=0, gammas=(0.42, 0.30)), draws=2)
    wrong = {row.arm for row in report.rows if row.accuracy < 1}
    assert wrong <= {"random drop"}  # dropping four fifths of a graph at random spoils any


@pytest.mark.parametrize("pairing", ["block", "matched"])
def test_oracles_turn_the_graph_without_noise_into_the_clean_one(pairing):
    setting = replace(SMALL, epsilon=0, pairing=pairing)
    graph = setting.graph(0.4)
    features = {name: features for name, _, features in arms(setting, graph, 0, 0)}
    values, vectors = population.leading_eigenpairs(graph.without_difficult().normalized_adjacency(), 3)
    kernel = (vectors * values) @ vectors.T
    roots = np.sqrt(graph.degrees() / graph.volume)
    for name in ("oracle margin", "oracle temperature"):
        rows = features[name] * roots[:, None]
        np.testing.assert_allclose(rows @ rows.T, kernel, atol=1e-12)
        report = run_laboratory(setting, draws=2)
        assert row(report, 0.4, name).accuracy == row(report, 0.4, "without").accuracy


def test_purity_and_base_rate_equal_a_slow_count():
    report = run_laboratory(SMALL, draws=1, seed=5)
    noise, _, chance = np.random.SeedSequence((5, 0)).generate_state(3).tolist()
    graph = SMALL.graph(0.4)
    labels, difficult = graph.labels(), graph.difficult()
    for name, pairs, _ in arms(SMALL, graph, noise, chance):
        found = row(report, 0.4, name)
        apart = hard = total = apart_of_all = hard_of_all = 0
        for i in range(60):
            for j in range(60):
                if i != j:
                    different = labels[i] != labels[j]
                    flag = pairs is not None and pairs[i, j]
                    apart_of_all += different
                    hard_of_all += different and difficult[i] and difficult[j]
                    total += flag
                    apart += flag and different
                    hard += flag and different and difficult[i] and difficult[j]
        assert found.base_rate == pytest.approx(apart_of_all / (60 * 59))
        assert found.difficult_base_rate == pytest.approx(hard_of_all / (60 * 59))
        if pairs is None:
            assert found.purity is found.excess is found.difficult_share is None
        else:
            assert found.purity == pytest.approx(apart / total)
            assert found.excess == pytest.approx(apart / total - apart_of_all / (60 * 59))
            assert found.difficult_share == pytest.approx(hard / total)


def test_random_arms_flag_as_many_pairs_of_every_row():
    pairs = flagged(SMALL, 0.4)
    for treatment in ("margin", "temperature", "drop"):
        chosen, drawn = pairs[treatment], pairs[f"random {treatment}"]
        np.testing.assert_array_equal(chosen.sum(axis=1), drawn.sum(axis=1))
        assert not np.array_equal(chosen, drawn)
        assert not drawn.diagonal().any()
    high, low = RankBand.for_classes(3).ranks(59)
    assert set(pairs["temperature"].sum(axis=1)) == {low - high}


def test_selection_is_that_of_the_current_factorisation_and_the_edit_symmetric():
    setting = replace(SMALL, rounds=1)
    graph = setting.graph(0.4)
    matrix = population.normalize(population.relax(graph.adjacency(), 0.3, 3))
    values, vectors = population.leading_eigenpairs(matrix, 3)
    unit = vectors * np.sqrt(values)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    ranks = np.argsort(np.argsort(-cosines, axis=1), axis=1) + 1
    high, low = RankBand.for_classes(3).ranks(59)
    expected = (ranks > high) & (ranks <= low)
    np.testing.assert_array_equal(flagged(setting, 0.4)["margin"], expected)
    edited = matrix - 0.3 * matrix.mean() * (expected * 0.5 + expected.T * 0.5)
    rows = {name: features for name, _, features in arms(setting, graph, 3, 4)}["margin"]
    rows = rows * np.sqrt(population.weights(population.relax(graph.adjacency(), 0.3, 3)))[:, None]
    values, vectors = population.leading_eigenpairs(edited, 3)
    np.testing.assert_allclose(rows @ rows.T, (vectors * values) @ vectors.T, atol=1e-10)


def test_arms_that_know_more_than_features_say_so(report):
    assert {row.arm for row in report.rows if not row.uses_labels} == {
        "with", "margin", "temperature", "drop", "random margin", "random temperature", "random drop",
        "degree removal", "random removal",
    }  # fmt: skip
    assert row(report, 0.4, "removal").knows == "difficult"
    assert row(report, 0.4, "oracle margin").knows == "classes"


def test_nystroem_extension_is_the_eigenvector_itself_where_features_carry_the_graph():
    # With alpha = 1 same-class pairs are indistinguishable and the graph has rank r + 1.
    graph = SimilarityGraph(n=12, r=2, n_d=0, alpha=1, beta=0.2, gamma=0.2)
    removed = np.arange(36) % 4 == 1  # three of every class
    full = population.optimal_features(graph.adjacency(), 3)
    extended = nystroem_features(graph.adjacency(), removed, 3)
    # Features are unique up to a rotation: their products are compared.
    np.testing.assert_allclose(extended @ extended.T, full @ full.T, atol=1e-12)


def test_nystroem_extension_solves_the_eigenvalue_equation():
    setting = replace(SMALL, epsilon=0.1)
    adjacency = population.relax(setting.graph(0.4).adjacency(), 0.1, 2)
    removed = setting.graph(0.4).difficult()
    features = nystroem_features(adjacency, removed, 3)
    inner = adjacency[np.ix_(~removed, ~removed)]
    np.testing.assert_allclose(abs(features[~removed]), abs(population.optimal_features(inner, 3)), atol=1e-10)
    values, _ = population.leading_eigenpairs(population.normalize(inner), 3)
    walk = adjacency[:, ~removed] / adjacency[:, ~removed].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(walk @ features[~removed], features * values, atol=1e-10)
    with pytest.raises(ValueError, match="k must lie in"):
        nystroem_features(adjacency, removed, 46)


def test_removal_finds_hubs_by_degree_where_noise_is_small():
    pairs = flagged(replace(SMALL, epsilon=0.01), 0.4)
    np.testing.assert_array_equal(pairs["degree removal"], pairs["removal"])
    assert pairs["random removal"].sum() == pairs["removal"].sum()


def test_what_the_laboratory_finds_in_its_default_setting():
    wide, narrow = (
        run_laboratory(LaboratorySetting(gammas=(0.42,), band=band), draws=15) for band in (None, RankBand(0.2, 0.3))
    )
    for arm in ("without", "margin", "temperature", "drop", "oracle margin", "class drop"):
        assert row(wide, 0.42, arm).difference > row(wide, 0.42, arm).half_width
    for arm in ("random temperature", "random drop", "removal", "degree removal"):
        assert row(wide, 0.42, arm).difference < -row(wide, 0.42, arm).half_width
    assert row(wide, 0.42, "temperature").excess > 0.1
    # A band that holds same-class pairs more often than chance does harm.
    assert row(narrow, 0.42, "temperature").excess < -0.08
    assert row(narrow, 0.42, "drop").difference < -row(narrow, 0.42, "drop").half_width


def test_progress_is_told():
    told = []
    run_laboratory(replace(SMALL, n=4, n_d=1, epsilon=0.01, gammas=(0.3,)), draws=21, say=told.append)
    assert told == ["20 of 21 draws", "21 of 21 draws"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gammas": ()}, r"distinct levels, got \(\)"),
        ({"gammas": (0.3, 0.3)}, "distinct levels"),
        ({"gammas": (0.5,)}, "gamma=0.5"),
        ({"gammas": (0.1,)}, "gamma=0.1"),
        ({"beta": -0.05, "gammas": (0.0,)}, "gamma = 0 with beta = -0.05"),
        ({"n_d": 0}, "n_d=0"),
        ({"n_d": 20}, "n_d=20"),
        ({"n_d": 21}, "n_d=21"),
        ({"epsilon": -0.1}, "epsilon must be finite and >= 0, got -0.1"),
        ({"epsilon": float("inf")}, "epsilon must be finite"),
        ({"margin": float("nan")}, "margin must be finite and >= 0, got nan"),
        ({"temperature_scale": 0}, "temperature_scale must be finite and > 0, got 0"),
        ({"rounds": 0}, "rounds must be finite and >= 1, got 0"),
        ({"k": 46}, r"k must be finite and in \[1, 45\], got 46"),
        ({"k": 0}, "k must be"),
        ({"band": RankBand(0.5, 0.501)}, "holds no pair in rows of 59 others: widen it"),
    ],
)
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(SMALL, **change)


def test_bad_runs_are_refused():
    with pytest.raises(ValueError, match=r"draws must be finite and >= 1, got 0"):
        run_laboratory(SMALL, draws=0)
    with pytest.raises(ValueError, match="seed must be"):
        run_laboratory(SMALL, seed=-1)
    with pytest.raises(ValueError, match=r"draw 0, gamma=0.4: .* lower epsilon=20"):
        run_laboratory(replace(SMALL, epsilon=20), draws=1)


def test_studies_report_the_rows_of_the_laboratory():
    setting = {"gamma": 0.42, "arm": "temperature", "draws": 200}
    found, control = (noisy_graphs.run({**setting, "arm": arm}, 3, "smoke") for arm in ("temperature", "with"))
    report = run_laboratory(LaboratorySetting(n=20, n_d=4), draws=2, seed=3)
    assert found["difference"] == row(report, 0.42, "temperature").difference
    assert control["difference"] == 0
    assert noisy_graphs.run({**setting, "after": 3}, 0, "smoke") == found


def test_the_default_laboratory_is_that_of_the_committed_runs():
    rows = read(RESULTS / "noisy-graphs" / "runs.jsonl")
    assert {(each["settings"]["gamma"], each["arm"]) for each in rows} == {
        (gamma, arm) for gamma in LaboratorySetting.gammas for arm in ARMS
    }
