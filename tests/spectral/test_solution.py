"""The closed form against the loss itself, differentiated in float64, and against the spectrum of the graph."""

import numpy as np
import pytest
import torch

import pairsift as ps
from pairsift.spectral.moments import Moments
from pairsift.spectral.solution import population_loss, solve
from pairsift.theory import SimilarityGraph


def paired(n=300, d=7, e=None, seed=0, shared=3, mean=2.0):
    """Float64 pairs that share some directions."""
    rng = np.random.default_rng(seed)
    topics = rng.standard_normal((n, shared))
    first = topics @ rng.standard_normal((shared, d)) + rng.standard_normal((n, d)) + mean
    second = topics @ rng.standard_normal((shared, e or d)) + rng.standard_normal((n, e or d)) - mean
    return first, second


def loss_of_rows(w, v, a, b, p=None, margin=0.0, added=(0.0, 0.0)):
    """The loss from its definition: positives are rows, all pairs are independent; noise of given variances."""
    f, g = a @ w, b @ v
    matrix = w @ v.T
    products = f @ g.T + (0 if p is None else margin * p)
    ra, rb = added
    covariance = [x.T @ x / len(x) for x in (a, b)]
    ridged = (
        ra * torch.einsum("de,ef,df->", matrix, covariance[1], matrix)
        + rb * torch.einsum("de,df,fe->", matrix, covariance[0], matrix)
        + ra * rb * matrix.square().sum()
    )
    return -2 * (f * g).sum(1).mean() + products.square().mean() + ridged


def centred(first, second, one_tower):
    a, b = (torch.from_numpy(x) for x in (first, second))
    if one_tower:
        mean = (a.mean(0) + b.mean(0)) / 2
        return torch.cat([a, b]) - mean, torch.cat([b, a]) - mean
    return a - a.mean(0), b - b.mean(0)


@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize("ridge", [0.0, 0.3])
def test_the_map_is_a_stationary_point_of_the_loss_and_has_its_value(towers, ridge):
    first, second = paired(e=7 if towers == 1 else 5)
    fitted = ps.SpectralMap.fit(
        first, second, dimensions=3, ridge=ridge, power=0.5, towers=towers, held_out=0,
    )  # fmt: skip
    a, b = centred(first, second, towers == 1)
    w, v = (torch.from_numpy(x.copy()).requires_grad_() for x in (fitted.first_map, fitted.second_map))
    added = tuple(ridge * float((x.T @ x / len(x)).trace()) / x.shape[1] for x in (a, b))
    plain = loss_of_rows(w, v, a, b)
    ridged = loss_of_rows(w, v, a, b, added=added)
    ridged.backward()
    assert max(float(w.grad.abs().max()), float(v.grad.abs().max())) < 1e-12
    assert float(ridged.detach()) == pytest.approx(-float(np.square(fitted.eigenvalues).sum()), abs=1e-12)
    assert fitted.loss == pytest.approx(float(plain), abs=1e-12)


def test_no_start_finds_a_lower_loss():
    first, second = paired(n=80, d=5)
    fitted = ps.SpectralMap.fit(first, second, dimensions=2, ridge=0.0, power=0.5, towers=2, held_out=0)
    a, b = centred(first, second, False)
    torch.manual_seed(0)
    for _ in range(3):
        w, v = (torch.randn(5, 2, dtype=torch.float64).requires_grad_() for _ in range(2))
        optimizer = torch.optim.LBFGS(
            [w, v], max_iter=3000, tolerance_grad=1e-10, tolerance_change=0, line_search_fn="strong_wolfe"
        )

        def closure(w=w, v=v, optimizer=optimizer):
            optimizer.zero_grad()
            value = loss_of_rows(w, v, a, b)
            value.backward()
            return value

        optimizer.step(closure)
        assert float(closure().detach()) == pytest.approx(fitted.loss, abs=1e-9)


@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize("ridge", [0.0, 0.2])
def test_the_margin_is_an_exact_edit(towers, ridge):
    first, second = paired(n=60, e=7 if towers == 1 else 5)
    rows = 120 if towers == 1 else 60
    pairs = torch.rand(rows, rows, generator=torch.Generator().manual_seed(0)) < 0.1
    fitted = ps.SpectralMap.fit(
        first, second, dimensions=3, ridge=ridge, power=0.5, towers=towers, held_out=0,
        selector=ps.GivenPairs(pairs), margin=0.4,
    )  # fmt: skip
    a, b = centred(first, second, towers == 1)
    p = pairs.double()
    if towers == 1:
        # All rows are compared among themselves, in the order first sides, second sides; `b` holds their positives.
        p = ((p + p.T) / 2)[:, torch.cat([torch.arange(60, 120), torch.arange(60)])]
    w, v = (torch.from_numpy(x.copy()).requires_grad_() for x in (fitted.first_map, fitted.second_map))
    added = tuple(ridge * float((x.T @ x / len(x)).trace()) / x.shape[1] for x in (a, b))
    ridged = loss_of_rows(w, v, a, b, p, 0.4, added)
    ridged.backward()
    # The products of centred rows of P vanish only with centred rows and columns; the gradient takes no part of it.
    assert max(float(w.grad.abs().max()), float(v.grad.abs().max())) < 1e-12
    expected = -float(np.square(fitted.eigenvalues).sum()) + 0.16 * float(p.square().mean())
    assert float(ridged.detach()) == pytest.approx(expected, abs=1e-12)
    assert fitted.loss == pytest.approx(float(loss_of_rows(w, v, a, b, p, 0.4)), abs=1e-12)


