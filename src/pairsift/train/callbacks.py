"""What happens around the training steps: checkpoints and interrupts, metrics, progress."""

from __future__ import annotations

import csv
import json
import math
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pairsift._base.files import replacing
from pairsift._base.process import Interrupted
from pairsift.train.batches import Batch
from pairsift.train.module import ContrastiveModule
from pairsift.train.run import Run

METRICS = (
    "epoch", "step", "loss", "lr", "flagged", "different", "different_base", "estimated", "within_class",
    "images_per_second", "seconds",
)  # fmt: skip


class Checkpoints(Callback):
    """Writes ``last.ckpt`` after every epoch and on interrupts, and keeps some epochs where asked.

    A checkpoint takes its place by renaming, so a crash leaves the one before it; weights that are not finite are
    never written. Kept epochs are best effort: if the disk is full, training goes on with a warning.
    """

    def __init__(self, run: Run, every: int) -> None:
        self._run, self._every = run, every
        self._stop = False
        self._previous: dict[signal.Signals, Any] = {}

    @contextmanager
    def catching_interrupts(self) -> Iterator[None]:
        """Turn the first Ctrl-C into a stop after the current step; the second one acts at once."""
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
        # Lightning adds to SIGTERM a word to the other processes, which waits for ever if they are in a step together.
        if not self._stop:
            self._install_handler()

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:
        if self._stops(trainer) and not trainer.is_last_batch:  # else the epoch's own end saves and stops
            self._save(trainer, self._run.last_checkpoint)
            raise Interrupted(f"stopped after step {trainer.global_step:,}")

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        # What is kept comes first: a run that is killed in between does the epoch again, and keeps it then.
        if self._every and epoch % self._every == 0:
            try:
                self._save(trainer, self._run.checkpoints / f"epoch-{epoch:04d}.ckpt")
            except OSError as error:
                warnings.warn(f"the checkpoint of epoch {epoch} was not kept: {error}", stacklevel=1)
        self._save(trainer, self._run.last_checkpoint)
        if self._stops(trainer) and epoch < (trainer.max_epochs or 0):
            raise Interrupted(f"stopped after epoch {epoch}")

    def _stops(self, trainer: lightning.Trainer) -> bool:
        """Whether any process was asked to stop: they are asked at different times, and must stop after one step."""
        # What was asked for is not written back: a signal that arrives meanwhile would be forgotten.
        return trainer.strategy.reduce_boolean_decision(self._stop, all=False)

    @staticmethod
    def _save(trainer: lightning.Trainer, path: Path) -> None:
        assert isinstance(trainer.lightning_module, ContrastiveModule)
        trainer.lightning_module.check_weights()
        if not trainer.is_global_zero:  # takes part, but does not write
            trainer.save_checkpoint(path)
            return
        with replacing(path) as temporary:
            trainer.save_checkpoint(temporary)


class Metrics(Callback):
    """One row an epoch into ``metrics.csv`` and the TensorBoard log, if any: means over the epoch's steps.

    Pairs are looked at on some steps only, and of several processes' pairs the first one's are.

    flagged: share of pairs in the band; different: share of those truly of different classes (Fig. 4c), where labels
    exist; different_base: the same over all pairs; estimated: `different` as the run itself judges, without labels;
    within_class: share of a batch's variance that lies within classes, where labels are learned from.
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
    """Writes ``decisions.jsonl`` after every epoch: what ``treatment: auto`` decided, whole each time, as resumed runs
    want it."""

    def __init__(self, run: Run) -> None:
        self._file = run.decisions_file

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        assert isinstance(pl_module, ContrastiveModule)
        made = [] if pl_module.evidence is None else pl_module.evidence.decisions
        if made and trainer.is_global_zero:
            with replacing(self._file) as temporary:
                temporary.write_text("".join(json.dumps(row) + "\n" for row in made))


class ProgressLine(Callback):
    """A bar on terminals, some ten lines elsewhere: images a second, loss, flagged and truly different pairs."""

    def __init__(self, metrics: Metrics, steps_per_epoch: int, epochs: int, images_per_step: int) -> None:
        self._metrics, self._epochs, self._images_per_step = metrics, epochs, images_per_step
        self._console = Console(stderr=True)
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
            print(f"epoch {row['epoch']}/{self._epochs}  {describe(row)}", file=sys.stderr, flush=True)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        self._bar.stop()


def describe(values: dict[str, Any]) -> str:
    """Measured values in a line of words."""
    parts = [f"{values['images_per_second']:,.0f} images/s", f"loss {values['loss']:.3f}"]
    if values.get("flagged", "") != "":
        parts.append(f"flagged {values['flagged']:.1%}")
    if values.get("different", "") != "":
        parts.append(f"of different classes {values['different']:.1%} (base {values['different_base']:.1%})")
    if values.get("estimated", "") != "":
        parts.append(f"estimated {values['estimated']:.1%}")
    if values.get("within_class", "") != "":
        parts.append(f"within classes {values['within_class']:.1%} of the variance")
    return "  ".join(parts)
