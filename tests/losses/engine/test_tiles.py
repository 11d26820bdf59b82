import pytest
import torch
from objectives import LABELLED, NAMES, TREATMENTS, objective, rows, value_and_gradients

import pairsift as ps
from pairsift.losses import Engine

CLOSE = {torch.float64: 1e-12, torch.float32: 2e-6}


def compare(name, treatment, n, tile, dtype=torch.float64, **settings):
    batch = rows(name, n, dtype)
    dense = value_and_gradients(objective(name, treatment, dtype=dtype, tile="dense", **settings), *batch)
    tiled = value_and_gradients(objective(name, treatment, dtype=dtype, tile=tile, **settings), *batch)
    assert tiled[0].dtype == dtype
    torch.testing.assert_close(tiled, dense, rtol=CLOSE[dtype], atol=CLOSE[dtype])


@pytest.mark.parametrize("n", [2, 3, 17])
@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize("name", [*NAMES, *LABELLED])
def test_tiles_equal_whole_matrices(name, treatment, n):
    for tile in (1, 3, 5, 64):
        compare(name, treatment, n, tile)


@pytest.mark.parametrize("treatment", TREATMENTS)
@pytest.mark.parametrize("name", [*NAMES, *LABELLED])
def test_tiles_equal_whole_matrices_in_single_precision_and_by_default(name, treatment):
    compare(name, treatment, 150, "auto", torch.float32)
    compare(name, treatment, 150, 41, torch.float32, band=(0.01, 1.0))


def test_auto_takes_tiles_above_a_size():
    cpu = torch.device("cpu")
    assert Engine("auto").tile_rows(255, cpu) is None
    assert Engine("auto").tile_rows(256, cpu) == 256
    assert Engine("auto").tile_rows(65536, cpu) == 256
    assert Engine("auto").tile_rows(131072, cpu) == 128
    assert Engine("auto").tile_rows(10**6, cpu) == 64
    assert Engine("dense").tile_rows(10**6, cpu) is None
    assert Engine(7).tile_rows(2, cpu) == 7


@pytest.mark.parametrize("treatment", TREATMENTS)
def test_losses_of_single_rows(treatment):
    batch = rows("ntxent", 13)
    weights = torch.linspace(-1, 2, 26, dtype=torch.float64)
    results = []
    for tile in ("dense", 4):
        loss = objective("ntxent", treatment, tile=tile, reduction="none")
        z0, z1 = (z.clone().requires_grad_() for z in batch[:2])
        values = loss(z0, z1, *batch[2:])
        results.append((values.detach(), *torch.autograd.grad(values @ weights, (z0, z1))))
    assert results[0][0].shape == (26,)
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck_by_tiles(name):
    z0, z1, h0, h1 = rows(name, 5)
    loss = objective(name, "combined", tile=2)
    if name == "moco":
        z1.requires_grad_(False)  # keys get no gradient
        assert torch.autograd.gradcheck(lambda a: loss(a, z1, h0, h1, enqueue=False), (z0.requires_grad_(),))
    else:
        assert torch.autograd.gradcheck(lambda a, b: loss(a, b, h0, h1), (z0.requires_grad_(), z1.requires_grad_()))


@pytest.mark.parametrize("select", ["band", "random"])
def test_given_pairs_and_random_ones(select):
    batch = rows("ntxent", 20)
    dense, tiled = (objective("ntxent", "combined", tile=tile, select=select, seed=3) for tile in ("dense", 7))
    torch.testing.assert_close(value_and_gradients(tiled, *batch), value_and_gradients(dense, *batch))
    pairs = ps.losses.NTXentLoss(selector=ps.RankBand(0.1, 0.5), tile=7).select(*batch[2:])
    assert pairs.shape == (40, 40)
    banded = objective("ntxent", "combined", tile="dense")(*batch)
    torch.testing.assert_close(tiled(*batch[:2], pairs=pairs), banded, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["ntxent", "spectral"])
