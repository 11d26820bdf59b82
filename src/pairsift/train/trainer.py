"""The Lightning trainer of a run: device, callbacks, and the loop from the last checkpoint to the last epoch."""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import logging
import math
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from lightning.pytorch.strategies import DDPStrategy
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pairsift._base.checks import first_line
from pairsift._base.files import replacing
from pairsift._base.process import Interrupted, first_process
from pairsift.data import ImageSet
from pairsift.train.config import ConfigError, TrainConfig
from pairsift.train.data import Batch, StepSampler, batch_loader, order_of
from pairsift.train.module import ContrastiveModule
from pairsift.train.run import Run, RunError, check_fits, read_checkpoint, with_current_names

METRICS = (
    "epoch", "step", "loss", "lr", "flagged", "different", "different_base", "estimated", "within_class",
    "images_per_second", "seconds",
)  # fmt: skip
# Texts of errors that a lost connection between processes causes. gloo does not always name itself.
_LOST = ("gloo", "NCCL", "TCPStore", "pair closure", "another process did not answer")
# Width of a log, where nothing tells another.
_COLUMNS = 80
_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
# Torch's names of processors without bf16 arithmetic, where torch emulates it.
_EMULATES_BF16 = ("NO AVX", "AVX2")


def fit(
    module: ContrastiveModule, images: ImageSet, run: Run, device_kind: str, say: Callable[[str], None]
) -> list[dict[str, Any]]:
    """Train a module by its configuration. A resumed run starts from its last checkpoint.

    Args:
        module: the module to train. It keeps the weights of the last step.
        images: the training images.
        run: the run directory for checkpoints and metrics.
        device_kind: see `accelerator`.
        say: gets a line with the step at which a resumed run continues.

    Returns:
        Rows of ``metrics.csv``, with those before a resumption.

    Raises:
        RunError: the checkpoint cannot be read or belongs to another encoder, or another process was lost.
        NonFiniteLossError: the loss diverged.
        Interrupted: Ctrl-C stopped the run.
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
    # The progress line reads the metrics of the epoch, so it comes after them. Checkpoints come last and hold both.
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
            module.load_state_dict(with_current_names(earlier["state_dict"]))
            metrics.load_state_dict(earlier["callbacks"]["Metrics"])
    if config.processes > 1 and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()  # later work is not shared
    return metrics.rows


def accelerator(config: TrainConfig) -> str:
    """Lightning's name of the kind of device that the configuration asks for.

    Raises:
        ConfigError: the device is missing, there are too few, or it lacks the precision.

    Warns:
        UserWarning: bf16 on a processor that emulates it.
    """
    wanted = config.device
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: cuda is not available here; use cpu or auto")
    if wanted == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device: mps is not available here; use cpu or auto")
    if wanted == "auto":
        wanted = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if config.precision == "fp16" and wanted == "cpu":
        raise ConfigError("precision: fp16 needs a GPU, got device cpu; use bf16, which needs no loss scaling")
    slow = wanted == "cpu" and torch.backends.cpu.get_cpu_capability() in _EMULATES_BF16
    if config.precision == "bf16" and slow and first_process():
        warnings.warn(
            "precision: this processor has no bf16 and emulates it, many times slower than fp32; use fp32", stacklevel=2
        )
    if wanted == "cuda" and config.devices > torch.cuda.device_count():
        raise ConfigError(f"devices: {config.devices} asked for, but there are {torch.cuda.device_count()} GPUs here")
    if wanted == "mps" and config.processes > 1:
        raise ConfigError(f"devices: mps has one device, got devices={config.devices}, nodes={config.nodes}")
    return "gpu" if wanted == "cuda" else wanted


class Checkpoints(Callback):
    """Writes ``last.ckpt`` after every epoch and on interrupts, and keeps the checkpoints of some epochs.

    A checkpoint is renamed into its place, so a crash leaves the previous one. Weights that are not finite are never
    written. If the disk is full, training continues with a warning and the epoch is not kept.

    Args:
        run: the run directory.
        every: keep a checkpoint every so many epochs; 0 keeps none.
    """

    def __init__(self, run: Run, every: int) -> None:
        self._run, self._every = run, every
        self._stop = False
        self._previous: dict[signal.Signals, Any] = {}

    @contextmanager
    def catching_interrupts(self) -> Iterator[None]:
        """Turn the first Ctrl-C into a stop after the current step. The second one acts at once."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        self._install_handler()
        try:
            yield
        finally:
            self._restore_handlers()

    def _install_handler(self) -> None:
        def ask_to_stop(number: int, frame: Any) -> None:
            self._stop = True
            self._restore_handlers()

        for number in self._previous:
            signal.signal(number, ask_to_stop)

    def _restore_handlers(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def on_train_start(self, *_: Any) -> None:
        # Lightning's handler of SIGTERM notifies the other processes, and waits for ever during a shared step.
        if not self._stop:
            self._install_handler()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if self._stops(trainer) and not trainer.is_last_batch:  # otherwise the end of the epoch saves and stops
            self._save(trainer, self._run.last_checkpoint)
            raise Interrupted(f"stopped after step {trainer.global_step:,}")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        # The kept checkpoint comes first. A run that is killed in between repeats the epoch and keeps it then.
        if self._every and epoch % self._every == 0:
            try:
                self._save(trainer, self._run.checkpoints / f"epoch-{epoch:04d}.ckpt")
            except OSError as error:
                warnings.warn(f"the checkpoint of epoch {epoch} was not kept: {error}", stacklevel=1)
        self._save(trainer, self._run.last_checkpoint)
        if self._stops(trainer) and epoch < (trainer.max_epochs or 0):
            raise Interrupted(f"stopped after epoch {epoch}")

    def _stops(self, trainer: lightning.Trainer) -> bool:
        """Whether any process got a signal. All processes must stop after the same step."""
        # The result is not stored, because that would overwrite a signal that arrives meanwhile.
        return trainer.strategy.reduce_boolean_decision(self._stop, all=False)

    @staticmethod
    def _save(trainer: lightning.Trainer, path: Path) -> None:
        assert isinstance(trainer.lightning_module, ContrastiveModule)
        trainer.lightning_module.check_weights()
        if not trainer.is_global_zero:  # it takes part in collecting the state, and writes nothing
            trainer.save_checkpoint(path)
            return
        with replacing(path) as temporary:
            trainer.save_checkpoint(temporary)


class Metrics(Callback):
    """Writes one row per epoch to ``metrics.csv`` and the TensorBoard log, with means over the steps of the epoch.

    Pairs are measured on some steps only, and only those of the first process.

    flagged: share of pairs that are selected. different: share of the selected pairs with different labels (Fig. 4c).
    different_base: the same share over all pairs. estimated: an estimate of `different` without labels. within_class:
    share of a batch's variance within classes, where the method learns from labels.
    """

    def __init__(self, run: Run, images_per_step: int) -> None:
        self._file, self._images_per_step = run.metrics_file, images_per_step
        self._sums: dict[str, list[float]] = {}
        self._seconds = 0.0
        self._steps = 0
        self._started = 0.0
        self.rows: list[dict[str, Any]] = []

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self._sums, "seconds": self._seconds, "steps": self._steps, "rows": self.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sums, self._seconds, self._steps = state["sums"], state["seconds"], state["steps"]
        self.rows = state["rows"]

    def on_train_batch_start(self, *_: Any) -> None:
        self._started = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        assert isinstance(pl_module, ContrastiveModule)
        for name, value in pl_module.measured.items():
            if math.isfinite(value):
                total = self._sums.setdefault(name, [0.0, 0.0])
                total[0] += value
                total[1] += 1
        self._seconds += time.perf_counter() - self._started
        self._steps += 1

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        row: dict[str, Any] = dict.fromkeys(METRICS, "")
        row |= {name: total / count for name, (total, count) in self._sums.items()}
        row |= {
            "epoch": trainer.current_epoch + 1,
            "step": trainer.global_step,
            "lr": trainer.optimizers[0].param_groups[0]["lr"],
            "images_per_second": round(self._steps * self._images_per_step / self._seconds, 1),
            "seconds": round(self._seconds, 2),
        }
        self.rows.append(row)
        self._sums, self._seconds, self._steps = {}, 0.0, 0
        if not trainer.is_global_zero:
            return
        with replacing(self._file) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, METRICS)
            writer.writeheader()
            writer.writerows(self.rows)
        if trainer.logger is not None:
            numbers: dict[str, float] = {
                f"train/{name}": value for name, value in row.items() if value != "" and name not in ("epoch", "step")
            }
            trainer.logger.log_metrics(numbers, step=trainer.global_step)


