"""Encoders that learn from neighbours in time on simulated chains, with the exact error and the bound of the theory.

Four classes of 16 states. A step draws a state of the class, or with probability 0.7 an easy state stays and a bridging
state goes to another class (`BridgedChain`). States are seen as noisy vectors. 100 sequences of 100 frames train a
small MLP to 4 features by the spectral loss. Pairs are one step apart (temporal), two noisy versions of a frame
(augmentation), or noisy versions of a temporal pair (both). A least-squares probe predicts the class of 4,000 new
frames. Treatments drop all frames of bridging states: those of the family (known), as many clusters of frames that lead
to other groups of clusters most often (estimated, without labels), or as many states at random.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from torch import nn

from lab.chain import BridgedChain, ChainGraph
from lab.study import Arm, Measures, Scale, Study
from pairsift.losses import SpectralLoss
from pairsift.temporal import temporal_pairs

CLASSES, STATES, EPS, K = 4, 16, 0.7, 4
BRIDGING = (0, 4, 8, 12)
SEQUENCES, LENGTH, TESTED = 100, 100, 4000
DIMENSIONS, NOISE, AUGMENTATION = 16, 0.2, 0.4
STEPS, BATCH, MU = 1000, 512, 100.0
ARMS = ("temporal", "augmentation", "both", "drop known", "drop estimated", "drop random")

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]


class World:
    """Sequences of one chain as noisy vectors: x (N, 16), states (N,) and sequences (N,)."""

    def __init__(self, bridging: int, seed: int) -> None:
        self.family = BridgedChain(CLASSES, STATES, bridging, EPS)
        self.rng = np.random.default_rng(seed)
        self.centres = self.rng.standard_normal((len(self.family), DIMENSIONS)).astype(np.float32)
        cumulative = self.family.transition().cumsum(axis=1)
        walking = np.empty((LENGTH, SEQUENCES), dtype=np.int64)
        at = self.rng.integers(0, len(self.family), SEQUENCES)
        for step in range(LENGTH):
            walking[step] = at
            drawn = (self.rng.random((SEQUENCES, 1)) > cumulative[at]).sum(axis=1)
            at = np.minimum(drawn, len(self.family) - 1)
        self.states, self.sequences = walking.T.ravel(), np.repeat(np.arange(SEQUENCES), LENGTH)
        self.x = self.seen(self.states)

    def seen(self, states: IntArray) -> FloatArray:
        """Noisy vectors of states, (N, 16), with new noise each time."""
        noise = self.rng.standard_normal((len(states), DIMENSIONS)).astype(np.float32)
        return self.centres[states] + NOISE * noise

    def dropped(self, arm: str) -> NDArray[np.bool_]:
        """A mask of the frames that an arm leaves out, (N,)."""
        hard = self.family.difficult()
        if arm == "drop random":
            hard = self.rng.permutation(hard)
        if arm in ("drop known", "drop random"):
            known: NDArray[np.bool_] = hard[self.states]
            return known
        clusters = KMeans(len(self.family), n_init=1, random_state=0).fit_predict(self.x)
        chain = ChainGraph.from_sequences(np.split(clusters, SEQUENCES), 1)
        groups = KMeans(CLASSES, n_init=10, random_state=0).fit_predict(chain.optimal_features(CLASSES))
        worst = np.argsort(-chain.bridging(groups))[: int(hard.sum())]
        out: NDArray[np.bool_] = np.isin(clusters, worst)
        return out


def arms(scale: Scale) -> list[Arm]:
    """Positives and treatments at every number of bridging states."""
    return [
        Arm(
            arm, {"bridging": bridging, "positives": arm}, f"{bridging} bridging",
            baseline="" if arm == "temporal" else "temporal",
        )
        for bridging in (BRIDGING[1:2] if scale == "smoke" else BRIDGING)
        for arm in ARMS
        if bridging or not arm.startswith("drop")
    ]  # fmt: skip


def run(setting: dict[str, Any], seed: int, scale: Scale) -> Measures:
    """Error of a probe on new frames in percent, and 100 times its squared error."""
    bridging, arm = setting["bridging"], setting["positives"]
    world = World(bridging, seed)
    keep = ~world.dropped(arm) if arm.startswith("drop") else np.ones(len(world.x), bool)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*give no pair")
        pairs = temporal_pairs(world.sequences, (1,), keep=keep)
    positives = pairs.anchors if arm == "augmentation" else pairs.positives
    noisy = arm in ("augmentation", "both")
    encoder = _trained(
        torch.from_numpy(world.x), pairs.anchors, positives, noisy, seed, 2 if scale == "smoke" else STEPS
    )
    states = world.rng.integers(0, len(world.family), TESTED)
    with torch.no_grad():
        train, test = (encoder(torch.from_numpy(x)).double().numpy() for x in (world.x, world.seen(states)))
    labels = world.family.labels()
    weights = np.linalg.lstsq(train, np.eye(CLASSES)[labels[world.states]], rcond=None)[0]
    error, squared = probed(test @ weights, labels[states], np.full(TESTED, 1 / TESTED))
    found: dict[str, float | None] = {"error": round(100 * error, 2), "squared": round(100 * squared, 2)}
    return found | exact(bridging) if arm == "temporal" else found


def probed(scores: FloatArray, labels: IntArray, weights: NDArray[np.float64]) -> tuple[float, float]:
    """Weighted error of (N, C) scores as a classifier, and their squared distance to the classes."""
    squared = ((np.eye(CLASSES)[labels] - scores) ** 2).sum(axis=1)
    return float(weights @ (scores.argmax(axis=1) != labels)), float(weights @ squared)


def exact(bridging: int) -> dict[str, float | None]:
    """Exact values: two eigenvalues, error of the best features, and 100 times squared error and half of the bound."""
    family = BridgedChain(CLASSES, STATES, bridging, EPS)
    chain, labels = ChainGraph(family.transition()), family.labels()
    features, onehot = chain.optimal_features(K), np.eye(CLASSES)[labels]
    root = np.sqrt(chain.stationary)[:, None]
    solution = np.linalg.lstsq(root * features, root * onehot, rcond=1e-10)[0]
    bound = float(chain.bound(labels, K))
    return {
        "second": round(float(family.spectrum()[1]), 4), "next": round(float(family.spectrum()[K]), 4),
        "exact_error": round(100 * chain.probe_error(labels, K), 2),
        "exact_squared": round(100 * probed(features @ solution, labels, chain.stationary)[1], 2),
        "half_bound": round(50 * bound, 1) if np.isfinite(bound) else None,
    }  # fmt: skip


def _trained(x: torch.Tensor, anchors: IntArray, positives: IntArray, noisy: bool, seed: int, steps: int) -> nn.Module:
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for width in (DIMENSIONS, 128):
        layers += [nn.Linear(width, 128), nn.ReLU()]
    encoder = nn.Sequential(*layers, nn.Linear(128, K))
    loss, optimizer = SpectralLoss(MU), torch.optim.Adam(encoder.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        batch = rng.integers(0, len(anchors), BATCH)
        views = torch.cat([x[anchors[batch]], x[positives[batch]]])
        if noisy:
            views = views + AUGMENTATION * torch.randn_like(views)
        value = loss(*encoder(views).chunk(2))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
    return encoder.eval()


STUDY = Study(
    name="chains",
    question="Do positives from time beat augmentation on simulated chains, and is the exact value right?",
    arms=arms,
    run=run,
    measures={"error": "error %", "squared": "squared error x 100"},
    lower_is_better=True,
    seconds=5.0,
    seeds=10,
    table="arXiv 2410.23857, on simulations",
)
