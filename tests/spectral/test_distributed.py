"""Processes that each read a part of the pairs and send each other their maps have the map of one process."""

from functools import reduce

import numpy as np
import pytest
import torch
import torch.distributed as dist
from distributed.processes import run

from pairsift.spectral import SpectralMap

pytestmark = pytest.mark.slow


def pairs():
    rng = np.random.default_rng(0)
    topics = rng.standard_normal((20_000, 4)) @ rng.standard_normal((4, 16))
    return [topics + 2 * rng.standard_normal((20_000, 16)) for _ in range(2)]


def gathered(rank, world):
    """Map, eigenvalues and loss of all parts; the parts are of unequal size."""
    bounds = [0, 7000, 20_000]
    mine = SpectralMap(4, ridge=0.1).partial_fit(*(side[bounds[rank] : bounds[rank + 1]] for side in pairs()))
    parts = [None] * world
    dist.all_gather_object(parts, mine)
    whole = reduce(SpectralMap.merge, parts)
    return torch.from_numpy(whole.first_map), torch.from_numpy(whole.eigenvalues), whole.loss


def test_two_processes_have_the_map_of_one(tmp_path):
    one, other = run(gathered, 2, tmp_path)
    whole = SpectralMap.fit(*pairs(), dimensions=4, ridge=0.1, power=1.0, held_out=0)
    np.testing.assert_allclose(one[0], whole.first_map, rtol=0, atol=1e-10)
    np.testing.assert_allclose(one[1], whole.eigenvalues, rtol=0, atol=1e-10)
    assert one[2] == pytest.approx(whole.loss, abs=1e-10)
    assert torch.equal(one[0], other[0])
