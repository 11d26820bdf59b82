import numpy as np
import pytest
import torch
from scipy import stats

from pairsift import RankBand, Treatment, select_pairs
from pairsift.theory import advise, difficult_examples, measure_levels

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 4, 300)
FEATURES = RNG.standard_normal((4, 16))[LABELS] * 1.2 + RNG.standard_normal((300, 16)) + 0.5


def pairwise(features):
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    upper = np.triu_indices(len(unit), 1)
    return (unit @ unit.T)[upper], upper


def test_levels_equal_those_of_all_pairs():
    levels = measure_levels(FEATURES, LABELS)
    similarity, (i, j) = pairwise(FEATURES)
    same, hard = LABELS[i] == LABELS[j], levels.difficult
    kinds = {
        "alpha": same,
        "beta": ~same & ~hard[i] & ~hard[j],
        "gamma": ~same & (hard[i] | hard[j]),
        "gamma_both": ~same & hard[i] & hard[j],
    }
    for name, chosen in kinds.items():
        level = getattr(levels, name)
        assert level.pairs == chosen.sum()
        assert level.mean == pytest.approx(similarity[chosen].mean(), abs=1e-13)
        assert level.variance == pytest.approx(similarity[chosen].var(ddof=1), rel=1e-10)
    welch = stats.ttest_ind(similarity[kinds["gamma"]], similarity[kinds["beta"]], equal_var=False)
    assert levels.t == pytest.approx(welch.statistic, rel=1e-9)
    assert levels.p == pytest.approx(welch.pvalue, rel=1e-6)
    assert levels.n == 75
    assert levels.n_classes == 4
    assert levels.n_d == hard.sum() / 4


def test_difficult_examples_are_the_planted_ones():
    labels = np.repeat([0, 1], 200)
    centres = np.array([[3.0, 0, 1], [-3.0, 0, 1]])
    features = centres[labels] + 0.3 * np.random.default_rng(1).standard_normal((400, 3))
    planted = np.zeros(400, bool)
    planted[[*range(16), *range(200, 216)]] = True
    features[planted, 0] *= 0.05  # between the classes
    np.testing.assert_array_equal(difficult_examples(features, labels, 0.08), planted)
    assert difficult_examples(features, labels, 0.0001).sum() == 2  # at least one of each class
    levels = measure_levels(features, labels)
    assert levels.gamma_both.mean > levels.gamma.mean > levels.beta.mean
    assert levels.t > 10


def test_labels_may_be_names_and_features_any_float():
    by_name = measure_levels(FEATURES.astype(np.float16), np.array(list("abcd"))[LABELS])
    assert by_name.alpha.mean == pytest.approx(measure_levels(FEATURES, LABELS).alpha.mean, abs=1e-3)


def test_unlabelled_rows_are_left_out():
    rng = np.random.default_rng(0)
    labels = rng.integers(-1, 4, 200)
    features, difficult = np.eye(8)[labels] + 0.3 * rng.standard_normal((200, 8)), rng.random(200) < 0.2
    known = labels >= 0
    for marks in (None, difficult):
        found = measure_levels(features, labels, marks)
        expected = measure_levels(features[known], labels[known], None if marks is None else marks[known])
        assert found.n == expected.n == known.sum() / 4
        assert (found.alpha, found.beta, found.gamma) == (expected.alpha, expected.beta, expected.gamma)
    with pytest.raises(ValueError, match=r"every row is unlabelled \(-1\)"):
        measure_levels(features, np.full(200, -1))


def test_levels_by_band_equal_those_of_the_selected_pairs():
    band = RankBand(0.25, 0.5)
    levels = measure_levels(FEATURES, band=band)
    pairs = select_pairs(torch.from_numpy(FEATURES), band).numpy()
    unit = FEATURES / np.linalg.norm(FEATURES, axis=1, keepdims=True)
    similarity = unit @ unit.T
    assert levels.gamma.pairs == pairs.sum()
    assert levels.gamma.mean == pytest.approx(similarity[pairs].mean(), abs=1e-6)
    assert levels.gamma.variance == pytest.approx(similarity[pairs].var(ddof=1), abs=1e-6)
    total = levels.alpha.pairs + levels.gamma.pairs + levels.beta.pairs
    assert total == 300 * 299
    mean = sum(level.mean * level.pairs for level in (levels.alpha, levels.gamma, levels.beta)) / total
    assert mean == pytest.approx((similarity.sum() - 300) / total, abs=1e-6)
    assert (levels.n_classes, levels.n) == (4, 75)
    assert levels.t is levels.p is levels.n_d is levels.difficult is None
    assert measure_levels(FEATURES, band=band, n_classes=10).n_classes == 10
    with pytest.raises(ValueError, match="pass labels to measure_levels"):
        levels.graph()


def test_advice_is_the_theorys():
    levels = measure_levels(FEATURES, LABELS)
    advice = advise(levels)
    assert advice.margin == levels.gamma.mean - levels.beta.mean == levels.gap
    assert advice.temperature_scale == levels.beta.mean / levels.gamma.mean
    assert advice.band_start == 0.25
    assert advice.treatment() == Treatment(margin=advice.margin, temperature_scale=advice.temperature_scale)
    graph = levels.graph()
    assert (graph.n, graph.r, graph.n_d) == (150, 3, round(2 * levels.n_d))
    assert advice.removal_pays is True
    assert any("removal pays by Cor 4.1" in reason for reason in advice.reasons)


def test_advice_where_nothing_is_difficult():
    easy = measure_levels(FEATURES, LABELS, difficult=np.arange(300) < 0)
    assert np.isnan(easy.gamma.mean)
    flat = np.random.default_rng(3).standard_normal((400, 64))
    levels = measure_levels(flat, np.arange(400) % 2, difficult=np.arange(400) % 40 == 1)
    advice = advise(levels)
    if levels.gap <= 0:
        assert advice.margin == 0
        assert advice.temperature_scale is None
    assert any("gamma" in reason and "alpha" in reason for reason in advice.reasons) == (
        levels.gamma.mean >= levels.alpha.mean
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones((0, 3)), []), "non-empty"),
        ((np.ones(4), np.zeros(4)), "got shape"),
        ((np.ones((4, 2), int), np.zeros(4)), "floating point"),
        ((np.where(np.eye(4) > 0, np.nan, 1.0), np.arange(4)), "row 0 is not finite"),
        ((np.ones((4, 2)), np.arange(4) % 2), "all 4 feature rows are equal"),
        ((FEATURES, LABELS[:5]), r"shape \(300,\), got \(5,\)"),
        ((FEATURES, np.zeros(300)), "every label is 0"),
        ((FEATURES, np.minimum(np.arange(300), 1)), "class 0 has 1 example"),
        ((FEATURES, LABELS, np.zeros(3, bool)), "difficult must be bool"),
        ((FEATURES, LABELS, None, 0.0), r"got 0\.0"),
        ((FEATURES,), "labels, or a band"),
        ((FEATURES, None, None, 0.08, RankBand(0.2, 1.0)), "leaves no pairs below"),
        ((FEATURES[:3], None, None, 0.08, RankBand(0.2, 0.5)), "too few"),
        ((FEATURES, None, None, 0.08, RankBand(0.2, 0.5), 1), "n_classes=1"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        measure_levels(*arguments)
