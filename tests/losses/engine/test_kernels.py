import os
import subprocess
import sys
from pathlib import Path

import kernels_by_interpreter
import pytest
import torch
from objectives import objective, rows, value_and_gradients

from pairsift.pairs.selector import runs_kernels

kernels = pytest.importorskip("pairsift.pairs.kernels", reason="Triton is not installed")
softmax_kernel = pytest.importorskip("pairsift.losses.engine.softmax_kernel", reason="Triton is not installed")


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """Masks, values and gradients by Triton's interpreter, which a process must choose before it starts."""
    file = tmp_path_factory.mktemp("kernels") / "results.pt"
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, kernels_by_interpreter.__file__, str(file)], check=True, timeout=300,
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path},
    )  # fmt: skip
    return torch.load(file, weights_only=True)


@pytest.mark.slow
def test_selection_equals_sorting(interpreted):
    for mask, (similarities, high, low) in zip(interpreted[0], kernels_by_interpreter.selections(), strict=True):
        ranked = similarities.sort(dim=1, descending=True).values
        upper, lower = ranked[:, high - 1 : high], ranked[:, low - 1 : low]
        assert torch.equal(mask, ((similarities >= lower) & (similarities < upper)).float())


@pytest.mark.slow
def test_losses_and_gradients_equal_whole_matrices(interpreted):
    for result, (name, treatment, n, _) in zip(interpreted[1], kernels_by_interpreter.cases(), strict=True):
        dense = objective(name, treatment, dtype=torch.float32, tile="dense")
        expected = value_and_gradients(dense, *rows(name, n, torch.float32))
        torch.testing.assert_close(result, expected, rtol=1e-5, atol=2e-6)
    each = objective("ntxent", "combined", dtype=torch.float32, tile="dense", reduction="none")
    torch.testing.assert_close(interpreted[2], each(*rows("ntxent", 4, torch.float32)), rtol=1e-5, atol=2e-6)


def test_kernels_are_not_used_on_the_cpu_unless_interpreted():
    assert not runs_kernels(torch.zeros(1))


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_for_gpus(capability):
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    def compiled(function, constants, **types):
        source = ASTSource(function, types, constexprs=constants | {"BLOCK": 2048})
        return triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": 8}).asm

    assert "cubin" in compiled(
        kernels._band_kernel, {}, similarities="*fp32", keys="i32", edge_high="i32", edge_low="i32"
    )
    floats = dict.fromkeys(("logits", "masks", "weights", "losses", "d_positives", "d_offsets"), "*fp32")
    numbers = {"keys": "i32", "factor": "fp32", "offset": "fp32", "first_diagonal": "i32"}
    for masked, itself, apart, gradient, offset in ((1, 1, 0, 1, 0), (1, 0, 1, 1, 1), (0, 0, 0, 0, 0)):
        constants = {
            "MASKED": bool(masked), "LEAVES_OUT": bool(itself), "APART": bool(apart), "GRADIENT": bool(gradient),
            "OFFSET": bool(offset), "EXCLUDED": -1e30,
        }  # fmt: skip
        types = floats | numbers | {"positives": "*fp32" if apart else "*i64"}
        assert "cubin" in compiled(softmax_kernel._softmax_kernel, constants, **types)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("treatment", ["none", "exclude", "combined"])
@pytest.mark.parametrize("name", ["ntxent", "moco", "spectral", "two-tower-learned"])
def test_kernels_on_a_gpu_equal_whole_matrices(name, treatment):
    batch = [x.cuda() for x in rows(name, 300, torch.float32)]
    dense, tiled = (objective(name, treatment, dtype=torch.float32, tile=tile).cuda() for tile in ("dense", 77))
    expected = value_and_gradients(dense, *batch)
    torch.testing.assert_close(value_and_gradients(tiled, *batch), expected, rtol=1e-4, atol=1e-5)
