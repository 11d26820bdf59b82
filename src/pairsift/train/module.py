"""Algorithm 1 of arXiv 2501.01317 as a Lightning module."""

from __future__ import annotations

import math
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from pairsift.data import ViewPolicy, make_views
from pairsift.pairs import pair_shares
from pairsift.train.config import ConfigError, TrainConfig
from pairsift.train.data import Batch
from pairsift.train.encoders import ImageEncoder, Projector, encode_in_chunks
from pairsift.train.methods import (
    GivenLoss,
    Method,
    MomentumEncoder,
    Objective,
    OneEncoder,
    Outcome,
    Step,
    build_method,
)
from pairsift.train.policy import PairPolicy
from pairsift.train.run import with_current_names

# Measuring pairs needs the whole matrix of pairs, which the loss avoids. The first step of an epoch and every tenth
# step after it are enough.
_WATCH_EVERY = 10


class NonFiniteLossError(RuntimeError):
    """The loss or the weights became nan or infinite. The last good checkpoint is kept."""


class ContrastiveModule(lightning.LightningModule):
    """The training steps of a configuration: two views -> h -> pairs from h -> z -> treated loss.

    Random numbers of every step depend on (seed, step) alone, so a resumed run repeats a step exactly.

    Args:
        config: settings of the run.
        encoder: float images (B, 3, H, W) in [0, 1] -> (B, D).
        n_features: D.
        steps_per_epoch: batches in an epoch.
        views: makes one view of each image.
        policy: selects and treats pairs. None selects by the features of a batch alone.
        objective: replaces the configuration's loss.

    Raises:
        ConfigError: parts of one view, which batch norm cannot compare with others.
    """

    def __init__(
        self, config: TrainConfig, encoder: ImageEncoder, n_features: int, steps_per_epoch: int, views: ViewPolicy,
        policy: PairPolicy | None = None, objective: Objective | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        if config.mini_batch_size == 1 and any(isinstance(each, _BatchNorm) for each in encoder.modules()):
            raise ConfigError(
                "mini_batch_size: the encoder has batch norm, which needs at least 2 views at once, got 1"
            )
        self.config = config
        self.encoder = encoder
        self.projector = Projector(n_features, config.projector_hidden, config.projector_dim)
        self.method: Method = (
            build_method(config, self.encoder, self.projector, n_features)
            if objective is None
            else GivenLoss(objective)
        )
        self.policy = policy
        self.views = views
        self.steps_per_epoch = steps_per_epoch
        self.measured: dict[str, Any] = {}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        epoch, step = divmod(batch.step, self.steps_per_epoch)
        if self.policy is not None and step == 0:
            with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
                self.policy.start_epoch(epoch)
        # Every process draws its own views.
        step_seed = (self.config.seed * 1_000_003 + batch.step + self.global_rank * 2**40) % 2**62
        view0, view1 = make_views(batch.images, self.views, step_seed, batch.others)
        torch.manual_seed(step_seed + 1)  # for encoders with random layers, such as dropout
        progress = batch.step / (self.config.epochs * self.steps_per_epoch)
        self.method.before_step(self.encoder, self.projector, progress)
        x = torch.cat([view0, view1]) if self.method.both_views else view0
        size = self.config.mini_batch_size
        h = self.encoder(x) if size is None or size >= len(x) else encode_in_chunks(self.encoder, x, size)
        z = self.projector(h)
        if not bool(torch.isfinite(h).all()):
            raise self._diverged("features are", batch.step)

        what = self._step(batch, (view0, view1), step % _WATCH_EVERY == 0)
        outcome: Outcome = self.method(z, h, what)
        if not bool(torch.isfinite(outcome.loss)):
            raise self._diverged(f"loss is {float(outcome.loss.detach())},", batch.step)
        self._measure(outcome, torch.cat([what.rows, what.other_rows])[: len(h)])
        if self.policy is not None:
            self.policy.observe(h, batch.rows)
        return outcome.loss

    def _step(self, batch: Batch, views: tuple[Tensor, Tensor], watch: bool) -> Step:
        """The input of the method for a batch."""
        others = batch.rows if batch.other_rows is None else batch.other_rows
        treated = batch.step >= self.config.warmup_epochs * self.steps_per_epoch
        step = Step(views, batch.labels, batch.rows, others, watch, treated)
        if self.policy is None:
            return step
        assert isinstance(self.method, OneEncoder | MomentumEncoder)  # a given objective has no policy
        ready = self.policy.ready
        return step._replace(
            watch=watch and ready, treated=treated and ready, selector=self.policy.selector,
            treatment=self.policy.treatment(self.method.loss.treatment),
        )  # fmt: skip

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read checkpoints of earlier versions."""
        checkpoint["state_dict"] = with_current_names(checkpoint["state_dict"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        config = self.config
        parameters = [p for p in self.parameters() if p.requires_grad]
        # Biases and norm scales are not decayed, because shrinking them towards 0 does not regularise.
        groups = [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
        ]
        optimizer: torch.optim.Optimizer
        if config.optimizer == "sgd":
            optimizer = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
        else:
            optimizer = torch.optim.AdamW(groups, lr=config.lr)
        warmup = config.lr_warmup_epochs * self.steps_per_epoch
        total = config.epochs * self.steps_per_epoch

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, total - warmup)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def check_weights(self) -> None:
        """Refuse to continue from, or to save, weights that are not finite.

        Raises:
            NonFiniteLossError: a weight is nan or infinite.
        """
        if not all(bool(torch.isfinite(p).all()) for p in self.parameters()):
            raise self._diverged("weights are", self.global_step)

    def _measure(self, outcome: Outcome, rows: Tensor) -> None:
        self.measured = {"loss": float(outcome.loss.detach())}
        if outcome.within_class is not None:
            self.measured["within_class"] = outcome.within_class
        if outcome.pairs is None:
            return
        self.measured["flagged"] = int(outcome.pairs.sum()) / outcome.candidates
        if outcome.labels is not None:
            share, base = pair_shares(outcome.pairs, outcome.labels, outcome.key_labels, outcome.candidates)
            self.measured |= {"different": share, "different_base": base}
        if self.policy is not None:
            with torch.autocast(self.device.type, enabled=False):
                estimated = self.policy.estimated(outcome.pairs, rows)
            self.measured |= {} if estimated is None else {"estimated": estimated}

    def _diverged(self, what: str, step: int) -> NonFiniteLossError:
        return NonFiniteLossError(
            f"{what} not finite at step {step} (epoch {step // self.steps_per_epoch}): lower lr={self.config.lr}, "
            "lengthen lr_warmup_epochs, or use precision bf16 or fp32; the last good checkpoint is kept"
        )
