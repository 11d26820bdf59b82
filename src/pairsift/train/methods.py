"""Training methods: how the views of a batch become a loss, with one encoder (SimCLR, spectral) or two (MoCo)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from pairsift.losses import MixedContrastiveLoss, MoCoLoss, NTXentLoss, SpectralLoss
from pairsift.losses.engine import Processes
from pairsift.losses.treated import Selection
from pairsift.pairs import Selector
from pairsift.train.collapse import within_class_share
from pairsift.train.config import TrainConfig
from pairsift.treatments import Treatment

Objective = Callable[[Tensor, Tensor], Tensor]


class Step(NamedTuple):
    """What a step encodes, and what its loss is to do with pairs.

    Attributes:
        views: N images (N, ...) in two views each.
        labels: (N,) classes, -1 where unknown; None without labels.
        rows: (N,) positions in the training set of what first views are of.
        other_rows: (N,) the same of second views.
        watch: whether the outcome tells which pairs are selected.
        treated: whether the loss treats them.
        selector, treatment: of the loss; None takes its own.
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
        """Arguments of a loss."""
        return {"treated": self.treated, "selector": self.selector, "treatment": self.treatment}


class Outcome(NamedTuple):
    """What a step gave: the loss, and the difficult pairs where they were looked at.

    Attributes:
        loss: scalar.
        pairs: (B, K) bool, None if no pairs were selected.
        candidates: pairs that could have been flagged.
        labels: (B,) classes of the rows, None without labels.
        key_labels: (K,) classes of the keys; None without labels.
        within_class: share of the variance of projections that lies within classes; None unless labels are learned.
    """

    loss: Tensor
    pairs: Tensor | None
    candidates: int
    labels: Tensor | None
    key_labels: Tensor | None = None
    within_class: float | None = None


class Method(nn.Module):
    """What a method adds to an encoder and a projector: a loss, and how it is fed.

    Attributes:
        both_views: whether the encoder sees the views of both kinds, or the first ones only.
    """

    both_views: bool = True

    def before_step(self, encoder: nn.Module, projector: nn.Module, progress: float) -> None:
        """What has to happen before a step encodes anything: nothing, unless a method says otherwise.

        Args:
            encoder, projector: as they are trained.
            progress: share of the run that is done, in [0, 1].
        """

    def forward(self, z: Tensor, h: Tensor, step: Step) -> Outcome:
        """Loss of what was encoded.

        Args:
            z, h: (B, d) projections and (B, D) features of the views of both kinds, first views first, or of the first
                views only (`both_views`).
            step: what was encoded, and what the loss is to do.
        """
        raise NotImplementedError


class OneEncoder(Method):
    """Both views of every image go through one encoder: SimCLR (NT-Xent), the spectral loss, and the mixed one, which
    learns from labels too."""

    loss: NTXentLoss | SpectralLoss | MixedContrastiveLoss

    def __init__(self, loss: NTXentLoss | SpectralLoss | MixedContrastiveLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, z: Tensor, h: Tensor, step: Step) -> Outcome:
        """Loss of projections and features (2N, .), first views first; see `Method`."""
        (z0, z1), (h0, h1), labels = z.chunk(2), h.chunk(2), step.labels
        known: dict[str, Any] = {"rows": step.rows, "key_rows": step.other_rows}
        learned: dict[str, Any] = {}
        within = None
        if isinstance(self.loss, MixedContrastiveLoss):
            learned = {"labels": labels}
            within = None if labels is None else within_class_share(z, labels.repeat(2))
        if not step.watch:
            loss = self.loss(z0, z1, h0=h0, h1=h1, **known, **step.choice, **learned)
            return Outcome(loss, None, 0, None, within_class=within)
        pairs = self.loss.select(h0, h1, selector=step.selector, **known)
        treatment = self.loss.treatment if step.treatment is None else step.treatment
        if (
            treatment is not None and treatment.same_class_weight > 0
        ):  # a matrix of flagged pairs holds no weights of others
            loss = self.loss(z0, z1, h0=h0, h1=h1, **known, **step.choice, **learned)
        else:
            loss = self.loss(z0, z1, pairs=pairs, **step.choice, **learned)
        if isinstance(self.loss, SpectralLoss):
            return Outcome(loss, pairs, pairs.numel(), labels, _gathered(labels))
        if labels is not None:
            labels = torch.cat([labels, labels])
        return Outcome(loss, pairs, pairs.numel() - len(pairs), labels, _gathered(labels), within)


class GivenLoss(Method):
    """Both views go through one encoder, and an objective that was given compares their projections.

    Args:
        objective: (N, d) projections of the first views, and of the second ones -> a scalar.
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective

    def forward(self, z: Tensor, h: Tensor, step: Step) -> Outcome:
        """Loss of projections (2N, d), first views first; it tells of no pairs. See `Method`."""
        return Outcome(self.objective(*z.chunk(2)), None, 0, None)


class MomentumEncoder(Method):
    """MoCo (arXiv 1911.05722): keys come from an encoder that follows the trained one slowly, and are queued.

    Keys are encoded in random groups, each with batch statistics of its own. On one device this does what shuffling
    batches between devices does in the paper: statistics shared by a query and its key would give the positive away.

    The key encoder follows by `key = m key + (1 - m) query` before every step, and starts as a copy.

    Args:
        config: how keys are made and followed.
        loss: the queue and the objective.
        encoder, projector: what is trained.
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
        # Classes of the queued keys, -1 where unknown: only to tell how often flagged pairs differ in class.
        self.register_buffer("labels", torch.full((len(loss.queue_z),), -1, dtype=torch.int64))

    def before_step(self, encoder: nn.Module, projector: nn.Module, progress: float) -> None:
        """Let the key encoder follow what is trained."""
        self.follow(encoder, projector, progress)

    def forward(self, z: Tensor, h: Tensor, step: Step) -> Outcome:
        """Loss of the queries' projections and features, after which their keys join the queue; see `Method`."""
        views, labels, rows, key_rows = step.views, step.labels, step.rows, step.other_rows
        other = torch.cat([views[1], views[0]]) if self.both_views else views[1]
        k, h_k = self._keys(other)
        if self.both_views:
            labels = None if labels is None else torch.cat([labels, labels])
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
        """Move the key encoder towards the trained one; `progress` in [0, 1] is the share of the run that is done."""
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
    """Labels of all processes, in the order of the processes."""
    if labels is None:
        return None
    return Processes(True, labels=labels).gather("labels", labels)


def build_method(config: TrainConfig, encoder: nn.Module, projector: nn.Module, n_features: int) -> Method:
    """The configuration's method for an encoder with features of `n_features` dimensions.

    Args:
        config: of the run.
        encoder, projector: what is trained.
        n_features: width of what pairs are selected on.
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
