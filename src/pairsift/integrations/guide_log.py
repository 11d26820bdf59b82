"""What a guide mask did in every epoch, in the log of sentence-transformers' trainer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import astuple
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from pairsift.pairs import GuideMask, GuideReport

_logger = logging.getLogger(__name__)


class GuideMaskLog(TrainerCallback):
    """Logs a mask's counts once an epoch: `trainer.add_callback(GuideMaskLog(mask, trainer.log))`.

    Each line holds `guide_mask_per_row`, the false negatives that the mask took an anchor to have in its batch (the
    estimate, where no labels are known), `guide_mask_rows_off`, the share of anchors that the cap left alone, and,
    where the mask was fitted with labels, `guide_mask_precision` and `guide_mask_recall`. A mask that is off for the
    run says so before the first step. With several processes, the counts are those of the main one's anchors.

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
        """Says what the mask does, as a warning where it is off."""
        _logger.log(logging.WARNING if self.mask.off_because else logging.INFO, "%s", self.mask.describe())
        self._before = self.mask.report()

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Logs the counts of the epoch."""
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
