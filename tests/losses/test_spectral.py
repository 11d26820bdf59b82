import numpy as np
import pytest
import torch
from oracle import band_pairs, spectral
from scipy.linalg import subspace_angles

import pairsift as ps
from pairsift import theory
from pairsift.losses import SpectralLoss
from pairsift.theory.population import (
    factorization_loss,
    margin_loss,
    optimal_features,
    spectral_loss,
    temperature_loss,
    weights,
)

BANDS = [(0.15, 0.22), (0.1, 1.0)]
TREATMENTS = {
    "none": {},
    "neutral": {"removal": "neutral"},
    "exclude": {"removal": "exclude"},
    "margin": {"sigma": 0.1},
    "temperature": {"rho": 0.6},
    "combined": {"sigma": 0.03, "rho": 0.7},
}
GRAPHS = [theory.SimilarityGraph(8, 2, 3, 0.5, 0.1, 0.3, pairing) for pairing in ("block", "matched")]


def treatment(name):
    settings = TREATMENTS[name]
    return ps.Treatment(settings.get("sigma", 0.0), settings.get("rho", 1.0), settings.get("removal"))


def batch(n, d=8, features=12, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, width, generator=generator, dtype=dtype) for width in (d, d, features, features)]


@pytest.mark.parametrize("n", [2, 3, 64])
@pytest.mark.parametrize("name", TREATMENTS)
@pytest.mark.parametrize("band", BANDS)
@pytest.mark.parametrize("mu", [1.0, 10.0])  # at 10 some rows are shorter than the bound
def test_loss_equals_the_oracle(n, name, band, mu):
    z0, z1, h0, h1 = batch(n)
    pairs = band_pairs(h0.tolist(), *band, h1.tolist())
    loss = SpectralLoss(mu, ps.RankBand(*band), treatment(name))
    expected = spectral(z0.tolist(), z1.tolist(), mu, pairs, **TREATMENTS[name])
    assert float(loss(z0, z1, h0, h1)) == pytest.approx(expected, abs=1e-10)
    assert float(loss(z0, z1, pairs=torch.from_numpy(pairs))) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("name", TREATMENTS)
def test_gradcheck(name):
    z0, z1, h0, h1 = batch(5)
    loss = SpectralLoss(4.0, ps.RankBand(0.3, 0.9), treatment(name))
    pairs = loss.select(h0, h1)
    assert torch.autograd.gradcheck(lambda a, b: loss(a, b, pairs=pairs), (z0.requires_grad_(), z1.requires_grad_()))


def test_neutral_treatments_equal_the_plain_loss():
    z0, z1, h0, h1 = batch(16)
    plain = SpectralLoss()(z0, z1)
    assert SpectralLoss(selector=ps.RankBand(0.1, 0.5), treatment=ps.Treatment())(z0, z1, h0, h1) == plain
    nothing = torch.zeros(16, 16, dtype=torch.bool)
    for name in TREATMENTS:
        assert float(SpectralLoss(1.0, ps.RankBand(0.1, 0.5), treatment(name))(z0, z1, pairs=nothing)) == float(plain)


def test_nothing_repels_where_every_pair_is_excluded():
    z0, z1, *_ = batch(4)
    everything = torch.ones(4, 4, dtype=torch.bool)
    loss = SpectralLoss(100.0, ps.RankBand(0.1, 1.0), ps.Treatment(removal="exclude"))(z0, z1, pairs=everything)
    assert float(loss) == pytest.approx(-2 * float((z0 * z1).sum(1).mean()) / 100)


