"""The study of simulated chains: its worlds are the family's chain, and its exact values those of the theory."""

import numpy as np
import pytest

from lab.chain import ChainGraph
from lab.studies import chains
from pairsift.theory import population


def test_a_world_walks_as_its_family_says():
    world = chains.World(bridging=8, seed=0)
    found = ChainGraph.from_sequences(np.split(world.states, chains.SEQUENCES), n_states=len(world.family))
    assert np.abs(found.joint.toarray() - world.family.transition() / len(world.family)).mean() < 1e-4
    assert found.eigenvalues(2)[1] == pytest.approx(world.family.spectrum()[1], abs=0.03)
    hard = world.family.difficult()[world.states]
    assert (world.dropped("drop known") == hard).all()
    assert world.dropped("drop random").mean() == pytest.approx(hard.mean(), abs=0.1)


def test_bridging_states_are_found_without_labels():
    world = chains.World(bridging=4, seed=1)
    hard, found = world.family.difficult()[world.states], world.dropped("drop estimated")
    assert (found & hard).sum() / found.sum() > 0.6 > 2 * hard.mean()


def test_exact_values_lie_below_the_bound():
    values = [chains.exact(bridging) for bridging in (0, 4, 8, 16)]
    assert values[0]["exact_squared"] == values[0]["half_bound"] == 0
    for value in values:
        assert value["exact_squared"] <= value["half_bound"]
    assert values[3]["exact_error"] == 75
    # One of C classes is told by chance: the best constant scores are 1 / C each.
    assert values[3]["exact_squared"] == pytest.approx(100 * (1 - 1 / chains.CLASSES))
    chain = ChainGraph(chains.BridgedChain(chains.CLASSES, chains.STATES, 8, chains.EPS).transition())
    reference = population.optimal_features(chain.adjacency(), chains.K)
    labels = chains.BridgedChain(chains.CLASSES, chains.STATES, 8, chains.EPS).labels()
    projector = reference @ np.linalg.pinv(reference)
    onehot = np.eye(chains.CLASSES)[labels]
    distance = ((onehot - projector @ onehot) ** 2).sum() / len(labels)
    assert values[2]["exact_squared"] == pytest.approx(100 * distance, abs=0.01)


@pytest.mark.parametrize("arm", chains.ARMS)
def test_every_arm_trains_and_is_measured(arm):
    found = chains.run({"bridging": 4, "positives": arm}, 0, "smoke")
    assert 0 <= found["error"] <= 100
    assert found["squared"] > 0
