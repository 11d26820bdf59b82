"""`pairsift.pretrain`: from a configuration to a trained encoder in a run directory."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from pairsift.data import DataError, ImageSet, ViewPolicy, load_images, mix_set, without_rows
from pairsift.train.batches import StepSampler, batches
from pairsift.train.callbacks import Checkpoints, Metrics, ProgressLine
from pairsift.train.config import ConfigError, TrainConfig
from pairsift.train.devices import accelerator, first_process
from pairsift.train.embed import embed, write_features
from pairsift.train.encoders import ImageEncoder, build_encoder, n_features
from pairsift.train.module import ContrastiveModule
from pairsift.train.run import Run, RunError

_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


@dataclass(frozen=True)
class TrainResult:
    """A finished run.

    Attributes:
        run: its directory.
        encoder: the trained encoder, frozen, on the CPU.
        images: the training images, mixed where the configuration says so.
        metrics: rows of ``metrics.csv``, one an epoch.
    """

    run: Run
    encoder: ImageEncoder
    images: ImageSet
    metrics: list[dict[str, Any]]


def pretrain(
    config: TrainConfig,
    *,
    images: ImageSet | None = None,
    encoder: nn.Module | None = None,
    views: ViewPolicy | None = None,
    say: Callable[[str], None] | None = None,
) -> TrainResult:
    """Train an encoder with a (treated) contrastive loss: Algorithm 1.

    The first Ctrl-C stops after the current step and leaves a checkpoint; with `resume` the run continues from there
    to the result it would have had (bitwise on the same machine in CPU fp32).

    With several devices or nodes every process computes its share of each batch against all of it. Lightning starts the
    script that called this function once more for every further device; under torchrun or SLURM the processes are
    there already. The first one writes the run; the others return the same encoder.

    Args:
        config: all settings.
        images: the training images; None loads `config.data`.
        encoder: maps float images (B, 3, H, W) to features (B, D); None builds `config.encoder`.
        views: makes one random view of float images (B, 3, H, W) in [0, 1], a kornia pipeline say; None takes the
            SimCLR policy with the configuration's settings.
        say: told in words what is done.

    Returns:
        The finished run.

    Raises:
        DataError, ConfigError, RunError: (ValueErrors) before anything is trained.
        NonFiniteLossError: the loss diverged; the last good checkpoint is kept.
        Interrupted: stopped by Ctrl-C; resume continues.
    """
    say = say or _silent
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    kind = accelerator(config)
    first = first_process()
    if first:
        Run.check(config)
    else:
        say = _silent
    torch.manual_seed(config.seed)
    backbone = build_encoder(config.encoder) if encoder is None else encoder
    images = training_images(config, images)
    say(images.where)
    if images.corrupt:
        say(f"left out {len(images.corrupt)} images that cannot be decoded, the first at row {images.corrupt[0]}")
    policy = config.views() if views is None else views
    model = ImageEncoder(backbone, *_channel_statistics(images))
    dimension = n_features(model, images.images.shape[1:])

    run = Run.start(config) if first else Run(config.run_dir)
    sampler = StepSampler(len(images), config.batch_size, config.seed)
    module = ContrastiveModule(config, model, dimension, len(sampler), policy)
    checkpoint = run.last_checkpoint if config.resume and run.last_checkpoint.exists() else None
    if checkpoint is not None:
        sampler.next_step = int(_peek(checkpoint)["global_step"])
        say(f"resuming after step {sampler.next_step:,} of {len(sampler) * config.epochs:,}")
    checkpoints, metrics = Checkpoints(run, config.checkpoint_every), Metrics(run, config.batch_size)
    # The progress line reads the epoch's metrics, so it comes after them; checkpoints come last, to hold both.
    callbacks: list[lightning.Callback] = [metrics]
    if config.progress and first:
        callbacks.append(ProgressLine(metrics, len(sampler), config.epochs, config.batch_size))
    callbacks += [_Rewind(sampler), checkpoints]
    if images.mixed is not None and first:
        np.savetxt(run.path / "mixed.csv", images.rows[images.mixed], fmt="%d", header="row", comments="")

    with _quiet_lightning(), checkpoints.catching_interrupts(), _telling_of_lost_processes(config):
        trainer = lightning.Trainer(
            accelerator=kind, devices=config.devices, num_nodes=config.nodes, use_distributed_sampler=False,
            strategy="ddp" if config.processes > 1 else "auto", sync_batchnorm=kind == "gpu" and config.processes > 1,
            max_epochs=config.epochs, precision=_PRECISION[config.precision],  # type: ignore[arg-type]
            logger=TensorBoardLogger(str(run.path), name="", version="tensorboard"), callbacks=callbacks,
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            log_every_n_steps=1, default_root_dir=str(run.path),
        )  # fmt: skip
        sampler.rank, sampler.processes = trainer.global_rank, trainer.world_size
        if sampler.next_step < len(sampler) * config.epochs:
            trainer.fit(module, batches(images, sampler), ckpt_path=checkpoint, weights_only=False)
        elif checkpoint is not None:
            module.load_state_dict(_peek(checkpoint)["state_dict"])
            metrics.load_state_dict(_peek(checkpoint)["callbacks"]["Metrics"])
    if config.processes > 1 and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # what comes after is no longer done together
    if first:
        name = config.encoder if encoder is None else ""
        run.save_encoder(model, {"encoder": name, "n_features": str(dimension), "pairsift": "1"})
        if config.save_features:
            write_features(run.features_file, embed(model, images), images)
    model.cpu().eval().requires_grad_(False)
    return TrainResult(run, model, images, metrics.rows)


def training_images(config: TrainConfig, images: ImageSet | None = None) -> ImageSet:
    """The images a configuration trains on, mixed and left out as it says, refused where they cannot be trained on.

    Raises:
        DataError: see `load_images` and `without_rows`; labels of one class; fewer images than a batch.
    """
    if images is None:
        if not config.data:
            raise ConfigError(
                "data: nothing to train on: name a file, a folder, 'digits', 'hf:NAME' or 'torchvision:NAME'"
            )
        images = load_images(
            config.data, label_column=config.label_column, per_class=config.per_class, image_size=config.image_size,
            skip_corrupt=config.skip_corrupt, memory=config.memory,
        )  # fmt: skip
    if images.n_classes == 1:
        raise DataError(
            f"all {len(images):,} images have one label: difficult pairs need a second class; "
            "use `label_column='none'` if the labels mean nothing"
        )
    if config.mix:
        images = mix_set(images, config.mix, config.seed, config.mix_kind)
    if config.drop is not None:
        images = without_rows(images, config.drop)
    if config.batch_size > len(images):
        raise DataError(f"batch_size={config.batch_size} is larger than the data ({len(images):,} images): lower it")
    return images


def _silent(line: str) -> None:
    pass


@contextmanager
def _telling_of_lost_processes(config: TrainConfig) -> Iterator[None]:
    """Says in words what a broken connection between processes means."""
    try:
        yield
    except RuntimeError as error:
        if config.processes == 1 or not any(name in str(error) for name in ("gloo", "NCCL", "TCPStore")):
            raise
        raise RunError(
            f"one of {config.processes} processes ended or lost its connection, so all stopped: look for its message; "
            f"`resume=True` continues {config.run_dir} from its last checkpoint ({error.__cause__ or error})"
        ) from error


class _Rewind(lightning.Callback):
    """Tells the sampler which epoch comes next."""

    def __init__(self, sampler: StepSampler) -> None:
        self._sampler = sampler

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._sampler.next_step = trainer.global_step


def _channel_statistics(images: ImageSet) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel in [0, 1], from at most 2,000 images spread over the set."""
    rows = np.linspace(0, len(images) - 1, min(len(images), 2000)).astype(np.int64)
    sample = images.images[rows].astype(np.float32) / 255
    mean, std = sample.mean(axis=(0, 2, 3), dtype=np.float64), sample.std(axis=(0, 2, 3), dtype=np.float64)
    return mean.tolist(), np.maximum(std, 1e-3).tolist()


def _peek(checkpoint: Any) -> dict[str, Any]:
    try:
        content: dict[str, Any] = torch.load(checkpoint, map_location="cpu", weights_only=False)
        return content
    except Exception as error:
        raise RunError(
            f"{checkpoint} cannot be read ({type(error).__name__}): restore it from an epoch-*.ckpt"
        ) from error


class _quiet_lightning:  # noqa: N801 - reads as a statement
    """Lightning's hints are about its own API, not about what a user of pairsift can set."""

    def __enter__(self) -> None:
        self._loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
        self._levels = [logger.level for logger in self._loggers]
        for logger in self._loggers:
            logger.setLevel(logging.ERROR)
        self._warnings = warnings.catch_warnings()
        self._warnings.__enter__()
        for pattern in (
            ".*does not have many workers.*",
            ".*ended before the epoch ended.*",
            ".*`_ResultCollection`.*",
            ".*isinstance\\(treespec.*",
            ".*Grad strides do not match.*",
        ):
            warnings.filterwarnings("ignore", pattern)

    def __exit__(self, *error: object) -> None:
        self._warnings.__exit__(None, None, None)
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)
