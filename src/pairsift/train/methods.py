"""Training methods: how the views of a batch become a loss, with one encoder (SimCLR, spectral) or two (MoCo)."""

from __future__ import annotations

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pairsift.losses import MoCoLoss, NTXentLoss, SpectralLoss
from pairsift.losses.engine import Processes
from pairsift.train.config import TrainConfig


class Outcome(NamedTuple):
    """What a step gave: the loss, and the difficult pairs where they were looked at.

    Attributes:
        loss: scalar.
        pairs: (B, K) bool, None if no pairs were selected.
        candidates: pairs that could have been flagged.
        labels: (B,) classes of the rows, None without labels.
        key_labels: (K,) classes of the keys; None without labels.
    """

    loss: Tensor
    pairs: Tensor | None
    candidates: int
    labels: Tensor | None
    key_labels: Tensor | None = None


class OneEncoder(nn.Module):
    """Both views of every image go through one encoder: SimCLR (NT-Xent) and the spectral loss."""

    both_views = True

    def __init__(self, loss: NTXentLoss | SpectralLoss) -> None:
        super().__init__()
        self.loss = loss

    def forward(
        self, z: Tensor, h: Tensor, views: tuple[Tensor, Tensor], labels: Tensor | None, watch: bool
    ) -> Outcome:
        """Loss of projections and features (2N, .), first views first; pairs are told where watched."""
        z0, z1 = z.chunk(2)
        if not watch:
            return Outcome(self.loss(z0, z1, *h.chunk(2)), None, 0, None)
        pairs = self.loss.select(*h.chunk(2))
        loss = self.loss(z0, z1, pairs=pairs)
        if isinstance(self.loss, SpectralLoss):
            return Outcome(loss, pairs, pairs.numel(), labels, _of_all(labels))
        if labels is not None:
            labels = torch.cat([labels, labels])
        return Outcome(loss, pairs, pairs.numel() - len(pairs), labels, _of_all(labels))


class MomentumEncoder(nn.Module):
    """MoCo (arXiv 1911.05722): keys come from an encoder that follows the trained one slowly, and are queued.

    Keys are encoded in random groups, each with batch statistics of its own. On one device this does what shuffling
    batches between devices does in the paper: statistics shared by a query and its key would give the positive away.

    The key encoder follows by `key = m key + (1 - m) query` before every step, and starts as a copy.

    Args:
        config: how keys are made and followed.
        loss: the queue and the objective.
        encoder, projector: what is trained.
    """

    labels: Tensor

    def __init__(self, config: TrainConfig, loss: MoCoLoss, encoder: nn.Module, projector: nn.Module) -> None:
        super().__init__()
        self.loss = loss
        self.both_views = config.symmetric
        self.config = config
        self.key_encoder = copy.deepcopy(encoder).requires_grad_(False)
        self.key_projector = copy.deepcopy(projector).requires_grad_(False)
        # Classes of the queued keys, -1 where unknown: only to tell how often flagged pairs differ in class.
        self.register_buffer("labels", torch.full((len(loss.queue_z),), -1))

    def forward(
        self, z: Tensor, h: Tensor, views: tuple[Tensor, Tensor], labels: Tensor | None, watch: bool
    ) -> Outcome:
        """Loss of the queries' projections and features; their keys join the queue."""
        other = torch.cat([views[1], views[0]]) if self.both_views else views[1]
        k, h_k = self._keys(other)
        if labels is not None and self.both_views:
            labels = torch.cat([labels, labels])
        filled = self.loss.n_queued
        pairs = self.loss.select(h) if watch and filled else None
        loss = self.loss(z, k, h, h_k, pairs=pairs, enqueue=False)
        key_labels = self.labels[:filled].clone()
        slots = self.loss.enqueue(k, h_k)
        all_labels = _of_all(labels)
        if all_labels is not None:
            self.labels[slots] = all_labels
        return Outcome(loss, pairs, len(z) * filled, labels, key_labels)

    @torch.no_grad()
    def follow(self, encoder: nn.Module, projector: nn.Module, progress: float) -> None:
        """Move the key encoder towards the trained one; `progress` in [0, 1] is the share of the run that is done."""
        away = 1 - self.config.key_momentum
        if self.config.key_momentum_schedule == "cosine":
            away *= (1 + math.cos(math.pi * progress)) / 2
        for key, query in ((self.key_encoder, encoder), (self.key_projector, projector)):
            for old, new in zip(key.parameters(), query.parameters(), strict=True):
                old.lerp_(new.to(old.dtype), away)

    @torch.no_grad()
    def _keys(self, views: Tensor) -> tuple[Tensor, Tensor]:
        order = torch.randperm(len(views), device=views.device)
        h = torch.cat([self.key_encoder(group) for group in views[order].chunk(self.config.key_groups)])
        z = torch.cat([self.key_projector(group) for group in h.chunk(self.config.key_groups)])
        back = order.argsort()
        return z[back], h[back]


def _of_all(labels: Tensor | None) -> Tensor | None:
    """Labels of all processes, in the order of the processes."""
    if labels is None:
        return None
    return Processes(True, labels=labels).gather("labels", labels)


def build_method(
    config: TrainConfig, encoder: nn.Module, projector: nn.Module, n_features: int
) -> OneEncoder | MomentumEncoder:
    """The configuration's method for an encoder with features of `n_features` dimensions."""
    band, treatment = config.band(), config.pair_treatment()
    select, seed = config.select, config.seed
    if config.method == "spectral":
        return OneEncoder(SpectralLoss(config.mu, band, treatment, select=select, seed=seed))
    if config.method == "simclr":
        return OneEncoder(NTXentLoss(config.temperature, band, treatment, select=select, seed=seed))
    sizes = config.queue_size, config.projector_dim, n_features
    loss = MoCoLoss(*sizes, config.temperature, band, treatment, select=select, seed=seed)
    return MomentumEncoder(config, loss, encoder, projector)