class Decisions(Callback):
    """Writes ``decisions.jsonl`` with all decisions of ``treatment: auto`` after every epoch."""

    def __init__(self, run: Run) -> None:
        self._file = run.decisions_file

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, ContrastiveModule)
        made = [] if pl_module.policy is None else pl_module.policy.decisions
        if made and trainer.is_global_zero:
            with replacing(self._file) as temporary:
                temporary.write_text("".join(json.dumps(row) + "\n" for row in made))


class ProgressLine(Callback):
    """Shows speed, loss and selected pairs: as a bar on a terminal, and as about ten lines elsewhere."""

    def __init__(self, metrics: Metrics, steps_per_epoch: int, epochs: int, images_per_step: int) -> None:
        self._metrics, self._epochs, self._images_per_step = metrics, epochs, images_per_step
        self._console = Console(stderr=True, markup=False, emoji=False)
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"), console=self._console, disable=not self._console.is_terminal,
        )  # fmt: skip
        self._task = self._bar.add_task("", total=steps_per_epoch * epochs, epoch=0, text="")
        self._seen: dict[str, float] = {}
        self._last = 0.0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._bar.start()
        self._last = time.perf_counter()

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, ContrastiveModule)
        now = time.perf_counter()
        self._seen |= pl_module.measured | {"images_per_second": self._images_per_step / max(now - self._last, 1e-9)}
        self._last = now
        epoch = f"{trainer.current_epoch + 1}/{self._epochs}"
        self._bar.update(self._task, completed=trainer.global_step, epoch=epoch, text=describe(self._seen))

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if not self._console.is_terminal and (epoch % math.ceil(self._epochs / 10) == 0 or epoch == self._epochs):
            row = self._metrics.rows[-1]
            parts = [f"epoch {row['epoch']}/{self._epochs}", *_measured(row)]
            print(_in_columns(parts), file=sys.stderr, flush=True)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        self._bar.stop()


