"""Logs the counts of a guide mask in every epoch of sentence-transformers' trainer, and keeps them in checkpoints."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pairsift._base.files import write_json
from pairsift.pairs import GuideMask, GuideReport

_logger = logging.getLogger(__name__)

# The counts in a checkpoint's folder.
_FILE = "guide_mask.json"


class GuideMaskLog(TrainerCallback):
    """Logs a mask's counts once an epoch: `trainer.add_callback(GuideMaskLog(mask, trainer.log))`.

    Each line holds `guide_mask_per_row`, the false negatives that the mask found for an anchor in its batch, and
    `guide_mask_rows_off`, the share of anchors that the cap left alone. Where the mask was fitted with labels, it also
    holds `guide_mask_precision` and `guide_mask_recall`. A mask that is off for the run gives a warning before the
    first step. With several processes, the counts are those of the main one's anchors.

    The counts are saved with every checkpoint. A run that resumes from one goes on counting, so that `mask.report()`
    is the whole run's. Evaluation is not counted.

    Args:
        mask: of the loss that is trained.
        log: takes a dictionary of numbers, `trainer.log`.
    """

    def __init__(self, mask: GuideMask, log: Callable[[dict[str, float]], Any]) -> None:
        self.mask, self.log = mask, log
        self._before = mask.report()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log a description of the mask, as a warning where it is off, and read the counts of a run that resumes."""
        _logger.log(logging.WARNING if self.mask.off_because else logging.INFO, "%s", self.mask.describe())
        file = self._file(args, state)
        if state.global_step and file.exists():
            saved = json.loads(file.read_text())
            self.mask.set_state({"counts": torch.tensor(saved["counts"])})
            self._before = GuideReport(*saved["before"])
            return
        if state.global_step:
            _logger.warning("%s is missing: the guide mask counts from the checkpoint on", file)
        self._before = self.mask.report()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Save the counts with a checkpoint."""
        file = self._file(args, state)
        if state.is_world_process_zero and file.parent.is_dir():
            write_json(file, {"counts": astuple(self.mask.report()), "before": astuple(self._before)})

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Log the counts of the epoch."""
        now = self.mask.report()
        epoch = GuideReport(*(new - old for new, old in zip(astuple(now), astuple(self._before), strict=True)))
        self._before = now
        if not epoch.rows:
            return
        line = {
            "guide_mask_per_row": (epoch.guide + epoch.identity) / epoch.rows,
            "guide_mask_rows_off": epoch.rows_off / epoch.rows,
        }
        if epoch.masked:
            line["guide_mask_precision"] = epoch.precision
        if epoch.same:
            line["guide_mask_recall"] = epoch.recall
        self.log(line)

    @staticmethod
    def _file(args: TrainingArguments, state: TrainerState) -> Path:
        return Path(str(args.output_dir), f"checkpoint-{state.global_step}", _FILE)
