"""Any default dtype gives the same: no tensor is made in whatever the default happens to be."""

import ast
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from objectives import LABELLED, NAMES, objective, rows, value_and_gradients

import pairsift as ps
from pairsift.losses import baselines
from pairsift.spectral.modules import UnitLinear
from pairsift.spectral.patches import PatchEncoder

ROOT = Path(__file__).parents[1]
# Without a dtype these make floats of the default one.
MAKERS = {"zeros", "ones", "empty", "full", "rand", "randn", "normal", "eye", "linspace", "logspace"}


@pytest.fixture(params=[torch.float64, torch.bfloat16, torch.float16])
def default(request):
    """Sets a default dtype; returns to the usual one afterwards."""
    yield lambda: torch.set_default_dtype(request.param)
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("n", [9, 150])
@pytest.mark.parametrize("name", [*NAMES, *LABELLED])
def test_losses(name, n, default):
    batch = rows(name, n, torch.float32)
    for select in ("band", "random"):
        expected = value_and_gradients(objective(name, "combined", dtype=torch.float32, select=select), *batch)
        default()
        found = value_and_gradients(objective(name, "combined", dtype=torch.float32, select=select), *batch)
        torch.set_default_dtype(torch.float32)
        for got, wanted in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
            assert got.dtype == wanted.dtype
            assert torch.equal(got, wanted)


def everything():
    """What selectors and baselines give for float32 features."""
    generator = torch.Generator().manual_seed(0)
    features = torch.eye(6, dtype=torch.float32).repeat_interleave(20, 0)
    features = features + 0.3 * torch.randn(120, 6, generator=generator, dtype=torch.float32)
    ids, results = torch.arange(120), []
    affinity = ps.Affinity.fit(features)
    mask = ps.GuideMask.fit(features, features.flip(1), margin=0.2, floor=0.3, cap=1.0, difficult=0.2)
    frames = torch.arange(120)
    for selector in (
        ps.RankBand(0.1, 0.3), ps.ConfidentNegatives(affinity), mask, ps.RandomPairs(ps.RankBand(0.1, 0.3)),
        ps.GivenPairs(torch.eye(120).roll(1, 0).bool()), ps.SelfMask(),
        ps.TemporalWindow(ps.RankBand(0.1, 0.3), 2, frames // 20, frames),
    ):  # fmt: skip
        masks = selector.masks(features, rows=ids)
        results += [masks.tile(0, 20), masks.whole(), masks.log_weights(0, 20)]
    for loss in (
        ps.losses.baselines.HardNegativeLoss(), ps.losses.baselines.DebiasedLoss(),
        ps.losses.baselines.DecoupledLoss(sigma=0.5),
        ps.losses.baselines.SimilarityTemperatureLoss(), ps.losses.baselines.FalseNegativeCancellationLoss(top_k=3),
    ):  # fmt: skip
        results.append(loss(features[:60], features[60:]))
    semantic = ps.losses.SemanticNegativeLoss(0.1, ps.Treatment(0.1))
    results.append(semantic(features[:40], features[40:80], features[80:]))
    return results


def test_selectors_and_baselines(default):
    expected = everything()
    default()
    found = everything()
    torch.set_default_dtype(torch.float32)
    for got, wanted in zip(found, expected, strict=True):
        assert (got is None) == (wanted is None)
        if got is not None:
            assert got.dtype == wanted.dtype
            torch.testing.assert_close(got, wanted)


def _made_without_a_dtype(file):
    """Line numbers of tensors of floats in the default dtype."""
    for node in ast.walk(ast.parse(file.read_text())):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if not (isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"):
            continue
        literals = [each for each in ast.walk(ast.Module(node.args, [])) if isinstance(each, ast.Constant)]
        floats = any(isinstance(each.value, float) for each in literals)
        name, typed = node.func.attr, any(each.arg == "dtype" for each in node.keywords)
        chosen = name == "where" and all(isinstance(each, ast.Constant) for each in node.args[1:])
        if not typed and (name in MAKERS or (name in ("tensor", "arange") and floats) or (chosen and floats)):
            yield node.lineno


@pytest.mark.parametrize("folder", ["src/pairsift", "lab"])
def test_tensors_of_floats_are_made_with_a_dtype(folder):
    files = [file for file in (ROOT / folder).rglob("*.py") if folder == "src/pairsift" or file.name == "oracle.py"]
    assert files
    assert not [f"{file.relative_to(ROOT)}:{line}" for file in files for line in _made_without_a_dtype(file)]


def test_every_loss_and_selector_is_tried_above():
    """A new one must join `everything` or the objectives."""
    here = inspect.getsource(everything) + (Path(__file__).parent / "objectives.py").read_text()
    losses = [name for name in (*ps.losses.__all__, *dir(baselines)) if name.endswith("Loss") and name[0] != "_"]
    selectors = [name for name in dir(ps) if isinstance(each := getattr(ps, name), type) and hasattr(each, "masks")]
    assert len(losses) >= 12
    assert len(selectors) >= 6
    abstract = {"Selector", "WrappedSelector"}
    assert not [
        name for name in {*losses, *selectors} - abstract if f"{name}(" not in here and f"{name}.fit(" not in here
    ]


def test_encoders_that_are_solved_keep_float32(default):
    matrix = np.random.default_rng(0).standard_normal((6, 3))
    default()
    solved, patches = UnitLinear(matrix, np.ones(6)), PatchEncoder(8, layers=2, dimensions=4)
    torch.set_default_dtype(torch.float32)
    assert {each.dtype for module in (solved, patches) for each in module.state_dict().values()} == {torch.float32}
    np.testing.assert_array_equal(solved.linear.weight.detach(), matrix.T.astype(np.float32))
