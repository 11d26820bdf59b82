"""The steps of a run: Lightning's trainer from the last checkpoint, where there is one, to the last epoch."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy

from pairsift._base.checks import first_line
from pairsift._base.process import first_process
from pairsift.data import ImageSet
from pairsift.train.batches import StepSampler, batch_loader, order_of
from pairsift.train.callbacks import Checkpoints, Decisions, Metrics, ProgressLine
from pairsift.train.checkpoints import check_fits, read_checkpoint
from pairsift.train.config import TrainConfig
from pairsift.train.module import ContrastiveModule
from pairsift.train.run import Run, RunError

# What is said of connections between processes; gloo does not always name itself.
_LOST = ("gloo", "NCCL", "TCPStore", "pair closure", "another process did not answer")
_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}


def fit(
    module: ContrastiveModule, images: ImageSet, run: Run, device_kind: str, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Train a module by its configuration, from the run's last checkpoint where it resumes.

    Args:
        module: what is trained; it is left with the weights of the last step.
        images: the training images.
        run: where checkpoints and metrics are written.
        device_kind: see `accelerator`.
        say: told where a resumed run goes on.

    Returns:
        Rows of ``metrics.csv``, those before a resumption included.

    Raises:
        RunError: the checkpoint cannot be read or is of another encoder, or another process was lost.
        NonFiniteLossError: the loss diverged.
        Interrupted: stopped by Ctrl-C.
    """
    config = module.config
    n, order = order_of(images)
    sampler = StepSampler(n, config.batch_size, config.seed, order)
    total = len(sampler) * config.epochs
    checkpoint = run.last_checkpoint if config.resume and run.last_checkpoint.exists() else None
    if checkpoint is not None:
        earlier = read_checkpoint(checkpoint)
        check_fits(checkpoint, earlier, module.state_dict())
        sampler.next_step = earlier["global_step"]
        say(f"resuming after step {sampler.next_step:,} of {total:,}")
    metrics, checkpoints = Metrics(run, config.batch_size), Checkpoints(run, config.checkpoint_every)
    # The progress line reads the epoch's metrics, so it comes after them; checkpoints come last, to hold both.
    callbacks: list[lightning.Callback] = [metrics]
    if config.progress and first_process():
        callbacks.append(ProgressLine(metrics, len(sampler), config.epochs, config.batch_size))
    callbacks += [_AdvanceSampler(sampler), Decisions(run), checkpoints]

    with _quiet_lightning(), checkpoints.catching_interrupts(), telling_of_lost_processes(config):
        trainer = _trainer(config, run, device_kind, callbacks)
        sampler.rank, sampler.processes = trainer.global_rank, trainer.world_size
        if sampler.next_step < total:
            trainer.fit(module, batch_loader(images, sampler), ckpt_path=checkpoint, weights_only=True)
        elif checkpoint is not None:
            module.load_state_dict(earlier["state_dict"])
            metrics.load_state_dict(earlier["callbacks"]["Metrics"])
    if config.processes > 1 and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # what comes after is no longer done together
    return metrics.rows


def _trainer(config: TrainConfig, run: Run, device_kind: str, callbacks: list[lightning.Callback]) -> lightning.Trainer:
    together = config.processes > 1
    strategy = DDPStrategy(timeout=timedelta(seconds=config.timeout)) if together else "auto"
    return lightning.Trainer(
        accelerator=device_kind, devices=config.devices, num_nodes=config.nodes, use_distributed_sampler=False,
        strategy=strategy, sync_batchnorm=device_kind == "gpu" and together,
        max_epochs=config.epochs, precision=_PRECISION[config.precision],  # type: ignore[arg-type]
        logger=_tensorboard(run), callbacks=callbacks,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        log_every_n_steps=1, default_root_dir=str(run.path),
    )  # fmt: skip


def _tensorboard(run: Run) -> TensorBoardLogger | bool:
    """The run's TensorBoard log; False where TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        return False
    return TensorBoardLogger(str(run.path), name="", version="tensorboard")


class _AdvanceSampler(lightning.Callback):
    """Tells the sampler which step comes next, so that its next epoch is the run's next one."""

    def __init__(self, sampler: StepSampler) -> None:
        self._sampler = sampler

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._sampler.next_step = trainer.global_step


@contextmanager
def telling_of_lost_processes(config: TrainConfig) -> Iterator[None]:
    """Says in words what a broken connection between processes means."""
    try:
        yield
    except RuntimeError as error:
        known = isinstance(error, torch.distributed.DistError)
        known = known or any(words in str(error) for words in _LOST)
        if config.processes == 1 or not known:
            raise
        cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
        raise RunError(
            f"one of {config.processes} processes ended or lost its connection, or did not answer in "
            f"{config.timeout:g} s, so all stopped: look for its message; "
            f"`resume=True` continues {config.run_dir} from its last checkpoint "
            f"({first_line(cause)})"
        ) from error


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Lightning's hints are about its own API, not about what a user of pairsift can set."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric", "lightning")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            for pattern in (
                ".*does not have many workers.*",
                ".*ended before the epoch ended.*",
                ".*`_ResultCollection`.*",
                ".*isinstance\\(treespec.*",
                ".*Grad strides do not match.*",
            ):
                warnings.filterwarnings("ignore", pattern)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