def population(graph, seed=0, k=4):
    adjacency = graph.adjacency()
    features = 0.2 * np.random.default_rng(seed).standard_normal((len(graph), k))
    arguments = dict(positives=torch.tensor(adjacency / adjacency.sum()), weights=torch.tensor(weights(adjacency)))
    return adjacency, features, arguments


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.pairing)
def test_on_a_population_it_is_the_loss_of_the_theory(graph):
    adjacency, features, arguments = population(graph)
    f = torch.tensor(features)
    flagged = np.random.default_rng(1).random(adjacency.shape) < 0.3
    flagged |= flagged.T
    pairs = torch.tensor(flagged)
    band = ps.RankBand(0.1, 0.5)
    # mu only bounds rows here; its factor on the loss is undone.
    plain = 100 * SpectralLoss(100.0)(f, f, **arguments)
    assert float(plain) == pytest.approx(spectral_loss(features, adjacency), abs=1e-12)
    margin = 100 * SpectralLoss(100.0, band, ps.Treatment(margin=0.002))(f, f, pairs=pairs, **arguments)
    assert float(margin) == pytest.approx(margin_loss(features, adjacency, 0.2 * flagged), abs=1e-12)
    temperature = 100 * SpectralLoss(100.0, band, ps.Treatment(temperature_scale=0.6))(f, f, pairs=pairs, **arguments)
    expected = temperature_loss(features, adjacency, np.where(flagged, 0.6, 1.0))
    assert float(temperature) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.pairing)
def test_it_factorises_the_edited_matrix(graph):
    """Thm 4.2: for any features the loss differs from the factorisation by the same constant."""
    flagged = graph.difficult()[:, None] & graph.difficult() & (graph.labels()[:, None] != graph.labels())
    loss = SpectralLoss(100.0, ps.RankBand(0.1, 0.5), ps.Treatment(margin=0.002))
    constants = []
    for seed in range(4):
        adjacency, features, arguments = population(graph, seed)
        f = torch.tensor(features)
        value = 100 * float(loss(f, f, pairs=torch.tensor(flagged), **arguments))
        constants.append(factorization_loss(features, adjacency, 0.2 * flagged) - value)
    assert np.ptp(constants) < 1e-12


@pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.pairing)
def test_gradient_descent_reaches_the_subspace_of_the_exact_minimiser(graph):
    adjacency, features, arguments = population(graph, k=3)
    f = torch.tensor(features, requires_grad=True)
    loss = SpectralLoss(1e6)
    optimizer = torch.optim.LBFGS([f], max_iter=2000, tolerance_grad=1e-14, tolerance_change=1e-18, history_size=20)

    def step():
        optimizer.zero_grad()
        value = 1e6 * loss(f, f, **arguments)
        value.backward()
        return value

    optimizer.step(step)
    assert subspace_angles(f.detach().numpy(), optimal_features(adjacency, 3)).max() < 1e-3


def test_random_selection_flags_as_many_pairs():
    _, _, h0, h1 = batch(20)
    band = ps.RankBand(0.2, 0.5)
    chosen, drawn = (SpectralLoss(1.0, band, select=each).select(h0, h1) for each in ("band", "random"))
    assert (drawn.sum(1) == chosen.sum(1)).all()
    assert not torch.equal(drawn, chosen)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mu": 0}, "mu must be"),
        ({"mu": float("inf")}, "mu must be"),
        ({"treatment": ps.Treatment(0.1)}, "needs a selector"),
    ],
)
def test_bad_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        SpectralLoss(**arguments)


def test_bad_batches_are_refused():
    z0, z1, h0, h1 = batch(4)
    loss = SpectralLoss(1.0, ps.RankBand(0.2, 0.5), ps.Treatment(0.1))
    with pytest.raises(ValueError, match="of one shape"):
        loss(z0, z1[:3], h0, h1)
    with pytest.raises(ValueError, match=r"a row for each of z0 and z1, \(4, D\)"):
        loss(z0, z1, h0[:3], h1[:3])
    with pytest.raises(ValueError, match=r"pairs must be bool of shape \(4, 4\)"):
        loss(z0, z1, pairs=torch.ones(8, 8, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"weights must have shape \(4,\)"):
        loss(z0, z1, h0, h1, weights=torch.ones(3))
    with pytest.raises(ValueError, match="must sum to 1, got 4"):
        loss(z0, z1, h0, h1, weights=torch.ones(4))
    with pytest.warns(UserWarning, match="selected on the projections"):
        loss(z0, z1)
