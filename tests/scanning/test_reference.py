"""The five indicators against slow computations of what they are said to be."""

import numpy as np
import pytest
from mixtures import midpoints
from scipy import stats

from pairsift.scanning import INDICATORS
from pairsift.scanning.reference import NEAREST, NEIGHBOURS, Graph, Reference, _agreement_weights

N = 240


@pytest.fixture(scope="module")
def fitted():
    features = midpoints(N, seed=2)[0]
    reference = Reference(features, 1.0, np.arange(N), 5, False, 0)
    return features.astype(np.float64), reference, reference._measure(features, np.arange(N))


def cosines(rows):
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit @ unit.T


def whitened(features):
    centred = features - features.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(centred.T, bias=True))
    return centred @ vectors @ np.diag(1 / np.sqrt(0.9 * values + 0.1 * values.mean()))


def indicator(fitted, name):
    return fitted[2][0][:, INDICATORS.index(name)]


def test_degree_is_the_mean_cosine_to_all_in_whitened_space(fitted):
    np.testing.assert_allclose(indicator(fitted, "degree"), cosines(whitened(fitted[0])).mean(axis=1), atol=1e-5)


def test_centrality_is_the_negative_whitened_norm(fitted):
    np.testing.assert_allclose(indicator(fitted, "centrality"), -np.linalg.norm(whitened(fitted[0]), axis=1), rtol=1e-4)


def test_isolation_is_the_mean_distance_to_the_nearest_others(fitted):
    similarity = cosines(fitted[0] - fitted[0].mean(axis=0))
    np.fill_diagonal(similarity, -np.inf)
    nearest = np.sort(similarity, axis=1)[:, ::-1][:, :NEAREST]
    np.testing.assert_allclose(indicator(fitted, "isolation"), 1 - nearest.mean(axis=1), atol=1e-5)


def test_ambiguity_and_mixture_by_loops(fitted):
    features, reference, (_, cluster, _, _, _) = fitted
    white = whitened(features)
    # Axes have no sign of their own: the centres live in the reference's coordinates.
    white = (features - features.mean(axis=0)) @ reference._whitening.astype(np.float64)
    white /= np.linalg.norm(white, axis=1, keepdims=True)
    similarity = cosines(features - features.mean(axis=0))
    np.fill_diagonal(similarity, -np.inf)
    for row in range(0, N, 17):
        ambiguity = mixture = 0.0
        neighbours = np.argsort(-similarity[row])[:NEIGHBOURS]
        weights = np.exp((similarity[row, neighbours] - 1) / 0.1)
        for centres in reference._centres:
            groups = (white @ centres.T).argmax(axis=1)
            second, first = np.sort(white[row] @ centres.T)[-2:]
            ambiguity -= first - second
            shares = [weights[groups[neighbours] == each].sum() / weights.sum() for each in range(len(centres))]
            mixture += stats.entropy(shares)
        assert indicator(fitted, "ambiguity")[row] == pytest.approx(ambiguity, abs=1e-4)
        assert indicator(fitted, "mixture")[row] == pytest.approx(mixture, abs=1e-4)
        assert cluster[row] == (white[row] @ reference._centres[0].T).argmax()


def test_the_score_puts_the_typical_example_at_one_half_and_one_spread_above_it_at_085(fitted):
    features, reference, _ = fitted
    scored = reference.score(features.astype(np.float32), np.arange(N))
    assert np.median(scored.score) == pytest.approx(0.5, abs=1e-6)
    assert np.quantile(scored.score, 0.16) == pytest.approx(0.5 - 0.5 / np.sqrt(2), abs=1e-3)
    total = scored.indicators @ reference.weights
    assert stats.spearmanr(total, scored.score).statistic == pytest.approx(1)
    np.testing.assert_allclose(np.median(scored.indicators, axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.quantile(scored.indicators, 0.16, axis=0), -1, atol=1e-4)


def test_global_indicators_weigh_as_far_as_they_agree_with_local_ones(fitted):
    _, reference, (raw, *_) = fitted
    rank = stats.spearmanr(raw).statistic
    weights = [max(10 * rank[i, 2:].mean(), 0) for i in (0, 1)] + [1, 1, 1]
    middle, low, high = np.quantile(raw[:, 1], [0.5, 0.16, 0.84], method="hazen")
    # Midpoints lie in the middle: more rows are near the centre than far from it.
    assert (high - middle) / (middle - low) > 1
    weights[1] += 8 * ((high - middle) / (middle - low) - 1)
    weights = np.minimum(weights, 2)
    np.testing.assert_allclose(reference.weights, np.divide(weights, sum(weights)), atol=0.01)
    skewed = raw.copy()
    skewed[:, 1] = np.exp(stats.norm.ppf((np.arange(N) + 0.5) / N))
    assert _agreement_weights(skewed)[1] == max(_agreement_weights(skewed))
    opposed = np.stack([-raw[:, 2], np.zeros(N), raw[:, 2], raw[:, 3], raw[:, 4]], axis=1)
    np.testing.assert_allclose(_agreement_weights(opposed), [0, 0, 1 / 3, 1 / 3, 1 / 3])


def test_a_row_is_scored_alike_in_any_company(fitted):
    features, reference, _ = fitted
    features, rows = features.astype(np.float32), np.arange(N)
    whole = reference.score(features, rows).score
    halves = [reference.score(features[part], rows[part]).score for part in (slice(0, 100), slice(100, N))]
    np.testing.assert_allclose(np.concatenate(halves), whole, atol=1e-5)


def test_a_given_graph_takes_the_place_of_the_search(fitted):
    features, _, (raw, _, _, neighbours, found) = fitted
    graph = Graph(neighbours, found)
    again = Reference(features.astype(np.float32), 1.0, np.arange(N), 5, False, 0, graph)
    np.testing.assert_allclose(again._measure(features.astype(np.float32), np.arange(N))[0], raw, atol=1e-5)


def test_links_between_clusters_are_counted_from_every_anchor(fitted):
    _, reference, (_, cluster, _, neighbours, _) = fitted
    expected = np.zeros((5, 5), int)
    for anchor, near in zip(cluster, neighbours[:, :NEAREST], strict=True):
        for other in near:
            expected[anchor, reference.clusters[other]] += 1
    np.testing.assert_array_equal(reference.bridges, expected)
    assert expected.sum() == N * NEAREST


def test_an_inverted_file_says_how_many_neighbours_it_finds():
    features = midpoints(3000, seed=1)[0]
    exact, inverted = (Reference(features, 1.0, np.arange(3000), 5, each, 0) for each in (False, True))
    assert exact.recall == 1
    assert 0.7 < inverted.recall < 1
    a, b = (each.score(features, np.arange(3000)).score for each in (exact, inverted))
    assert stats.spearmanr(a, b).statistic > 0.97


def test_no_row_is_its_own_neighbour_even_among_identical_ones():
    features = midpoints(200)[0]
    features[:80] = features[0]  # more than are searched for
    reference = Reference(features, 1.0, np.arange(200), 5, False, 0)
    scored = reference.score(features, np.arange(200))
    assert scored.neighbours.shape == (200, NEIGHBOURS)
    assert (scored.neighbours[80:] != np.arange(80, 200)[:, None]).all()
    assert np.isfinite(scored.score).all()
    np.testing.assert_allclose(scored.score[:80], scored.score[0], atol=1e-6)
