"""The arms: features of a noisy graph under each treatment."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from lab.laboratory.setting import TREATMENTS, LaboratorySetting
from pairsift.pairs import random_pairs, select_pairs
from pairsift.theory import SimilarityGraph, edits, nystroem_features, population
from pairsift.theory.graph import BoolArray, FloatArray

Arm = tuple[str, BoolArray | None, FloatArray]  # name, flagged pairs where there are any, features


def arms(setting: LaboratorySetting, graph: SimilarityGraph, noise: int, chance: int) -> Iterator[Arm]:
    """Yield the name, the selected pairs (or None) and the features (N, k) of every arm of `ARMS`, in another order.

    Args:
        setting: of the run.
        graph: without noise.
        noise, chance: seeds of the noise and of what is random about arms.
    """
    scene, clean = Scene(setting, graph, noise), Scene(setting, graph.without_difficult(), noise)
    labels, difficult, count = graph.labels(), graph.difficult(), setting.n_d * graph.n_classes
    plain = scene.features(scene.matrix)
    yield "with", None, plain
    yield "without", None, clean.features(clean.matrix)
    known = {"difficult": graph.difficult_pairs(), "class": labels[:, None] != labels}
    for treatment in TREATMENTS:
        pairs, features = scene.select(treatment, plain)
        yield treatment, pairs, features
        known["random"] = random_pairs(torch.from_numpy(pairs), torch.Generator().manual_seed(chance)).numpy()
        for name, pairs in known.items():
            yield f"{name} {treatment}", pairs, scene.features(scene.edit(treatment, pairs))
    roots = np.sqrt(graph.degrees())  # of the graph without noise, which the theorems speak of
    yield "oracle margin", None, scene.features(scene.matrix - edits.margin_matrix(graph) * roots[:, None] * roots)
    yield "oracle temperature", None, scene.features(scene.matrix * edits.temperature_matrix(graph))
    hubs, drawn = np.zeros((2, len(graph)), bool)
    hubs[np.argsort(-scene.roots, kind="stable")[:count]] = True
    drawn[np.random.default_rng(chance).permutation(len(graph))[:count]] = True
    for name, removed in (("removal", difficult), ("degree removal", hubs), ("random removal", drawn)):
        touched = (removed[:, None] | removed) & ~np.eye(len(graph), dtype=bool)
        yield name, touched, nystroem_features(scene.similarities, removed, setting.dimension)


class Scene:
    """A noisy graph with its treatments."""

    def __init__(self, setting: LaboratorySetting, graph: SimilarityGraph, noise: int) -> None:
        self.setting = setting
        self.similarities = population.relax(graph.adjacency(), setting.epsilon, noise)
        self.roots = np.sqrt(population.weights(self.similarities))
        self.matrix = population.normalize(self.similarities)

    def features(self, matrix: FloatArray) -> FloatArray:
        """Features (N, k) that factorise an edited matrix; their cosines do not depend on the division by sqrt(w)."""
        values, vectors = population.leading_eigenpairs(matrix, self.setting.dimension)
        features: FloatArray = vectors * np.sqrt(np.maximum(values, 0)) / self.roots[:, None]
        return features

    def edit(self, treatment: str, pairs: BoolArray) -> FloatArray:
        """The matrix with flagged pairs treated, half of the edit for each direction in which a pair is flagged.

        Rows select on their own, but an edited graph must stay symmetric. For margins the mean of both directions is
        what the loss itself factorises (Eq. 31 is quadratic in them); for factors it is a choice.
        """
        share = (pairs + pairs.T.astype(np.float64)) / 2
        if treatment == "margin":
            edited: FloatArray = self.matrix - self.setting.margin * self.matrix.mean() * share
        else:
            edited = self.matrix * (1 - (1 - self.setting.temperature_scale * (treatment != "drop")) * share)
        return edited

    def select(self, treatment: str, features: FloatArray) -> tuple[BoolArray, FloatArray]:
        """Pairs flagged in the last round and the features after it, starting from those of the untreated graph."""
        for _ in range(self.setting.rounds):
            pairs: BoolArray = select_pairs(torch.from_numpy(features), self.setting.ranks).numpy()
            features = self.features(self.edit(treatment, pairs))
        return pairs, features