def graph_pairs(graph):
    counts = np.rint(10 * graph.adjacency()).astype(int)
    first, second = (np.repeat(index.ravel(), counts.ravel()) for index in np.indices(counts.shape))
    features = np.eye(len(counts))[:, 1:]
    return first, second, features


@pytest.mark.parametrize("pairing", ["block", "matched"])
def test_indicator_features_give_the_spectrum_of_the_graph(pairing):
    graph = SimilarityGraph(n=6, r=2, n_d=2, alpha=0.5, beta=0.1, gamma=0.3, pairing=pairing)
    first, second, features = graph_pairs(graph)
    if pairing == "block":
        assert len(first) == 894
    fitted = ps.SpectralMap.fit(
        features[first], features[second], dimensions=17, ridge=0.0, power=0.5, towers=1, held_out=0
    )
    np.testing.assert_allclose(fitted.eigenvalues, np.repeat(*graph.spectrum())[1:], rtol=0, atol=1e-10)


def test_other_features_stay_below_the_spectrum_of_the_graph():
    graph = SimilarityGraph(n=6, r=2, n_d=2, alpha=0.5, beta=0.1, gamma=0.3, pairing="block")
    first, second, _ = graph_pairs(graph)
    features = np.random.default_rng(0).standard_normal((18, 8))
    fitted = ps.SpectralMap(dimensions=1, ridge=0.0, power=0.5, towers=1).partial_fit(features[first], features[second])
    values = solve(fitted._covariances(), 0.0).values
    bounds = np.repeat(*graph.spectrum())[1:]
    assert len(values) > 3
    assert (values <= bounds[: len(values)] + 1e-12).all()


def test_a_margin_projects_the_edited_graph_off_the_constant():
    graph = SimilarityGraph(n=6, r=2, n_d=2, alpha=0.5, beta=0.1, gamma=0.3, pairing="block")
    first, second, features = graph_pairs(graph)
    margin, n = 0.05, len(first)
    weights = np.bincount(np.concatenate([first, second]), minlength=18) / (2 * n)
    joint = np.zeros((18, 18))
    np.add.at(joint, (first, second), 1 / n)
    joint = (joint + joint.T) / 2
    difficult = graph.difficult_pairs()
    root = np.sqrt(weights)
    edited = joint / np.outer(root, root) - margin * difficult * np.outer(root, root)
    off = np.eye(18) - np.outer(root, root)
    expected = np.sort(np.linalg.eigvalsh(off @ edited @ off))[::-1]
    rows = np.concatenate([first, second])
    pairs = torch.from_numpy(difficult[rows][:, rows])
    fitted = ps.SpectralMap.fit(
        features[first], features[second], dimensions=5, ridge=0.0, power=0.5, towers=1, held_out=0,
        selector=ps.GivenPairs(pairs), margin=margin,
    )  # fmt: skip
    np.testing.assert_allclose(fitted.eigenvalues, expected[:5], rtol=0, atol=1e-10)


def test_views_are_all_ordered_pairs_of_different_views():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((200, 1, 6)) + rng.standard_normal((200, 4, 6)) + 5
    moments = Moments(6, None)
    moments.add_views(x)
    found = moments.covariances(1)
    flat = x.reshape(-1, 6) - x.reshape(-1, 6).mean(axis=0)
    centred_views = flat.reshape(x.shape)
    cross = np.mean(
        [centred_views[:, u].T @ centred_views[:, v] / 200 for u in range(4) for v in range(4) if u != v], axis=0
    )
    np.testing.assert_allclose(found.first, flat.T @ flat / 800, atol=1e-12)
    np.testing.assert_allclose(found.cross, cross, atol=1e-12)
    values = solve(found, 0.0).values
    assert -1 / 3 <= values.min() <= values.max() <= 1


def test_the_population_loss_is_that_of_the_rows():
    first, second = paired(n=50, e=4)
    fitted = ps.SpectralMap.fit(first, second, dimensions=2, ridge=1.0, power=1.0, towers=2, held_out=0)
    a, b = centred(first, second, False)
    maps = fitted.first_map, fitted.second_map
    expected = float(loss_of_rows(*(torch.from_numpy(each) for each in maps), a, b))
    assert population_loss(fitted._covariances(), *maps) == pytest.approx(expected, abs=1e-12)
