"""Training methods, which turn the views of a batch into a loss: with one encoder (SimCLR, spectral), or two (MoCo)."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pairsift.losses import MixedContrastiveLoss, MoCoLoss, NTXentLoss, SpectralLoss
from pairsift.losses.engine import Processes
from pairsift.losses.treated import Selection
from pairsift.pairs import Selector
from pairsift.train.config import TrainConfig
from pairsift.treatments import Treatment

Objective = Callable[[Tensor, Tensor], Tensor]


class Step(NamedTuple):
    """The input of a method in one step.

    Attributes:
        views: two views of N images, (N, ...) each.
        labels: (N,) classes, -1 where unknown. None without labels.
        rows: (N,) positions in the training set of the images of the first views.
        other_rows: (N,) positions of the images of the second views.
        watch: whether the outcome holds the selected pairs.
        treated: whether the loss treats them.
        selector, treatment: arguments of the loss. None takes the loss's own.
    """

    views: tuple[Tensor, Tensor]
    labels: Tensor | None
    rows: Tensor
    other_rows: Tensor
    watch: bool
    treated: bool = True
    selector: Selector | None = None
    treatment: Treatment | None = None

    @property
    def choice(self) -> dict[str, Any]:
        """The keyword arguments of a loss."""
        return {"treated": self.treated, "selector": self.selector, "treatment": self.treatment}


class Outcome(NamedTuple):
    """The result of a method in one step.

    Attributes:
        loss: scalar.
        pairs: (B, K) bool, the selected pairs. None in steps that do not watch them.
        candidates: number of pairs that could have been selected.
        labels: (B,) classes of the rows. None without labels.
        key_labels: (K,) classes of the keys. None without labels.
        within_class: share of the variance of projections within classes. None unless the method learns from labels.
    """

    loss: Tensor
    pairs: Tensor | None
    candidates: int
    labels: Tensor | None
    key_labels: Tensor | None = None
    within_class: float | None = None


class Method(nn.Module, ABC):
    """The loss of a training method, and the parts that it adds to an encoder and a projector.

    Attributes:
        both_views: whether the encoder encodes both views of every image, or the first ones only.
    """

    both_views: bool = True

    def before_step(self, encoder: nn.Module, projector: nn.Module, progress: float) -> None:
        """Prepare a step, before anything is encoded. The default does nothing.

        Args:
            encoder, projector: the trained modules.
            progress: share of the run that is finished, in [0, 1].
        """

    @abstractmethod
    def forward(self, z: Tensor, h: Tensor, step: Step) -> Outcome:
        """Compute the loss.

        Args:
            z, h: projections (B, d) and features (B, D) of both views of every image, first views first, or of the
                first views only (`both_views`).
            step: the views and the arguments of the loss.
        """


class OneEncoder(Method):
    """One encoder for both views of every image: SimCLR (NT-Xent), the spectral loss, and the mixed loss."""

    loss: NTXentLoss | SpectralLoss | MixedContrastiveLoss

    def __init__(self, loss: NTXentLoss | SpectralLoss | MixedContrastiveLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, z: Tensor, h: Tensor, step: Step) -> Outcome:
        """The loss of projections and features (2N, .), first views first; see `Method`."""
        (z0, z1), (h0, h1), labels = z.chunk(2), h.chunk(2), step.labels
        known: dict[str, Any] = {"rows": step.rows, "key_rows": step.other_rows}
        learned: dict[str, Any] = {}
        within = None
        if isinstance(self.loss, MixedContrastiveLoss):
            learned = {"labels": labels}
            within = None if labels is None else within_class_share(z, labels.repeat(2))
        pairs = self.loss.select(h0, h1, selector=step.selector, **known) if step.watch else None
        treatment = self.loss.treatment if step.treatment is None else step.treatment
        # A matrix of selected pairs has no weights of same-class pairs, so the loss then selects by itself.
        if pairs is None or (treatment is not None and treatment.same_class_weight > 0):
            loss = self.loss(z0, z1, h0=h0, h1=h1, **known, **step.choice, **learned)
        else:
            loss = self.loss(z0, z1, pairs=pairs, **step.choice, **learned)
        if pairs is None:
            return Outcome(loss, None, 0, None, within_class=within)
        if isinstance(self.loss, SpectralLoss):
            return Outcome(loss, pairs, pairs.numel(), labels, _gathered(labels))
        if labels is not None:
            labels = torch.cat([labels, labels])
        return Outcome(loss, pairs, pairs.numel() - len(pairs), labels, _gathered(labels), within)


class GivenLoss(Method):
    """One encoder for both views of every image, with an objective that the user gave.

    Args:
        objective: projections (N, d) of the first views, and of the second views -> scalar.
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, z: Tensor, h: Tensor, step: Step) -> Outcome:
        """The loss of projections (2N, d), first views first, without pairs; see `Method`."""
        return Outcome(self.objective(*z.chunk(2)), None, 0, None)