def describe(values: dict[str, Any]) -> str:
    """One line with the measured values."""
    return "  ".join(_measured(values))


def _in_columns(parts: Sequence[str]) -> str:
    """Parts with two spaces between; one that does not fit in the columns of a log begins a further line."""
    lines = [parts[0]]
    for part in parts[1:]:
        if len(lines[-1]) + 2 + len(part) <= _COLUMNS:
            lines[-1] += f"  {part}"
        else:
            lines.append(f"    {part}")
    return "\n".join(lines)


def _measured(values: dict[str, Any]) -> list[str]:
    parts = [f"{values['images_per_second']:,.0f} images/s", f"loss {values['loss']:.3f}"]
    if values.get("flagged", "") != "":
        parts.append(f"flagged {values['flagged']:.1%}")
    estimated = f"{values['estimated']:.1%}" if values.get("estimated", "") != "" else ""
    if values.get("different", "") != "":
        more = f"; estimated: {estimated}" if estimated else ""
        parts.append(
            f"of different classes {values['different']:.1%} (all pairs: {values['different_base']:.1%}{more})"
        )
    elif estimated:
        parts.append(f"estimated to be of different classes {estimated}")
    if values.get("within_class", "") != "":
        parts.append(f"within classes {values['within_class']:.1%} of the variance")
    return parts


@contextmanager
def telling_of_lost_processes(config: TrainConfig) -> Iterator[None]:
    """Turn the error of a broken connection between processes into a RunError that explains it."""
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


def _trainer(config: TrainConfig, run: Run, device_kind: str, callbacks: list[lightning.Callback]) -> lightning.Trainer:
    together = config.processes > 1
    strategy = DDPStrategy(timeout=timedelta(seconds=config.timeout)) if together else "auto"
    return lightning.Trainer(
        accelerator=device_kind, devices=config.devices, num_nodes=config.nodes, use_distributed_sampler=False,
        strategy=strategy, sync_batchnorm=device_kind == "gpu" and together,
        max_epochs=config.epochs, precision=_PRECISION[config.precision],  # type: ignore[arg-type]
        logger=logger_of(config, run), callbacks=callbacks,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        log_every_n_steps=1, default_root_dir=str(run.path),
    )  # fmt: skip


def check_logger(config: TrainConfig) -> None:
    """Refuse a logger whose package is not installed, before any data is loaded.

    Raises:
        ConfigError: the package is missing; the message names it.
    """
    if config.logger in ("wandb", "mlflow") and importlib.util.find_spec(config.logger) is None:
        raise ConfigError(f"logger: {config.logger} is not installed: pip install {config.logger}")


def logger_of(config: TrainConfig, run: Run) -> Logger | bool:
    """Lightning's logger of the run. TensorBoard is left out where it is not installed."""
    if config.logger == "none" or (config.logger == "tensorboard" and not importlib.util.find_spec("tensorboard")):
        return False
    if config.logger == "wandb":
        return WandbLogger(name=run.path.name, save_dir=str(run.path), resume="allow", id=_identity(run))
    if config.logger == "mlflow":
        place = os.environ.get("MLFLOW_TRACKING_URI", f"sqlite:///{run.path.absolute() / 'mlflow.db'}")
        return MLFlowLogger("pairsift", run_name=run.path.name, tracking_uri=place)
    made = CSVLogger if config.logger == "csv" else TensorBoardLogger
    return made(str(run.path), name="", version=config.logger)


def _identity(run: Run) -> str:
    """A name of the run that a resumed run has, too."""
    return hashlib.sha256(str(run.path.absolute()).encode()).hexdigest()[:16]


class _AdvanceSampler(lightning.Callback):
    """Sets the next step of the sampler, so that its next epoch is the next epoch of the run."""

    def __init__(self, sampler: StepSampler) -> None:
        self._sampler = sampler

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        self._sampler.next_step = trainer.global_step


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's hints, which are about its own API."""
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