def test_second_derivatives_are_refused_by_tiles_and_given_by_whole_matrices(name):
    z0, z1, h0, h1 = rows(name, 6)
    for reduction in ("mean", "none") if name == "ntxent" else ("mean",):
        settings = {"reduction": reduction} if name == "ntxent" else {}
        z0.requires_grad_()
        value = objective(name, "combined", tile=2, **settings)(z0, z1, h0, h1).sum()
        with pytest.raises(RuntimeError, match="tile='dense'"):
            torch.autograd.grad(value, z0, create_graph=True)
    value = objective(name, "combined", tile="dense")(z0, z1, h0, h1)
    (gradient,) = torch.autograd.grad(value, z0, create_graph=True)
    assert torch.autograd.grad(gradient.square().sum(), z0)[0].abs().max() > 0


@pytest.mark.parametrize("tile", ["dense", 3])
def test_a_compiled_model_may_hold_the_loss(tile):
    z0, z1, h0, h1 = rows("ntxent", 8, torch.float32)
    loss = objective("ntxent", "combined", dtype=torch.float32, tile=tile)
    compiled = torch.compile(lambda a, b: loss(2 * a, b, h0, h1) * 3, backend="eager")
    gradients = []
    for function in (compiled, lambda a, b: loss(2 * a, b, h0, h1) * 3):
        a = z0.clone().requires_grad_()
        value = function(a, z1)
        gradients.append((value.detach(), *torch.autograd.grad(value, a)))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_no_gradient_is_made_where_none_is_wanted():
    batch = rows("ntxent", 9)
    value = objective("ntxent", "combined", tile=4)(*batch)
    assert not value.requires_grad
    with torch.no_grad():
        z0 = batch[0].clone().requires_grad_()
        assert objective("ntxent", "combined", tile=4)(z0, *batch[1:]) == value


def test_gradients_are_scaled_by_what_follows_and_last():
    z0, z1, h0, h1 = rows("ntxent", 9)
    z0.requires_grad_()
    value = objective("ntxent", "combined", tile=4)(z0, z1, h0, h1)
    (once,) = torch.autograd.grad(value, z0, retain_graph=True)
    (scaled,) = torch.autograd.grad(1024 * value, z0)
    assert torch.equal(scaled, 1024 * once)


def test_selection_in_bf16_moves_only_pairs_near_the_edges():
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(10, 64, generator=generator)
    h = centres[torch.arange(500) % 10] + 0.7 * torch.randn(500, 64, generator=generator)
    band = ps.RankBand(0.15, 0.22)
    exact, rough = (ps.select_pairs(h, band, precision=precision) for precision in ("fp32", "bf16"))
    moved = exact != rough
    assert 0 < moved.sum() < 0.1 * exact.sum()
    unit = torch.nn.functional.normalize(h, dim=1)
    similarities = (unit @ unit.T).fill_diagonal_(-2)
    ranked = similarities.sort(dim=1, descending=True).values
    edges = ranked[:, [74, 109]]  # ceil(0.15 * 499), ceil(0.22 * 499), counted from 1
    away = (similarities[:, :, None] - edges[:, None]).abs().amin(dim=2)
    assert away[moved].max() < 0.02
    assert torch.equal(rough, ps.losses.NTXentLoss(selector=band, precision="bf16").select(h[:250], h[250:]))


@pytest.mark.parametrize("name", ["ntxent", "moco", "spectral", "two-tower", "labelled"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tile": 0}, "tile must be 'auto', 'dense' or a positive number of rows, got 0"),
        ({"tile": -4}, "got -4"),
        ({"tile": 2.5}, "got 2.5"),
        ({"tile": True}, "got True"),
        ({"tile": "small"}, "got 'small'"),
        ({"precision": "fp8"}, "precision must be 'fp32' or 'bf16', got 'fp8'"),
    ],
)
def test_bad_settings(name, settings, message):
    with pytest.raises(ValueError, match=message):
        objective(name, "combined", **settings)


@pytest.mark.parametrize("name", ["ntxent", "spectral"])
def test_non_finite_rows_are_named_by_tiles_too(name):
    z0, z1, h0, h1 = rows(name, 9)
    h0[4, 2] = torch.nan
    with pytest.raises(ValueError, match="features row 4 is not finite"):
        objective(name, "combined", tile=2)(z0, z1, h0, h1)