class MomentumEncoder(Method):
    """MoCo (arXiv 1911.05722): a second encoder, which follows the trained one slowly, gives keys for a queue.

    Keys are encoded in random groups with separate batch statistics. On one device this replaces the paper's shuffling
    of batches between devices. Statistics that a query and its key share would reveal the positive.

    The key encoder starts as a copy, and follows by `key = m key + (1 - m) query` before every step.

    Args:
        config: gives the groups of keys and the momentum.
        loss: the queue and the objective.
        encoder, projector: the trained modules.
    """

    loss: MoCoLoss
    labels: Tensor

    def __init__(self, config: TrainConfig, loss: MoCoLoss, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self.both_views = config.symmetric
        self.config = config
        self.key_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.key_projector = copy.deepcopy(projector).requires_grad_(False)
        # Classes of the queued keys, -1 where unknown. They serve measurements only.
        self.register_buffer("labels", torch.full((len(loss.queue_z),), -1, dtype=torch.int64))

    def before_step(self, encoder: nn.Module, projector: nn.Module, progress: float) -> None:
        """Let the key encoder follow the trained encoder."""
        self.follow(encoder, projector, progress)

    def forward(self, z: Tensor, h: Tensor, step: Step) -> Outcome:
        """The loss of the queries' projections and features. Their keys then join the queue; see `Method`."""
        views, labels = step.views, step.labels
        rows: Tensor | None = None
        key_rows: Tensor | None = None
        if step.selector is not None:  # the band of the loss needs no ids, which queues of version 0.2 lack
            rows, key_rows = step.rows, step.other_rows
        other = torch.cat([views[1], views[0]]) if self.both_views else views[1]
        k, h_k = self._keys(other)
        if self.both_views:
            labels = None if labels is None else torch.cat([labels, labels])
            if rows is not None and key_rows is not None:
                rows, key_rows = torch.cat([rows, key_rows]), torch.cat([key_rows, rows])
        filled = self.loss.n_queued
        pairs = self.loss.select(h, rows=rows, selector=step.selector) if step.watch and filled else None
        loss = self.loss(z, k, h, h_k, rows=rows, key_rows=key_rows, pairs=pairs, enqueue=False, **step.choice)
        key_labels = self.labels[:filled].clone()
        slots = self.loss.enqueue(k, h_k, key_rows)
        all_labels = _gathered(labels)
        if all_labels is not None:
            self.labels[slots] = all_labels
        return Outcome(loss, pairs, len(z) * filled, labels, key_labels)

    @torch.no_grad()
    def follow(self, encoder: nn.Module, projector: nn.Module, progress: float) -> None:
        """Move the key encoder towards the trained one, at a `progress` in [0, 1] of the run."""
        weight = 1 - self.config.key_momentum  # of the trained encoder
        if self.config.key_momentum_schedule == "cosine":
            weight *= (1 + math.cos(math.pi * progress)) / 2
        for key, query in ((self.key_encoder, encoder), (self.key_projector, projector)):
            for old, new in zip(key.parameters(), query.parameters(), strict=True):
                old.lerp_(new.to(old.dtype), weight)

    @torch.no_grad()
    def _keys(self, views: Tensor) -> tuple[Tensor, Tensor]:
        order = torch.randperm(len(views), device=views.device)
        h = torch.cat([self.key_encoder(group) for group in views[order].tensor_split(self.config.bn_splits)])
        z = torch.cat([self.key_projector(group) for group in h.tensor_split(self.config.bn_splits)])
        back = order.argsort()
        return z[back], h[back]


def _gathered(labels: Tensor | None) -> Tensor | None:
    """The labels of all processes, in their order."""
    if labels is None:
        return None
    return Processes(True, labels=labels).gather("labels", labels)


def build_method(config: TrainConfig, encoder: nn.Module, projector: nn.Module, n_features: int) -> Method:
    """Build the method of a configuration.

    Args:
        config: settings of the run.
        encoder, projector: the modules to train.
        n_features: dimensions of the features that pairs are selected by.
    """
    band, treatment = config.band(), config.pair_treatment()
    select: Selection = "random" if config.select == "random" else "band"
    seed = config.seed
    if config.method == "spectral":
        return OneEncoder(SpectralLoss(config.mu, band, treatment, select=select, seed=seed))
    if config.method == "simclr":
        return OneEncoder(NTXentLoss(config.temperature, band, treatment, select=select, seed=seed))
    if config.method == "mixed":
        mixed = MixedContrastiveLoss(config.alpha, config.temperature, band, treatment, select=select, seed=seed)
        return OneEncoder(mixed)
    sizes = config.queue_size, config.projector_dim, n_features
    loss = MoCoLoss(*sizes, config.temperature, band, treatment, select=select, seed=seed)
    return MomentumEncoder(config, loss, encoder, projector)


@torch.no_grad()
def within_class_share(z: Tensor, labels: Tensor) -> float:
    """The share of the variance of unit rows that lies within classes. It is 0 where every class is a point.

    Args:
        z: (B, d) projections, of any length.
        labels: (B,) classes. Rows with -1 are left out.

    Returns:
        A number in [0, 1], or nan where fewer than two rows have a label or all rows are equal.
    """
    known = labels >= 0
    u, (groups, place) = F.normalize(z[known].float(), dim=1), torch.unique(labels[known], return_inverse=True)
    if len(u) < 2:
        return float("nan")
    sizes = torch.bincount(place, minlength=len(groups))[:, None]
    means = u.new_zeros(len(groups), u.shape[1]).index_add(0, place, u) / sizes
    within, total = (u - means[place]).square().sum(), (u - u.mean(dim=0)).square().sum()
    return float(within / total)
